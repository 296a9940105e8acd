"""Third-party clients of the started program: Python's `gql` and npm's `graphql-ws`."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from websockets.exceptions import ConnectionClosedError

from ringback.models.delivery_log import Position
from tests.support.firing import (
    FIRE,
    KINDS,
    check_a_test_fire,
    fire,
    of_another_database,
    oldest_cursor,
    webhook_to_inbox,
)
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

CLIENTS = Path(__file__).parent.parent / "clients"
OPERATOR = {"name": "RINGBACK_ADMIN_TOKEN", "role": "ADMIN"}
VIEWER = "{ viewer { token { name role } } }"
LOG = """
subscription DeliveryLog($after: String) {
  deliveryLog(after: $after) { cursor kind event { id } attempt { number outcome statusCode } }
}
"""


def over_http(program: Program, token: str | None = None) -> Client:
    transport = AIOHTTPTransport(
        program.url + "/graphql",
        headers={"Authorization": f"Bearer {token or program.token}"},
        timeout=int(PATIENCE_SECONDS),
    )
    return Client(transport=transport, fetch_schema_from_transport=True)


def over_websocket(program: Program, init_payload: dict[str, str] | None = None) -> Client:
    transport = WebsocketsTransport(
        socket_url(program),
        init_payload={"Authorization": f"Bearer {program.token}"} if init_payload is None else init_payload,
        subprotocols=["graphql-transport-ws"],
    )
    return Client(transport=transport)


def socket_url(program: Program) -> str:
    return program.url.replace("http", "ws", 1) + "/graphql"


def follow(session: Any, after: str | None = None) -> Any:
    """Subscribe to the live log."""
    document = gql(LOG)
    document.variable_values = {"after": after}
    return session.subscribe(document)


async def first(stream: Any, count: int) -> list[Any]:
    """Return the next `count` entries of a subscription."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [(await anext(stream))["deliveryLog"] for _ in range(count)]


async def test_gql_over_http(program: Program) -> None:
    webhook_id = await asyncio.to_thread(webhook_to_inbox, program)
    # The client first fetches the schema by introspection, and validates each document with it.
    async with over_http(program) as session:
        assert await session.execute(gql(VIEWER)) == {"viewer": {"token": OPERATOR}}
        document = gql(FIRE)
        document.variable_values = {"id": webhook_id}
        fired = (await session.execute(document))["testFireWebhook"]
        assert fired["errors"] == []
        assert re.fullmatch(r"evt_\w{26}", fired["event"]["id"])
        assert fired["event"]["isTest"] is True

        with pytest.raises(TransportQueryError) as malformed:
            await session.execute(gql('{ event(id: "nonsense") { id } }'))
    assert malformed.value.errors is not None
    (error,) = malformed.value.errors
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}


async def test_gql_over_http_with_a_wrong_token(program: Program) -> None:
    async with Client(transport=over_http(program, "rbk_wrong").transport) as session:
        with pytest.raises(TransportQueryError) as refused:
            await session.execute(gql(VIEWER))
    assert refused.value.data is None
    assert refused.value.errors is not None
    (error,) = refused.value.errors
    assert error["extensions"] == {"code": "UNAUTHENTICATED"}


async def test_gql_over_websocket(program: Program) -> None:
    webhook_id = await asyncio.to_thread(webhook_to_inbox, program)
    # Start from a cursor: a client cannot tell when a subscription without one has started.
    start = await asyncio.to_thread(oldest_cursor, program)
    async with over_websocket(program) as session:
        stream = follow(session, start)
        waiting = asyncio.ensure_future(first(stream, len(KINDS)))
        assert await session.execute(gql(VIEWER)) == {"viewer": {"token": OPERATOR}}
        event_id = await asyncio.to_thread(fire, program, webhook_id)
        live = await waiting
        check_a_test_fire(live, event_id)

        # The subscription goes on during a mutation on the same connection.
        document = gql(FIRE)
        document.variable_values = {"id": webhook_id}
        second = (await session.execute(document))["testFireWebhook"]["event"]["id"]
        check_a_test_fire(await first(stream, len(KINDS)), second)
        await stream.aclose()


async def test_gql_resumes_without_gap_or_repetition(program: Program) -> None:
    webhook_id = await asyncio.to_thread(webhook_to_inbox, program)
    start = await asyncio.to_thread(oldest_cursor, program)
    async with over_websocket(program) as session:
        stream = follow(session, start)
        waiting = asyncio.ensure_future(first(stream, 1))
        seen_event = await asyncio.to_thread(fire, program, webhook_id)
        seen = await waiting
        await stream.aclose()
    # The connection is closed, so the next entries are missed.
    missed_event = await asyncio.to_thread(fire, program, webhook_id)
    await asyncio.to_thread(
        program.wait_until,
        lambda: (
            {event["status"] for event in program.query("{ events { nodes { status } } }")["events"]["nodes"]}
            == {"SUCCEEDED"}
        ),
        "both deliveries",
    )
    async with over_websocket(program) as session:
        stream = follow(session, seen[-1]["cursor"])
        rest = await first(stream, 2 * len(KINDS) - 1)
        live_event = await asyncio.to_thread(fire, program, webhook_id)
        check_a_test_fire(await first(stream, len(KINDS)), live_event)
        await stream.aclose()
    check_a_test_fire(seen + [entry for entry in rest if entry["event"]["id"] == seen_event], seen_event)
    check_a_test_fire([entry for entry in rest if entry["event"]["id"] == missed_event], missed_event)


