"""graphql-transport-ws: operations over one connection, as in PROTOCOL.md (graphql-ws), over real sockets."""

import gc
import json
from typing import Any

import pytest

from ringback.graphql_api.app import Application
from ringback.graphql_api.execution.engine import Engine
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.schema.build import schema
from ringback.graphql_api.transport.graphql_transport_ws import Subscribe
from ringback.models.services import api_tokens
from tests.support.api import Api
from tests.support.live_log import CURSORS, subscribed, write
from tests.support.websocket_client import (
    ADMIN,
    ASKED,
    AUTHORIZED,
    VIEWER,
    Served,
    init,
    received,
    run,
    send,
    serving,
    still_open,
    subscribe,
)

NAMED = "query a { __typename } query b { viewer { token { name } } }"
TYPENAME = {"data": {"__typename": "Query"}}


async def test_an_operation_sent_along_with_connection_init_waits_for_the_acknowledgement(served: Served) -> None:
    async with served.open() as connection:
        await send(connection, type="connection_init", payload=AUTHORIZED)
        await subscribe(connection, VIEWER)
        assert await received(connection) == {"type": "connection_ack"}
        assert await received(connection) == {"id": "1", "type": "next", "payload": ASKED}
        assert await received(connection) == {"id": "1", "type": "complete"}


@pytest.mark.parametrize(("payload", "result"), [
    ({"query": VIEWER}, ASKED),
    ({"query": VIEWER, "variables": None, "operationName": None, "extensions": None}, ASKED),
    ({"query": VIEWER, "variables": {}, "extensions": {"a": 1}, "unknown": 5}, ASKED),
    ({"query": NAMED, "operationName": "a"}, TYPENAME),
    ({"query": NAMED, "operationName": "b"}, ASKED),
])  # fmt: skip
async def test_a_single_result_is_one_next_and_complete(
    served: Served, payload: dict[str, Any], result: dict[str, Any]
) -> None:
    async with served.open() as connection:
        await init(connection)
        await send(connection, type="subscribe", id="é1", payload=payload)
        assert await received(connection) == {"id": "é1", "type": "next", "payload": result}
        assert await received(connection) == {"id": "é1", "type": "complete"}
        await still_open(connection)


