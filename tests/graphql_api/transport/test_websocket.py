"""GraphQL over real WebSockets: authentication, results, and cleanup after a client."""

import asyncio
import datetime as dt
import json
import socket
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Message, Scope
from websockets.typing import Subprotocol

from ringback.graphql_api.app import Application
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.errors import unauthenticated_error
from ringback.graphql_api.execution.engine import Engine, Operation, OperationType
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.schema.build import schema
from ringback.graphql_api.transport.held_messages import MAX_UNCHECKED
from ringback.graphql_api.transport.websocket import LONG_MESSAGE_CHARS, serve_connection
from ringback.models import delivery_log
from ringback.models.api_token import ApiToken
from ringback.models.delivery_log import Position
from ringback.models.enums import Role
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import Inbox
from ringback.models.services import api_tokens
from tests.contract import operations
from tests.support.api import Api
from tests.support.eventually import eventually
from tests.support.live_log import CURSORS, caught_up, joined, subscribed, write
from tests.support.websocket_client import (
    ADMIN,
    ASKED,
    PROTOCOL,
    VIEWER,
    Served,
    closed,
    init,
    received,
    run,
    send,
    serving,
    still_open,
    subscribe,
)


async def revoked() -> str:
    token, secret = await api_tokens.create_token("revoked", Role.ADMIN)
    await ApiToken.filter(id=token.id).update(revoked_at=token.created_at)
    return secret


async def expired() -> str:
    token, secret = await api_tokens.create_token("expired", Role.ADMIN)
    await ApiToken.filter(id=token.id).update(expires_at=token.created_at - dt.timedelta(seconds=1))
    return secret


@pytest.mark.parametrize(
    "payload",
    [{}, {"Authorization": "Bearer rbk_wrong"}, {"Authorization": ADMIN}, {"Authorization": 5},
     {"Authorization": "revoked"}, {"Authorization": "expired"}, {"token": ADMIN}],
)  # fmt: skip
async def test_without_a_valid_token_the_connection_closes_before_anything_runs(
    served: Served, payload: dict[str, Any]
) -> None:
    if payload.get("Authorization") in ("revoked", "expired"):
        secret = await (revoked() if payload["Authorization"] == "revoked" else expired())
        payload = {"Authorization": f"Bearer {secret}"}
    async with served.open() as connection:
        await send(connection, type="connection_init", payload=payload)
        await subscribe(connection, VIEWER)
        assert await closed(connection) == (4403, "Forbidden")


async def test_the_authorization_key_is_case_insensitive(served: Served) -> None:
    async with served.open() as connection:
        await send(connection, type="connection_init", payload={"authorization": f"bearer {ADMIN}"})
        assert await received(connection) == {"type": "connection_ack"}


async def test_nothing_runs_before_connection_init(served: Served) -> None:
    async with served.open() as connection:
        await subscribe(connection, VIEWER)
        assert await closed(connection) == (4401, "Unauthorized")


@pytest.mark.parametrize("protocols", [None, [Subprotocol("graphql-ws")], [Subprotocol("soap")]])
async def test_another_subprotocol_is_refused(served: Served, protocols: list[Subprotocol] | None) -> None:
    async with served.open(protocols=protocols) as connection:
        assert await closed(connection) == (4406, "Subprotocol not acceptable")


async def test_queries_and_mutations_run_too(served: Served) -> None:
    async with served.open() as connection:
        assert connection.subprotocol == PROTOCOL
        await init(connection)
        assert await run(connection, VIEWER) == [{"type": "next", "payload": ASKED}, {"type": "complete"}]
        done, complete = await run(connection, operations()["UpdateSiteSettings"], input={"trackLeads": True})
        assert done["payload"]["data"]["updateSiteSettings"]["siteSettings"]["trackLeads"] is True
        assert complete == {"type": "complete"}
        await send(connection, type="ping")
        assert await received(connection) == {"type": "pong"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer { ", "GRAPHQL_PARSE_FAILED"),
        ('{ "' + "x" * 500 + '" }', "GRAPHQL_PARSE_FAILED"),
        ("{a" * 3_000 + "}" * 3_000, "LIMIT_EXCEEDED"),
        ("query a { viewer { token { name } } } query b { viewer { token { name } } }", "BAD_REQUEST"),
    ],
)
async def test_a_refused_document_ends_only_its_operation(served: Served, query: str, code: str) -> None:
    async with served.open() as connection:
        await init(connection)
        await subscribe(connection, CURSORS, "log")
        await subscribed(served.api, 1)
        (error,) = await run(connection, query)
        assert error["type"] == "error"
        assert {item["extensions"]["code"] for item in error["payload"]} == {code}
        await write("still followed")
        assert (await received(connection))["payload"]["data"]["deliveryLog"]["message"] == "still followed"


