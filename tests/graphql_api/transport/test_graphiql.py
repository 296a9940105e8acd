"""The GraphiQL page, and the ways that lead browsers to it."""

import http.client
import re
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
    assert_page_headers(headers)


@pytest.mark.parametrize("path", ["/nothing", "/graphql/static/nothing.js"])
def test_a_browser_gets_a_page_that_leads_on_from_a_wrong_address(program: Program, path: str) -> None:
    status, headers, body = program.request("GET", path, headers=BROWSER)

    assert (status, headers["content-type"], headers["vary"]) == (404, "text/html; charset=utf-8", "Accept")
    assert b'<a href="/graphql">' in body
    assert_page_headers(headers)


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
    assert headers["content-security-policy"].startswith("default-src 'none'; base-uri 'none'")
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-cache")
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


def assert_page_headers(headers: Any) -> None:
    directives = parse_policy(headers["content-security-policy"])
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-cache")
    assert (directives["default-src"], directives["frame-ancestors"]) == ("'none'", "'none'")
    assert "'self'" not in headers["content-security-policy"]


def parse_policy(policy: str) -> dict[str, str]:
    """Return the sources of a Content-Security-Policy by directive."""
    return dict(directive.strip().split(" ", 1) for directive in policy.split(";"))


#: The source of scripts where the policy cannot name the host.
NONCE = "'nonce-abc'"


def page_policy(host: str | None, public_url: str = "") -> dict[str, str]:
    headers = []
    if host is not None:
        headers.append((b"host", host.encode("latin-1")))
    answered = graphiql.Pages(public_url).headers({"type": "http", "headers": headers}, NONCE)
    return parse_policy(answered["Content-Security-Policy"])


def test_the_sources_of_the_page_are_the_paths_of_its_files_and_of_the_api() -> None:
    assert page_policy("127.0.0.1:8000") == {
        "default-src": "'none'",
        "script-src": "127.0.0.1:8000/graphql/static/",
        "style-src": "127.0.0.1:8000/graphql/static/ 'unsafe-inline'",
        "font-src": "127.0.0.1:8000/graphql/static/",
        "img-src": "127.0.0.1:8000/graphql/static/ data:",
        "connect-src": "127.0.0.1:8000/graphql ws://127.0.0.1:8000/graphql wss://127.0.0.1:8000/graphql",
        "worker-src": "127.0.0.1:8000/graphql/static/",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    ("host", "public_url", "script_sources"),
    [
        # A source without a port is the port of the scheme, not any port.
        ("hooks.example", "", "hooks.example/graphql/static/"),
        ("hooks.example", "https://hooks.example", "hooks.example/graphql/static/"),
        # A proxy may put its own name for the server in the place of the host.
        ("up:80", "https://a.example:8443/x", "a.example:8443/graphql/static/ up:80/graphql/static/"),
        # A policy cannot name these.
        ("[::1]:8000", "", NONCE),
        ("[::1]:8000", "https://hooks.example", NONCE),
        (None, "", NONCE),
        ("", "", NONCE),
        ("my_host:80", "", NONCE),
        ("x" * 300, "", NONCE),
        # Nor can a request write its own policy.
        ("evil.example; script-src *", "", NONCE),
        ("*", "", NONCE),
        ("a.example/x", "", NONCE),
        ("https:", "", NONCE),
        ("a.example:80 b.example", "", NONCE),
        ("a.example:*", "", NONCE),
        ("a.example,b", "", NONCE),
    ],
)
def test_the_policy_names_the_host_of_the_request(host: str | None, public_url: str, script_sources: str) -> None:
    policy = page_policy(host, public_url)

    assert policy["script-src"] == script_sources
    assert len(policy) == 10


def test_each_page_at_a_host_that_no_policy_can_name_has_its_own_nonce(program: Program) -> None:
    if not (graphiql.STATIC / "index.html").is_file():
        pytest.skip("GraphiQL is not built: make web")
    nonces = set()
    for _ in range(2):
        _, headers, page = program.request("GET", "/graphql", headers={**BROWSER, "Host": "a_b:80"})
        source = parse_policy(headers["content-security-policy"])["script-src"]
        assert re.fullmatch("'nonce-[A-Za-z0-9_-]{22}'", source)
        assert f'<script nonce="{source[7:-1]}" type="module"' in page.decode()
        nonces.add(source)

    assert len(nonces) == 2


def test_a_page_without_scripts_allows_none_at_such_a_host(program: Program) -> None:
    _, headers, _ = program.request("GET", "/nothing", headers={**BROWSER, "Host": "a_b:80"})

    assert parse_policy(headers["content-security-policy"])["script-src"] == "'none'"
