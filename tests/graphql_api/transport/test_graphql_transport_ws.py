"""graphql-transport-ws: messages and close codes of PROTOCOL.md (graphql-ws) for servers, over real sockets.

Close codes and shapes are those of the reference implementation, graphql-ws 6.
"""

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ringback.graphql_api.transport import websocket
from tests.support.live_log import CURSORS, subscribed
from tests.support.websocket_client import (
    ADMIN,
    AUTHORIZED,
    PROTOCOL,
    VIEWER,
    Served,
    closed,
    init,
    received,
    send,
    still_open,
    subscribe,
)

ID_RULE = 'Invalid message: "id" must be a non-empty string'
PAYLOAD_RULE = 'Invalid message: "payload" must be an object or null'
OBJECT_RULE = 'Invalid message: "payload" must be an object'
NAME_RULE = 'Invalid message: "payload.operationName" must be a string or null'


def subscribing(**payload: Any) -> str:
    return json.dumps({"type": "subscribe", "id": "1", "payload": payload})


def each(*values: Any) -> tuple[Any, ...]:
    """Return values of any types."""
    return values


NOT_MESSAGES: list[tuple[str | bytes, str]] = [
    ("", "Invalid message: not valid JSON"),
    ("{", "Invalid message: not valid JSON"),
    ("{'type': 'ping'}", "Invalid message: not valid JSON"),
    ('{"type":"ping"} {"type":"ping"}', "Invalid message: not valid JSON"),
    ('{"type":"ping","payload":{"x":NaN}}', "Invalid message: not valid JSON"),
    ('{"type":"ping","payload":{"x":"\\ud800"}}', "Invalid message: not valid JSON"),
    ('{"type":"ping","payload":' + '{"x":' * 5_000 + "1" + "}" * 5_001, "Invalid message: not valid JSON"),
    ("[" * 40_000, "Invalid message: not valid JSON"),
    ("null", "Invalid message: not a JSON object"),
    ("42", "Invalid message: not a JSON object"),
    ('"ping"', "Invalid message: not a JSON object"),
    ("true", "Invalid message: not a JSON object"),
    ('[{"type":"ping"}]', "Invalid message: not a JSON object"),
    (b'{"type":"ping"}', "Invalid message: binary. Send JSON as text."),
    (b"", "Invalid message: binary. Send JSON as text."),
    ("{}", 'Invalid message: "type" must be a string'),
    *((json.dumps({"type": kind}), 'Invalid message: "type" must be a string') for kind in each(None, 1, True, [], {})),
    ('{"Type":"ping"}', 'Invalid message: "type" must be a string'),
    ('{"type":""}', 'Invalid message: unknown type ""'),
    ('{"type":"PING"}', 'Invalid message: unknown type "PING"'),
    ('{"type":"start","id":"1","payload":{"query":"{x}"}}', 'Invalid message: unknown type "start"'),
    ('{"type":"stop","id":"1"}', 'Invalid message: unknown type "stop"'),
    ('{"type":"connection_ack"}', 'Invalid message: only servers send "connection_ack"'),
    ('{"type":"next","id":"1","payload":{"data":{}}}', 'Invalid message: only servers send "next"'),
    ('{"type":"error","id":"1","payload":[{"message":"x"}]}', 'Invalid message: only servers send "error"'),
    *(
        (json.dumps({"type": kind, "payload": payload}), PAYLOAD_RULE)
        for kind in ("connection_init", "ping", "pong")
        for payload in each(0, 1, False, True, "", "x", [], [{}])
    ),
    *((json.dumps({"type": kind}), ID_RULE) for kind in ("subscribe", "complete")),
    *(
        (json.dumps({"type": kind, "id": op, "payload": {"query": VIEWER}}), ID_RULE)
        for kind in ("subscribe", "complete")
        for op in each(None, "", 1, 0, 1.5, True, [], ["1"], {})
    ),
    ('{"type":"subscribe","id":"1"}', OBJECT_RULE),
    *(
        (json.dumps({"type": "subscribe", "id": "1", "payload": payload}), OBJECT_RULE)
        for payload in each(None, "{ x }", 1, True, [])
    ),
    (subscribing(), 'Invalid message: "payload.query" must be a string'),
    *(
        (subscribing(query=query), 'Invalid message: "payload.query" must be a string')
        for query in each(None, 1, True, [], {}, ["{ x }"])
    ),
    *(
        (subscribing(query=VIEWER, variables=value), 'Invalid message: "payload.variables" must be an object or null')
        for value in each(0, "", "{}", False, [], [{}])
    ),
    *(
        (subscribing(query=VIEWER, operationName=name), NAME_RULE)
        for name in each(0, 1, False, [], {})
    ),
    *(
        (subscribing(query=VIEWER, extensions=value), 'Invalid message: "payload.extensions" must be an object or null')
        for value in each(0, "", "{}", False, [], [{}])
    ),
]  # fmt: skip


@pytest.mark.parametrize("when", ["before-init", "after-ack"])
async def test_4400_an_invalid_message_closes_the_connection(served: Served, when: str) -> None:
    """All rows share a server; each has a connection of its own, before and after the acknowledgement."""
    for sent, reason in NOT_MESSAGES:
        async with served.open() as connection:
            if when == "after-ack":
                await init(connection)
            await connection.send(sent)
            assert await closed(connection) == (4400, reason), sent


