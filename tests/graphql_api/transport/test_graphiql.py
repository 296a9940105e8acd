"""The GraphiQL page, and the ways that lead browsers to it."""

import http.client
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ringback.graphql_api.transport import graphiql
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

ROOT = Path(__file__).parents[3]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
OTHERS: list[dict[str, str]] = [{}, {"Accept": "*/*"}, {"Accept": "application/json"}]


def test_the_static_folder_is_where_make_web_builds_the_page() -> None:
    assert graphiql.STATIC.resolve() == ROOT / "graphql_api" / "static"
    assert "WEB := graphql_api/static/index.html" in (ROOT / "Makefile").read_text()


def test_the_root_leads_browsers_to_graphiql(program: Program) -> None:
    status, headers = first_response(program, "/", BROWSER)

    assert (status, headers["location"], headers["vary"]) == (307, "/graphql", "Accept")
    assert_security_headers(headers)


@pytest.mark.parametrize("path", ["/nothing", "/graphql/static/nothing.js"])
def test_a_browser_gets_a_page_that_leads_on_from_a_wrong_address(program: Program, path: str) -> None:
    status, headers, body = program.request("GET", path, headers=BROWSER)

    assert (status, headers["content-type"], headers["vary"]) == (404, "text/html; charset=utf-8", "Accept")
    assert b'<a href="/graphql">' in body
    assert_security_headers(headers)


@pytest.mark.parametrize("accept", OTHERS)
@pytest.mark.parametrize("path", ["/", "/nothing", "/graphql/static/nothing.js"])
def test_other_clients_get_plain_text(program: Program, path: str, accept: dict[str, str]) -> None:
    status, headers, body = program.request("GET", path, headers=accept)

    assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert body == b"Not found. The GraphQL API and GraphiQL are at /graphql.\n"


def test_the_favicon_is_the_icon_of_the_page(program: Program) -> None:
    if not (graphiql.STATIC / "icon.svg").is_file():
        pytest.skip("GraphiQL is not built: make web")

    status, headers, body = program.request("GET", "/favicon.ico")

    assert (status, headers["content-type"]) == (200, "image/svg+xml")
    assert body == (ROOT / "web" / "src" / "icon.svg").read_bytes()
    assert_security_headers(headers)
    assert b'<link rel="icon"' in program.request("GET", "/graphql", headers=BROWSER)[2]


async def test_without_a_built_page_there_is_no_favicon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(graphiql, "STATIC", tmp_path)
    request = Request({"type": "http", "method": "GET", "path": "/favicon.ico", "headers": []})

    with pytest.raises(HTTPException) as refusal:
        await graphiql.Assets().favicon(request)

    assert refusal.value.status_code == 404


def first_response(program: Program, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Return status and headers of a GET request; redirects are not followed."""
    with closing(http.client.HTTPConnection(urlsplit(program.url).netloc, timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}


def assert_security_headers(headers: Any) -> None:
    for name, value in graphiql.HEADERS.items():
        assert headers[name.lower()] == value, name
