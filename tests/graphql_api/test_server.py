"""The server process: errors outside of operations, its first output, and its limit of open files."""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tortoise.exceptions import OperationalError

from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.server import _AdminToken, _print_start, serve
from ringback.graphql_api.transport import graphiql
from ringback.graphql_api.transport.http import GraphQLEndpoint
from ringback.graphql_api.transport.streaming import Streams
from ringback.graphql_api.worker_process import work
from ringback.models import bootstrap
from ringback.models.enums import Role
from ringback.models.services import api_tokens
from ringback.models.settings import Settings, load_settings
from tests.support.api import Api
from tests.support.servers import free_port


class FailingEngine:
    """An engine whose database fails."""

    limits = OperationLimits()

    async def operation(self, *_: Any) -> None:
        raise OperationalError("disk I/O error")


async def test_a_failing_database_is_a_masked_error(api: Api) -> None:
    _, secret = await api_tokens.create_token("CI", Role.ADMIN)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"query": "{ viewer { permissions } }"}', "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {secret}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": headers}
    endpoint = GraphQLEndpoint(FailingEngine(), api.services, Streams())  # type: ignore[arg-type]
    with capture_logs() as logged:
        await endpoint(scope, receive, send)
    start, body = sent
    assert start["status"] == 500
    (error,) = json.loads(body["body"])["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert "disk" not in error["message"]
    assert [line["error_id"] for line in logged] == [error["extensions"]["id"]]


@pytest.mark.parametrize("start", [lambda settings: serve(settings, deliver=False), work], ids=["serve", "work"])
async def test_postgres_ends_idle_transactions_of_servers_and_workers(
    start: Callable[[Settings], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opened(Exception):
        pass

    def open_database(settings: Settings, *, idle_transaction_seconds: int) -> None:
        assert idle_transaction_seconds == 30
        raise Opened

    monkeypatch.setattr(bootstrap, "open_database", open_database)
    with pytest.raises(Opened):
        await start(load_settings(data_dir=tmp_path, port=free_port()))


def test_the_program_raises_its_limit_of_open_files() -> None:
    script = """
import resource
from ringback.graphql_api.process import run
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
async def main():
    expected = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == expected)
run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_without_the_page_there_is_no_link_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(graphiql, "STATIC", tmp_path)

    _print_start("http://localhost:8000", _AdminToken(source=".ringback/admin-token", secret="s3cr3t"))

    assert capsys.readouterr().out.splitlines()[1:] == [
        "GraphiQL is not built. To build it, run: make web",
        "GraphiQL asks for a token. The admin token is in .ringback/admin-token.",
    ]
