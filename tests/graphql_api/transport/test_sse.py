"""Server-Sent Events over a real server, as in graphql-sse's PROTOCOL.md, parsed as in the HTML standard."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from ringback.graphql_api.app import Application
from ringback.graphql_api.context import request_context
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.errors import unauthenticated_error
from ringback.graphql_api.execution.engine import Engine
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.schema.build import schema
from ringback.models import delivery_log
from ringback.models.api_token import ApiToken
from ringback.models.ids import Prefix, encode
from ringback.models.services import api_tokens
from tests.support.api import Api
from tests.support.eventually import eventually
from tests.support.live_log import CURSORS, caught_up, joined, subscribed, write
from tests.support.websocket_client import ADMIN, Served, serving

HEADERS = {"Authorization": f"Bearer {ADMIN}", "Accept": "text/event-stream"}
Event = tuple[str, Any]
COMPLETE: Event = ("complete", None)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Read events by name with their decoded data; without a data field it is no event (HTML, 9.2.6)."""
    fields: dict[str, str] = {}
    async for line in response.content:
        text = line.decode().removesuffix("\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields["event"], json.loads(fields["data"] or "null")
            fields = {}
        else:
            assert fields == {"": ""}, "anything but an event is a comment"
            fields = {}


def post(served: Served, query: str, connector: aiohttp.BaseConnector | None = None) -> Any:
    return aiohttp.request("POST", address(served), json={"query": query}, headers=HEADERS, connector=connector)


def address(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}/graphql"


async def answered(response: aiohttp.ClientResponse) -> list[Event]:
    """Return all events of a stream that the server ends."""
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    return [event async for event in events(response)]


async def test_a_query_sends_one_next_event(served: Served) -> None:
    async with post(served, "{ viewer { token { name } } }") as response:
        assert await answered(response) == [("next", {"data": {"viewer": {"token": {"name": "ws"}}}}), COMPLETE]


async def test_a_mutation_is_executed_once(served: Served) -> None:
    async with post(served, 'mutation { createInbox(input: {name: "by SSE"}) { inbox { name } } }') as response:
        done, end = await answered(response)
    assert (done, end) == (("next", {"data": {"createInbox": {"inbox": {"name": "by SSE"}}}}), COMPLETE)
    assert len((await served.api.ask("{ inboxes { nodes { name } } }"))["nodes"]) == 1


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
        ("query a { __typename } query b { __typename }", "BAD_REQUEST"),
        ("subscription ($after: String!) { deliveryLog(after: $after) { at } }", "BAD_USER_INPUT"),
        ('subscription { deliveryLog(after: "garbage") { at } }', "BAD_USER_INPUT"),
        ("{" + "a" * 3 + "{a" * 30 + "}" * 31, "LIMIT_EXCEEDED"),
    ],
)
async def test_a_refused_operation_sends_its_errors_as_next(served: Served, query: str, code: str) -> None:
    async with post(served, query) as response:
        (name, refused), end = await answered(response)
    assert (name, list(refused), end) == ("next", ["errors"], COMPLETE)
    assert {error["extensions"]["code"] for error in refused["errors"]} == {code}
    assert served.api.services.tailer.audience.size == 0


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"{}", {}, 400),
        (b"{}", {"Authorization": "Bearer x"}, 401),
        (b"", {"Content-Type": "a/b"}, 415),
    ],
)
async def test_a_malformed_request_opens_no_stream(
    served: Served, body: bytes, headers: dict[str, str], status: int
) -> None:
    sent = {**HEADERS, "Content-Type": "application/json", **headers}
    async with aiohttp.request("POST", address(served), data=body, headers=sent) as response:
        assert (response.status, list(await response.json())) == (status, ["errors"])


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_subscription_runs_until_its_client_disconnects(served: Served, method: str) -> None:
    sent = {"json": {"query": CURSORS}} if method == "POST" else {"params": {"query": CURSORS}}
    async with aiohttp.request(method, address(served), headers=HEADERS, **sent) as response:  # type: ignore[arg-type]
        following = events(response)
        await subscribed(served.api, 1)
        for message in ("first", "Привет,\n\u2028мир\r\n\n"):
            await write(message)
            name, answer = await anext(following)
            assert (name, answer["data"]["deliveryLog"]["message"]) == ("next", message)
        response.close()
    await subscribed(served.api, 0)