@pytest.mark.parametrize("after", ["garbage", of_another_database()], ids=["garbage", "another-database"])
async def test_gql_gets_the_code_of_a_refused_cursor(program: Program, after: str) -> None:
    async with over_websocket(program) as session:
        with pytest.raises(TransportQueryError) as refused:
            await first(follow(session, after), 1)
        assert await session.execute(gql(VIEWER)) == {"viewer": {"token": OPERATOR}}, "the connection stays open"
        assert refused.value.errors is not None
        (error,) = refused.value.errors
        if after == "garbage":
            assert error["extensions"] == {"code": "BAD_USER_INPUT"}
            return
        oldest = error["extensions"].pop("oldestCursor")
        assert error["extensions"] == {"code": "CURSOR_EXPIRED"}

        # The client can resume from the error's oldestCursor.
        webhook_id = await asyncio.to_thread(webhook_to_inbox, program)
        event_id = await asyncio.to_thread(fire, program, webhook_id)
        stream = follow(session, oldest)
        check_a_test_fire(await first(stream, len(KINDS)), event_id)
        await stream.aclose()


@pytest.mark.parametrize("payload", [{}, {"Authorization": "Bearer rbk_wrong"}], ids=["none", "wrong"])
async def test_gql_over_websocket_without_a_valid_token(program: Program, payload: dict[str, str]) -> None:
    with pytest.raises(TransportConnectionFailed) as refused:
        async with over_websocket(program, payload):
            pass
    closed = refused.value.__cause__
    assert isinstance(closed, ConnectionClosedError)
    assert closed.rcvd is not None
    assert (closed.rcvd.code, closed.rcvd.reason) == (4403, "Forbidden")


@contextmanager
def graphql_ws(
    program: Program, count: int, after: str | None = None, token: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run live_log.mjs under node while the block runs. It prints lines to stdout."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is missing: apt-get install nodejs npm")
    if not (CLIENTS / "node_modules/graphql-ws").is_dir():
        pytest.skip("the npm clients are not installed: make clients")
    command = [node, str(CLIENTS / "live_log.mjs"), socket_url(program), str(count), *([after] if after else [])]
    env = {name: value for name, value in os.environ.items() if name != "RINGBACK_TOKEN"}
    with subprocess.Popen(
        command, env=env | ({"RINGBACK_TOKEN": token} if token else {}), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def remaining_lines(process: subprocess.Popen[str]) -> list[Any]:
    """Return all lines that the process still prints, once it has ended."""
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def test_graphql_ws_follows_and_resumes(program: Program) -> None:
    webhook_id = webhook_to_inbox(program)
    with graphql_ws(program, 1, oldest_cursor(program), program.token) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"listening": OPERATOR}
        seen_event = fire(program, webhook_id)
        (seen,) = remaining_lines(process)
    missed_event = fire(program, webhook_id)
    with graphql_ws(program, 2 * len(KINDS) - 1, seen["entry"]["cursor"], program.token) as process:
        rest = [line["entry"] for line in remaining_lines(process) if "entry" in line]
    check_a_test_fire([seen["entry"], *(entry for entry in rest if entry["event"]["id"] == seen_event)], seen_event)
    check_a_test_fire([entry for entry in rest if entry["event"]["id"] == missed_event], missed_event)


def test_graphql_ws_gets_the_code_of_a_refused_cursor(own_program: Program) -> None:
    with graphql_ws(own_program, 1, "garbage", own_program.token) as process:
        (malformed,) = [line["errors"] for line in remaining_lines(process) if "listening" not in line]
    assert [error["extensions"] for error in malformed] == [{"code": "BAD_USER_INPUT"}]
    with graphql_ws(own_program, 1, of_another_database(), own_program.token) as process:
        (expired,) = [line["errors"] for line in remaining_lines(process) if "listening" not in line]
    (extensions,) = [error["extensions"] for error in expired]
    assert extensions["code"] == "CURSOR_EXPIRED"
    assert Position.parse(extensions["oldestCursor"]).row == 0


@pytest.mark.parametrize("token", [None, "rbk_wrong"], ids=["none", "wrong"])
def test_graphql_ws_without_a_valid_token(program: Program, token: str | None) -> None:
    with graphql_ws(program, 1, token=token) as process:
        assert remaining_lines(process) == [{"closed": {"code": 4403, "reason": "Forbidden"}}]
