"""The engine: responses are encoded once, variables are checked, and a revoked token executes nothing."""

import asyncio
import gc
from dataclasses import replace
from typing import Any, cast
from uuid import UUID
from weakref import ref

import orjson
import pytest
import strawberry
from graphql import GraphQLError

from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.execution.byte_budget import SMALL_BYTES
from ringback.graphql_api.execution.engine import MAX_STARTED_AT_ONCE, Engine, ExecutionResponse, error_response
from ringback.models import ids
from ringback.models.api_token import ApiToken
from ringback.models.database.byte_budget import SizedRows, current_budget
from ringback.models.fair_slots import FairSlots
from ringback.models.ids import Prefix
from ringback.models.inbox import Inbox
from ringback.models.services import api_tokens
from ringback.models.services.slow_checks import current_caller
from tests.support.api import Api


def test_a_response_is_encoded_once() -> None:
    response = ExecutionResponse({"a": 1})
    assert response.json == b'{"data":{"a":1}}'
    assert response.json is response.json
    assert response.text is response.text


def test_errors_come_first_and_a_request_error_has_no_data() -> None:
    error = GraphQLError("no", extensions={"code": "INTERNAL"})
    formatted = b'{"errors":[{"message":"no","extensions":{"code":"INTERNAL"}}]'
    assert ExecutionResponse({"a": None}, (error,)).json == formatted + b',"data":{"a":null}}'
    assert ExecutionResponse(None, (error,)).json == formatted + b',"data":null}'
    assert error_response(error).json == formatted + b"}"


async def test_undeclared_variables_are_ignored(api: Api) -> None:
    assert await api.ask("query($n: Int = 1) { webhooks(first: $n) { nodes { id } } }", m=[], x={"y": 1}) == {
        "nodes": []
    }


async def test_a_missing_variable_is_named(api: Api) -> None:
    answer = await api.execute("query($id: ID!) {\n  webhook(id: $id) { id }\n}")
    (error,) = orjson.loads(answer.json)["errors"]
    assert "data" not in orjson.loads(answer.json)
    assert error["message"].startswith("Variable '$id' has invalid value")
    assert (error["locations"], error["extensions"]) == ([{"line": 1, "column": 7}], {"code": "BAD_USER_INPUT"})


@strawberry.type
class Query:
    @strawberry.field
    def caller(self) -> str:
        caller = current_caller.get()
        assert caller is not None
        return str(caller.token_id)


async def test_an_operation_runs_for_its_token() -> None:
    engine = Engine(strawberry.Schema(Query))
    token = ApiToken(id=UUID(int=1))
    operation = await engine.operation("{ caller }")

    answer = await engine.execute(operation, {}, Context(cast(Any, None), token))

    assert answer.data == {"caller": str(token.id)}
    assert current_caller.get() is None
    engine.close()


class Item(dict[str, str]):
    """A JSON object to which weak references are possible."""


async def test_variables_are_freed_without_garbage_collection(api: Api) -> None:
    operation = await api.engine.operation(
        "mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { errors { code } } }"
    )
    item = Item(id="1")
    reference = ref(item)
    changes = [{"model": "none", "action": "UPDATED", "objectId": "1", "item": item}]
    gc.disable()
    try:
        answer = await api.engine.execute(operation, {"input": {"changes": changes}}, api.context())
        del item, changes
        assert b"NOT_FOUND" in answer.json
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("text", ["{ viewer { token { id } } }", "subscription { deliveryLog { cursor } }"])
async def test_a_revoked_token_executes_nothing(api: Api, text: str) -> None:
    await api_tokens.revoke_token(ids.encode(Prefix.TOKEN, api.token.id))
    context = api.context()
    context.trusted_until = 0
    operation = await api.engine.operation(text)
    if text.startswith("{"):
        answers = [await api.engine.execute(operation, {}, context)]
    else:
        answers = [answer async for answer in api.engine.subscribe(operation, {}, context)]
    assert [answer.executed for answer in answers] == [False]
    assert [(error.extensions or {})["code"] for answer in answers for error in answer.errors] == ["UNAUTHENTICATED"]


async def test_operations_beyond_the_first_few_start_in_turns(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[UUID] = []

    async def take(token_id: UUID) -> None:
        turns.append(token_id)

    monkeypatch.setattr(api.engine._starts, "take", take)

    answers = await asyncio.gather(*(api.ask("{ webhooks(first: 1) { nodes { id } } }") for _ in range(20)))

    assert answers == [{"nodes": []}] * 20
    assert turns == [api.token.id] * (20 - MAX_STARTED_AT_ONCE)


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def read(self, info: strawberry.Info[Context, None]) -> bool:
        """Read many rows, and record which token did."""
        budget = current_budget.get()
        assert budget is not None
        await budget.read(read_large_rows)
        await asyncio.sleep(0.001)
        READERS.append(info.context.viewer.id)
        return True


READERS: list[UUID] = []


async def read_large_rows(max_bytes: int) -> SizedRows:
    return SizedRows([], SMALL_BYTES + 1)


async def test_large_mutations_take_turns_between_their_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.graphql_api.execution.byte_budget.MAX_SECONDS_IF_OTHERS_WAIT", 0.0)
    READERS.clear()
    engine = Engine(strawberry.Schema(Query, Mutation))
    operation = await engine.operation("mutation { a: read b: read c: read }")
    tokens = [ApiToken(id=UUID(int=number)) for number in (1, 2)]

    answers = await asyncio.gather(
        *(engine.execute(operation, {}, Context(cast(Any, None), token)) for token in tokens)
    )

    assert [answer.errors for answer in answers] == [(), ()]
    assert [token.id for _ in range(3) for token in tokens] == READERS
    engine.close()


async def test_a_mutation_whose_slot_is_wanted_starts_no_more_fields(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.graphql_api.execution.byte_budget.MAX_SECONDS_IF_OTHERS_WAIT", 0.0)
    fields = " ".join(f"{alias}: createInbox(input: {{}}) {{ inbox {{ url }} }}" for alias in "abc")
    operation = await api.engine.operation(f"mutation {{ {fields} }}")
    slots = FairSlots(1)

    async with slots.hold(api.token.id) as slot:
        context = replace(api.context(), request_slot=slot)
        waiting = asyncio.create_task(slots.acquire(UUID(int=1)))
        await asyncio.sleep(0)
        refused = await api.engine.execute(operation, None, context)
    await waiting
    executed = await api.engine.execute(operation, None, context)

    assert refused.data is not None
    assert [field is None for field in refused.data.values()] == [False, True, True]
    assert [(error.path, error.extensions) for error in refused.errors] == [
        ([alias], {"code": "TOO_MANY_REQUESTS", "limit": "operationSeconds", "allowed": 0.0}) for alias in "bc"
    ]
    assert executed.errors == ()
    assert await Inbox.all().count() == 4