async def test_a_token_that_is_revoked_ends_its_streams(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is trusted for five seconds after each check, by a clock that the test controls."""
    trusted_seconds, clock = 5.0, SimpleNamespace(now=100.0)
    monkeypatch.setattr(request_context, "TRUSTED_SECONDS", trusted_seconds)
    monkeypatch.setattr(request_context, "time", SimpleNamespace(monotonic=lambda: clock.now))
    async with post(served, CURSORS) as response:
        following = events(response)
        await subscribed(served.api, 1)
        await api_tokens.revoke_token(encode(Prefix.TOKEN, (await ApiToken.get(name="ws")).id))
        served.api.services.authenticator.forget()
        clock.now += trusted_seconds - 0.001
        await write("still trusted")
        name, answer = await anext(following)
        assert (name, answer["data"]["deliveryLog"]["message"]) == ("next", "still trusted")
        clock.now += 0.001
        await write("no longer")
        name, answer = await anext(following)
        ((error),) = answer["errors"]
        assert (name, error["extensions"]) == ("next", {"code": "UNAUTHENTICATED"})
        assert error["message"] == unauthenticated_error().message
        assert [event async for event in following] == [COMPLETE]
    await subscribed(served.api, 0)
    async with post(served, CURSORS) as response:
        assert response.status == 401


async def test_a_token_cannot_take_more_streams_than_its_connections(served: Served) -> None:
    engine = Engine(schema, OperationLimits(connections_per_token=1))
    async with serving(Application(served.api.services, engine)) as port:
        limited = replace(served, port=port)
        async with post(limited, CURSORS) as first, post(limited, CURSORS) as second:
            assert (first.status, second.status, second.headers["Retry-After"]) == (200, 429, "1")
            assert second.headers["Connection"] == "close"
            ((error),) = (await second.json())["errors"]
            async with post(limited, "{ __typename }") as query:
                assert len(await answered(query)) == 2
        await eventually(lambda: not engine.quota.connections)
        async with post(limited, CURSORS) as again:
            assert again.status == 200
    engine.close()

    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "connectionsPerToken", "allowed": 1}
    assert "RINGBACK_HTTP_MAX_CONNECTIONS" in error["message"]


def small_socket(address: Any) -> socket.socket:
    """Make a client socket with a small receive buffer."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return made


@pytest.mark.measures_cpu
async def test_a_client_that_does_not_read_falls_behind(served: Served) -> None:
    """20 MB are written for a client that reads nothing: sockets and 200 slots buffer some, the rest is dropped."""
    total, slow = 5_000, Tailer(await delivery_log.read_epoch(), max_waiting=200)
    tailing = asyncio.create_task(slow.run())
    api = Api(replace(served.api.services, tailer=slow), served.api.token, served.api.engine)
    async with (
        serving(Application(api.services, api.engine)) as port,
        aiohttp.TCPConnector(socket_factory=small_socket) as connector,
        post(replace(served, port=port), CURSORS, connector) as response,
    ):
        await joined(slow, 1)
        for start in range(0, total, 40):  # there is room for several of these
            await write(*(f"{n} {'x' * 4_000}" for n in range(start, start + 40)))
            await caught_up(slow)
        assert slow.audience.size == 1, "the error reaches the client only when it reads"
        stream = await response.read()
    # Heartbeats may come between the events.
    *entries, refused, complete, end = [part for part in stream.split(b"\n\n") if part != b":"]
    assert (complete, end) == (b"event: complete\ndata:", b"")
    ((error),) = json.loads(refused.removeprefix(b"event: next\ndata: "))["errors"]
    last = json.loads(entries[-1].removeprefix(b"event: next\ndata: "))["data"]["deliveryLog"]["cursor"]
    assert error["extensions"] == {"code": "CURSOR_BEHIND", "cursor": last}
    assert 200 <= len(entries) < total
    for number, entry in enumerate(entries):
        assert entry.startswith(b"event: next\n")
        assert b'"message":"%d xxx' % number in entry
    assert slow.audience.size == 0
    tailing.cancel()