async def test_a_refused_subscription_is_an_error_message_with_its_code(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        (answer,) = await run(connection, CURSORS, after="garbage")
        assert answer["type"] == "error"
        (error,) = answer["payload"]
        assert error["message"] == "after: 'garbage' is not a cursor of the delivery log"
        assert error["extensions"] == {"code": "BAD_USER_INPUT"}
        (answer,) = await run(connection, operations()["InboxTail"], id="inb_01h455vb4pex5vsknk084sn02q")
        assert answer["type"] == "error"
        (error,) = answer["payload"]
        assert error["message"] == "inboxId: There is no inbox with the id inb_01h455vb4pex5vsknk084sn02q."


async def test_nothing_internal_leaks(served: Served) -> None:
    made = (await served.api.do("CreateInbox", input={}))["inbox"]["id"]
    await Inbox.all().update(responses=[{"nope": 1}])
    async with served.open() as connection:
        await init(connection)
        answer, _ = await run(connection, "query ($id: ID!) { inbox(id: $id) { id } }", id=made)
        (error,) = answer["payload"]["errors"]
        assert error["extensions"]["code"] == "INTERNAL"
        assert error["extensions"]["id"] in error["message"]
        assert "nope" not in json.dumps(answer)


@pytest.mark.parametrize("how", ["complete", "close", "vanish"])
async def test_a_subscription_ends_with_its_client(served: Served, how: str) -> None:
    async with served.open() as connection:
        await init(connection)
        for number in range(3):
            await subscribe(connection, CURSORS, str(number))
        await subscribed(served.api, 3)
        if how == "complete":
            await send(connection, type="complete", id="1")
            await subscribed(served.api, 2)
        elif how == "close":
            await connection.close()
            await subscribed(served.api, 0)
        else:
            connection.transport.abort()
            await subscribed(served.api, 0)


@pytest.mark.measures_cpu
async def test_a_client_that_does_not_read_falls_behind_and_resumes(served: Served) -> None:
    """20 MB are written for a client that reads nothing: sockets and 200 slots buffer some, the rest is dropped."""
    total, slow = 5_000, Tailer(await delivery_log.read_epoch(), max_waiting=200)
    tailing = asyncio.create_task(slow.run())
    api = Api(replace(served.api.services, tailer=slow), served.api.token, served.api.engine)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    async with serving(Application(api.services, api.engine)) as port:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        async with replace(served, port=port).open(sock=sock, max_queue=1, compression=None) as connection:
            await init(connection)
            await subscribe(connection, CURSORS)
            await joined(slow, 1)
            for start in range(0, total, 40):  # there is room for several of these
                await write(*(f"{n} {'x' * 4_000}" for n in range(start, start + 40)))
                await caught_up(slow)
            assert slow.audience.size == 1, "the error reaches the client only when it reads"
            entries, message = [], await received(connection)
            while message["type"] == "next":
                entries.append(message["payload"]["data"]["deliveryLog"])
                message = await received(connection)
            assert message["type"] == "error"
            (error,) = message["payload"]
            assert error["extensions"] == {"code": "CURSOR_BEHIND", "cursor": entries[-1]["cursor"]}
            assert 200 <= len(entries) < total
            assert slow.audience.size == 0
            await subscribe(connection, CURSORS, "2", after=entries[-1]["cursor"])
            while len(entries) < total:
                entries.append((await received(connection))["payload"]["data"]["deliveryLog"])
        assert [int(entry["message"].split()[0]) for entry in entries] == list(range(total))
    tailing.cancel()


async def test_a_revoked_token_ends_its_subscriptions(api: Api) -> None:
    refusal = {"message": unauthenticated_error().message, "extensions": {"code": "UNAUTHENTICATED"}}
    token, _ = await api_tokens.create_token("soon revoked", Role.ADMIN)
    # A connection whose token was checked long ago.
    context = Context(api.services, token, trusted_until=0.0)
    beginning = Position(await delivery_log.read_epoch(), 0, 0).cursor()
    inbox = (await api.do("CreateInbox", input={}))["inbox"]["id"]
    following = api.engine.subscribe(await api.engine.operation(CURSORS), {"after": beginning}, context)
    await write("1", "2")
    first: Any = await anext(following)
    assert first.data["deliveryLog"]["message"] == "1"
    await api_tokens.revoke_token(
        str(next(t["id"] for t in (await api.ask("ApiTokens"))["nodes"] if t["name"] == token.name))
    )
    api.services.authenticator.forget()
    context.trusted_until = 0.0
    second = await anext(following)
    assert not second.executed
    assert [error.formatted for error in second.errors] == [refusal]
    assert api.services.tailer.audience.size == 0
    for document, given in ((VIEWER, {}), (operations()["InboxTail"], {"id": inbox}), (CURSORS, {})):
        operation = await api.engine.operation(document)
        if operation.kind is OperationType.SUBSCRIPTION:
            (answer,) = [response async for response in api.engine.subscribe(operation, given, context)]
        else:
            answer = await api.engine.execute(operation, given, context)
        assert not answer.executed
        assert [error.formatted for error in answer.errors] == [refusal]


async def test_a_revoked_token_ends_what_runs_over_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringback.graphql_api.context.request_context.TRUSTED_SECONDS", 0.0)
    token, secret = await api_tokens.create_token("soon revoked", Role.ADMIN)
    refusal = {"message": unauthenticated_error().message, "extensions": {"code": "UNAUTHENTICATED"}}
    async with served.open() as connection, served.open() as another:
        await init(connection, secret)
        await init(another)
        await subscribe(connection, CURSORS, "log")
        await subscribe(another, CURSORS, "log")
        await subscribed(served.api, 2)
        await served.api.do("RevokeApiToken", id=encode(Prefix.TOKEN, token.id))
        await write("secret")
        error = await received(connection)
        assert (error["id"], error["type"]) == ("log", "error")
        assert [detail["extensions"] for detail in error["payload"]] == [refusal["extensions"]]
        assert await run(connection, VIEWER) == [{"type": "error", "payload": [refusal]}]
        await subscribed(served.api, 1)
        assert (await received(another))["payload"]["data"]["deliveryLog"]["message"] == "secret"


async def test_the_head_of_a_handshake_is_dropped(api: Api) -> None:
    scope: Scope = {"headers": [(b"a", b"b")], "query_string": b"c", "subprotocols": []}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await serve_connection(api.engine, api.services, scope, receive, send)

    assert (scope["headers"], scope["query_string"]) == ([], b"")
    assert sent[-1]["code"] == 4406


async def test_a_token_cannot_take_more_connections_than_its_limit(served: Served) -> None:
    engine = Engine(schema, OperationLimits(connections_per_token=1))
    _, secret = await api_tokens.create_token("other", Role.ADMIN)
    _, third_secret = await api_tokens.create_token("third", Role.ADMIN)
    async with serving(Application(served.api.services, engine)) as port:
        limited = replace(served, port=port)
        async with limited.open() as first, limited.open() as second, limited.open() as other, limited.open() as third:
            await init(first)
            await send(second, type="connection_init", payload={"Authorization": f"Bearer {ADMIN}"})
            code, reason = await closed(second)
            await init(other, secret)
            await send(third, type="connection_init", payload={"Authorization": f"Bearer {third_secret}"})
            total_code, total_reason = await closed(third)
            await still_open(first)
        async with limited.open() as again:
            await init(again)
    await eventually(lambda: not engine.quota.connections)

    assert (code, total_code) == (1013, 1013)
    assert "a quarter of RINGBACK_HTTP_MAX_CONNECTIONS" in reason
    assert "a third of RINGBACK_HTTP_MAX_CONNECTIONS" in total_reason
    engine.close()


class PausedOperations:
    """An engine's `operation` that waits for `may_go_on`."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on = asyncio.Event()
        self._operation = engine.operation
        monkeypatch.setattr(engine, "operation", self._wait)

    async def _wait(self, *arguments: Any, **options: Any) -> Operation:
        await self.may_go_on.wait()
        return await self._operation(*arguments, **options)


async def test_messages_that_wait_are_limited_for_all_connections(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection whose message waits longest is closed."""
    paused = PausedOperations(served.api.engine, monkeypatch)
    budget = ByteBudget(250_000)
    async with serving(Application(served.api.services, served.api.engine), budget=budget) as port:
        limited = replace(served, port=port)
        async with limited.open() as oldest, limited.open() as older, limited.open() as newest:
            for connection in (oldest, older, newest):
                await init(connection)
            await subscribe(oldest, VIEWER, unused="x" * 100_000)
            await still_open(oldest)
            await subscribe(older, VIEWER, unused="x" * 100_000)
            await still_open(older)
            assert 200_000 < budget.total < 250_000
            await subscribe(newest, VIEWER, unused="x" * 100_000)

            assert await closed(oldest) == (1013, "The server holds too many bytes. Try again later.")
            await still_open(older)
            paused.may_go_on.set()
            assert (await received(newest))["payload"] == ASKED
            await eventually(lambda: budget.total == 0)


async def test_messages_that_wait_are_limited_for_each_token(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed, the numbers take 8 MB."""
    numbers, long = [0] * 120_000, "x" * 500_000
    engine = Engine(schema)
    paused = PausedOperations(engine, monkeypatch)
    _, secret = await api_tokens.create_token("other", Role.ADMIN)
    async with serving(Application(served.api.services, engine)) as port:
        limited = replace(served, port=port)
        async with limited.open() as first, limited.open() as second, limited.open() as other:
            await init(first)
            await subscribe(first, VIEWER, unused=numbers)
            await still_open(first)
            await init(second)
            (refusal,) = await run(second, VIEWER, unused=long)
            await init(other, secret)
            await subscribe(other, VIEWER, unused=long)
            await still_open(other)
            paused.may_go_on.set()
            assert [(await received(first))["type"] for _ in range(2)] == ["next", "complete"]
            accepted = await run(second, VIEWER, unused=long)

    assert refusal["type"] == "error"
    (error,) = refusal["payload"]
    assert error["extensions"] == {
        "code": "TOO_MANY_REQUESTS",
        "limit": "messageBytes",
        "allowed": 8_388_608,
        "retryAfterSeconds": 1,
    }
    assert [message["type"] for message in accepted] == ["next", "complete"]
    engine.close()


async def test_a_connection_with_many_unchecked_documents_is_not_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = PausedOperations(served.api.engine, monkeypatch)
    async with served.open() as connection:
        await init(connection)
        for number in range(MAX_UNCHECKED):
            await subscribe(connection, VIEWER, str(number))
        await still_open(connection)

        await subscribe(connection, VIEWER, "one more")
        await send(connection, type="ping")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.recv()

        paused.may_go_on.set()
        answers = [(await received(connection))["type"] for _ in range(2 * MAX_UNCHECKED + 3)]
        assert answers.count("complete") == MAX_UNCHECKED + 1
        assert answers.count("pong") == 1


async def test_a_long_message_is_parsed_in_turn(served: Served) -> None:
    """Short messages do not wait."""
    async with served.open() as long, served.open() as short:
        await init(long)
        await init(short)

        async with served.api.engine.long_messages.hold(None):
            await send(long, type="ping", payload={"text": "x" * LONG_MESSAGE_CHARS})
            await still_open(short)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await long.recv()

        assert (await received(long))["type"] == "pong"


async def test_a_revoked_token_loses_its_idle_connections(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.graphql_api.context.request_context.TRUSTED_SECONDS", 0.0)
    monkeypatch.setattr("ringback.graphql_api.transport.websocket.TOKEN_CHECK_SECONDS", 0.05)
    token, secret = await api_tokens.create_token("soon revoked", Role.ADMIN)
    async with served.open() as connection, served.open() as another:
        await init(connection, secret)
        await init(another)

        await served.api.do("RevokeApiToken", id=encode(Prefix.TOKEN, token.id))

        assert await closed(connection) == (4403, "Forbidden")
        await still_open(another)