@pytest.mark.parametrize(("query", "variables", "code"), [
    ("", {}, "GRAPHQL_PARSE_FAILED"),
    ("{", {}, "GRAPHQL_PARSE_FAILED"),
    ("{ nope }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("fragment f on Query { __typename }", {}, "GRAPHQL_VALIDATION_FAILED"),
    (NAMED, {}, "BAD_REQUEST"),
    ("query ($first: Int!) { events(first: $first) { nodes { id } } }", {}, "BAD_USER_INPUT"),
    ("query ($first: Int) { events(first: $first) { nodes { id } } }", {"first": "x"}, "BAD_USER_INPUT"),
    (CURSORS, {"after": "garbage"}, "BAD_USER_INPUT"),
    ("subscription { deliveryLog { cursor } again: deliveryLog { cursor } }", {}, "GRAPHQL_VALIDATION_FAILED"),
])  # fmt: skip
async def test_a_refused_operation_is_one_error_and_nothing_else(
    served: Served, query: str, variables: dict[str, Any], code: str
) -> None:
    async with served.open() as connection:
        await init(connection)
        (error,) = await run(connection, query, **variables)
        assert error["type"] == "error"
        assert {detail["extensions"]["code"] for detail in error["payload"]} == {code}
        assert all(detail.keys() <= {"message", "locations", "path", "extensions"} for detail in error["payload"])
        await still_open(connection)
        # The id is free again.
        assert [message["type"] for message in await run(connection, VIEWER)] == ["next", "complete"]


async def test_an_error_in_a_field_is_part_of_a_result(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        result, complete = await run(connection, '{ event(id: "garbage") { id } }')
        assert (result["type"], complete) == ("next", {"type": "complete"})
        assert result["payload"]["data"] == {"event": None}
        assert result["payload"]["errors"][0]["path"] == ["event"]


async def test_results_keep_their_order_and_their_id(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        for op in ("a", "b"):
            await subscribe(connection, CURSORS, op)
        await subscribed(served.api, 2)
        await write("1", "2", "3")
        messages: dict[str, list[str]] = {"a": [], "b": []}
        for _ in range(6):
            message = await received(connection)
            assert message.keys() == {"id", "type", "payload"}
            assert message["type"] == "next"
            messages[message["id"]].append(message["payload"]["data"]["deliveryLog"]["message"])
        assert messages == {"a": ["1", "2", "3"], "b": ["1", "2", "3"]}
        assert await run(connection, VIEWER, "c") == [{"type": "next", "payload": ASKED}, {"type": "complete"}]


async def test_complete_of_the_client_stops_at_once_and_frees_the_id(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        await subscribe(connection, CURSORS)
        await subscribed(served.api, 1)
        await send(connection, type="complete", id="1")
        await subscribed(served.api, 0)
        await write("nobody listens")
        await still_open(connection)
        await subscribe(connection, CURSORS)
        await subscribed(served.api, 1)
        await write("again")
        assert (await received(connection))["payload"]["data"]["deliveryLog"]["message"] == "again"
        # Completed and started again, without waiting in between.
        await send(connection, type="complete", id="1")
        await subscribe(connection, VIEWER)
        await send(connection, type="complete", id="1")
        await subscribe(connection, VIEWER)
        assert await received(connection) == {"id": "1", "type": "next", "payload": ASKED}
        assert await received(connection) == {"id": "1", "type": "complete"}
        await send(connection, type="complete", id="1")
        await still_open(connection)


async def test_more_operations_than_allowed_get_an_error_each(api: Api) -> None:
    await api_tokens.ensure_admin(ADMIN, "ws")
    engine = Engine(schema, OperationLimits(subscriptions_per_connection=3))
    async with serving(Application(api.services, engine)) as port:
        served = Served(api, port)
        async with served.open() as connection, served.open() as another:
            await init(connection)
            for op in "abc":
                await subscribe(connection, CURSORS, op)
            await subscribed(api, 3)
            for op in "def":
                (error,) = await run(connection, VIEWER, op)
                assert error["type"] == "error"
                (refusal,) = error["payload"]
                assert refusal["extensions"] == {
                    "code": "LIMIT_EXCEEDED",
                    "limit": "subscriptionsPerConnection",
                    "allowed": 3,
                }
                assert refusal["message"] == (
                    "This connection already runs 3 operations, the limit "
                    "(RINGBACK_API_MAX_SUBSCRIPTIONS_PER_CONNECTION). Complete one first."
                )
            await send(connection, type="complete", id="b")
            assert [message["type"] for message in await run(connection, VIEWER, "d")] == ["next", "complete"]
            await init(another)
            assert [message["type"] for message in await run(another, VIEWER)] == ["next", "complete"]
    engine.close()


async def test_stopped_operations_count_against_the_limit_until_they_end(api: Api) -> None:
    await api_tokens.ensure_admin(ADMIN, "ws")
    engine = Engine(schema, OperationLimits(subscriptions_per_connection=2))
    most = 0
    async with serving(Application(api.services, engine)) as port, Served(api, port).open() as connection:
        await init(connection)
        for number in range(300):
            await subscribe(connection, CURSORS, str(number))
            await send(connection, type="complete", id=str(number))
            most = max(most, api.services.tailer.audience.size)
        await still_open(connection)
        most = max(most, api.services.tailer.audience.size)
        assert most <= 2
        await subscribed(api, 0)
    engine.close()


async def test_an_internal_error_ends_only_its_operation(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("the password is hunter2")

    async with served.open() as connection:
        await init(connection)
        monkeypatch.setattr(served.api.engine, "operation", broken)
        (error,) = await run(connection, VIEWER)
        assert error["type"] == "error"
        (internal,) = error["payload"]
        assert internal["extensions"]["code"] == "INTERNAL"
        assert "hunter2" not in json.dumps(internal)
        await still_open(connection)


async def test_a_running_subscription_does_not_keep_its_message(served: Served) -> None:
    async with served.open() as connection:
        await init(connection)
        await subscribe(connection, CURSORS, unused="x" * 100_000)
        await subscribed(served.api, 1)

        assert [item for item in gc.get_objects() if type(item) is Subscribe] == []
        await still_open(connection)