async def test_4400_nothing_after_an_invalid_message_is_executed(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        await connection.send("{")
        await subscribe(connection, 'mutation { createInbox(input: {name: "late"}) { errors { message } } }')
        assert (await closed(connection))[0] == 4400
    assert [inbox["name"] for inbox in (await served.api.ask("Inboxes"))["nodes"]] == []


@pytest.mark.parametrize("filler", ["x", "é", "€", "😀"])
@pytest.mark.parametrize("offset", range(4))
async def test_4400_a_reason_is_cut_to_123_bytes_between_characters(served: Served, filler: str, offset: int) -> None:
    async with served.open() as connection:
        whole = "a" * offset + filler * 200
        await send(connection, type=whole)
        code, reason = await closed(connection)
    assert code == 4400
    assert f'Invalid message: unknown type "{whole}"'.startswith(reason)
    assert 123 - len(filler.encode()) < len(reason.encode()) <= 123


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {}}, {"payload": {"token": ADMIN}}])
async def test_4403_a_connection_init_without_a_token_is_a_legal_message(served: Served, payload: Any) -> None:
    async with served.open() as connection:
        await send(connection, type="connection_init", **payload)
        assert await closed(connection) == (4403, "Forbidden")


async def test_4401_an_operation_before_the_acknowledgement(served: Served) -> None:
    async with served.open() as connection:
        await subscribe(connection, VIEWER)
        assert await closed(connection) == (4401, "Unauthorized")


@pytest.mark.parametrize("offered", [None, ["graphql-ws"], ["soap", "GRAPHQL-TRANSPORT-WS"]])
async def test_4406_another_subprotocol(served: Served, offered: list[Subprotocol] | None) -> None:
    async with served.open(protocols=offered) as connection:
        assert connection.subprotocol is None
        assert await closed(connection) == (4406, "Subprotocol not acceptable")


async def test_the_protocol_is_chosen_among_others(served: Served) -> None:
    async with served.open(protocols=[Subprotocol("graphql-ws"), PROTOCOL, Subprotocol("soap")]) as connection:
        assert connection.subprotocol == PROTOCOL
        await init(connection)


@pytest.mark.parametrize("meanwhile", [[], [{"type": "ping"}], [{"type": "pong"}, {"type": "complete", "id": "1"}]])
async def test_4408_without_connection_init(served: Served, meanwhile: list[dict[str, Any]]) -> None:
    async with served.open() as connection:
        for message in meanwhile:
            await send(connection, **message)
            if message["type"] == "ping":
                assert await received(connection) == {"type": "pong"}
        await still_open(connection)
        pass_time(websocket.INIT_SECONDS)
        assert await closed(connection) == (4408, "Connection initialisation timeout")


async def test_4408_does_not_come_after_connection_init(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        pass_time(2 * websocket.INIT_SECONDS)
        await asyncio.sleep(0.01)
        await still_open(connection)


def pass_time(seconds: float) -> None:
    """Advance the clock of the running loop."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]


@pytest.mark.parametrize("second", [{}, {"payload": AUTHORIZED}, {"payload": {"Authorization": "Bearer rbk_wrong"}}])
@pytest.mark.parametrize("waits", [True, False])
async def test_4429_a_second_connection_init(served: Served, second: dict[str, Any], waits: bool) -> None:
    async with served.open() as connection:
        await send(connection, type="connection_init", payload=AUTHORIZED)
        if waits:
            assert await received(connection) == {"type": "connection_ack"}
        await send(connection, type="connection_init", **second)
        if not waits:
            assert await received(connection) == {"type": "connection_ack"}
        assert await closed(connection) == (4429, "Too many initialisation requests")


async def test_4409_a_second_operation_with_the_id_of_a_running_one(served: Served) -> None:
    for op, reason in (
        ("1", "Subscriber for 1 already exists"),
        ("né😀" * 100, ("Subscriber for " + "né😀" * 15 + "né")),
    ):
        async with served.open() as connection:
            await init(connection)
            await subscribe(connection, CURSORS, op)
            await subscribed(served.api, 1)
            await subscribe(connection, VIEWER, op)
            assert await closed(connection) == (4409, reason)
        await subscribed(served.api, 0)


@pytest.mark.parametrize("when", ["before-init", "after-ack"])
@pytest.mark.parametrize("payload", [{}, {"a": [1, None, {"b": "é"}]}, None, "absent"])
async def test_a_ping_is_answered_with_its_payload_at_any_time(served: Served, when: str, payload: Any) -> None:
    async with served.open() as connection:
        if when == "after-ack":
            await init(connection)
        given = {} if payload == "absent" else {"payload": payload}
        await send(connection, type="ping", **given)
        assert await received(connection) == {"type": "pong", **({} if payload in (None, "absent") else given)}


@pytest.mark.parametrize("message", [
    {"type": "pong"}, {"type": "pong", "payload": None}, {"type": "pong", "payload": {"any": "thing"}},
    {"type": "complete", "id": "unknown"}, {"type": "complete", "id": "unknown", "payload": 5},
    {"type": "pong", "id": 5, "of": "no interest"},
])  # fmt: skip
async def test_messages_without_a_reply_get_none(served: Served, message: dict[str, Any]) -> None:
    async with served.open() as connection:
        await send(connection, **message)
        await still_open(connection)
        await init(connection)
        await send(connection, **message)
        await still_open(connection)


async def test_messages_after_the_close_are_ignored(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        await connection.send("[]")
        for _ in range(100):
            try:
                await subscribe(connection, VIEWER)
            except ConnectionClosed:
                break
        assert (await closed(connection))[0] == 4400


async def test_1013_a_failed_authentication_lets_clients_reconnect(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: Any) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(served.api.services.authenticator, "authenticate", away)
    async with served.open() as connection:
        await send(connection, type="connection_init", payload=AUTHORIZED)
        code, reason = await closed(connection)
    assert code == 1013
    assert reason.startswith("Something went wrong (id ")
    assert reason.endswith("). Try again later.")
    assert "hunter2" not in reason
