"""Subscribers of one engine: executed once for all who are told the same in the same words, and counted by token."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest
import strawberry

from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.context.single_flight import EventBatch
from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.execution.engine import Engine, ExecutionResponse
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.models.api_token import ApiToken
from ringback.models.enums import Role
from tests.support.live_log import take
from tests.support.patience import PATIENCE_SECONDS


class Source:
    """What happens, for all who listen; executions wait until they may end, and are counted."""

    def __init__(self) -> None:
        self.listeners: list[asyncio.Queue[tuple[Any, ...] | None]] = []
        self.executed: list[object] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.failing = False
        self.closed = 0

    def happen(self, *things: object) -> None:
        for listener in self.listeners:
            listener.put_nowait(things)

    async def listen(self) -> AsyncGenerator[EventBatch[Any], None]:
        mine: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
        self.listeners.append(mine)
        try:
            while things := await mine.get():
                yield EventBatch(things, shown)
        finally:
            self.closed += 1


@strawberry.type
class Thing:
    what: strawberry.Private[object]

    @strawberry.field
    async def name(self, info: strawberry.Info[Any, None]) -> str | None:
        source: Source = info.context.services
        source.executed.append(self.what)
        await source.may_end.wait()
        if source.failing:
            raise ApiError("BAD_REQUEST", "as it is told to")
        return str(self.what)


def shown(what: object) -> Thing:
    if what == "odd":
        raise ZeroDivisionError("a secret")
    return Thing(what=what)


@strawberry.type
class Query:
    nothing: int = 0


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def things(self, info: strawberry.Info[Any, None], after: int = 0) -> AsyncGenerator[Thing, None]:
        async with aclosing(info.context.services.listen()) as bursts:
            async for burst in bursts:
                yield burst  # the engine makes Things of what happened

    @strawberry.subscription
    async def alone(self, info: strawberry.Info[Any, None]) -> AsyncGenerator[Thing, None]:
        async with aclosing(info.context.services.listen()) as bursts:
            async for burst in bursts:
                for one in burst.happened:
                    yield Thing(what=one)


TOKEN, OTHER = (ApiToken(name=name, role=Role.ADMIN) for name in ("one", "other"))
NAMES = "subscription { things { name } }"
AFTER = "subscription ($after: Int! = 0) { things(after: $after) { name } }"
TWICE = "subscription ($twice: Boolean!) { things { name again: name @include(if: $twice) } }"


class Asking:
    """An engine on a small schema of its own, and who is subscribed to it."""

    def __init__(self, limits: OperationLimits | None = None) -> None:
        self.source = Source()
        self.engine = Engine(strawberry.Schema(Query, subscription=Subscription), limits)

    async def follow(
        self, text: str, token: ApiToken = TOKEN, /, **variables: Any
    ) -> tuple[AsyncGenerator[ExecutionResponse, None], "asyncio.Task[list[ExecutionResponse]]"]:
        """Begin a subscription; return it, and the task that waits for its first answer."""
        operation = await self.engine.operation(text)
        stream = self.engine.subscribe(operation, variables, Context(cast(Any, self.source), token))
        before = len(self.source.listeners)
        waiting = asyncio.create_task(take(stream, 1))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.source.listeners) == before:
                await asyncio.sleep(0)
        return stream, waiting

    async def refused(self, text: str, token: ApiToken = TOKEN) -> dict[str, Any]:
        """Return the only answer to a subscription that does not begin."""
        operation = await self.engine.operation(text)
        stream = self.engine.subscribe(operation, {}, Context(cast(Any, self.source), token))
        (answer,) = [answer async for answer in stream]
        return dict(json.loads(answer.json))


@pytest.fixture
async def asking() -> AsyncGenerator[Asking, None]:
    asking = Asking()
    yield asking
    asking.engine.close()


def named(answer: ExecutionResponse) -> Any:
    assert answer.errors == ()
    return (answer.data or {})["things"]["name"]


async def test_the_same_words_are_executed_once_whatever_the_root_fields_arguments(asking: Asking) -> None:
    followers = [await asking.follow(AFTER, after=n) for n in range(3)] + [await asking.follow(AFTER, OTHER)]
    asking.source.happen("a")
    answers = [(await waiting)[0] for _, waiting in followers]
    assert asking.source.executed == ["a"]
    assert named(answers[0]) == "a"
    assert all(answer is answers[0] and answer.json is answers[0].json for answer in answers)


async def test_other_words_are_executed_for_themselves(asking: Asking) -> None:
    followers = [
        await asking.follow(text, **variables)
        for text, variables in [
            (NAMES, {}), (NAMES, {}), (NAMES + " ", {}),
            (TWICE, {"twice": True}), (TWICE, {"twice": False}), (TWICE, {"twice": False}),
        ]
    ]  # fmt: skip
    asking.source.happen("a")
    answers = [(await waiting)[0] for _, waiting in followers]
    assert [answer.data for answer in answers] == [
        {"things": {"name": "a"}}, {"things": {"name": "a"}}, {"things": {"name": "a"}},
        {"things": {"name": "a", "again": "a"}}, {"things": {"name": "a"}}, {"things": {"name": "a"}},
    ]  # fmt: skip
    assert [answers[0] is a for a in answers] == [True, True, False, False, False, False]
    assert asking.source.executed == ["a"] * 5  # twice for `again`


async def test_a_burst_begins_at_once_and_keeps_its_order(asking: Asking) -> None:
    stream, waiting = await asking.follow(NAMES)
    asking.source.may_end.clear()
    asking.source.happen(*"abcd")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(asking.source.executed) < 4:
            await asyncio.sleep(0)
    asking.source.may_end.set()
    assert [named(answer) for answer in [*await waiting, *await take(stream, 3)]] == ["a", "b", "c", "d"]
    assert asking.source.executed == ["a", "b", "c", "d"]


async def test_who_is_cancelled_while_it_is_executed_takes_nobody_along(asking: Asking) -> None:
    (_, first), (_, second) = await asking.follow(NAMES), await asking.follow(NAMES)
    asking.source.may_end.clear()
    asking.source.happen("a")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not asking.source.executed:
            await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    asking.source.may_end.set()
    assert [named(answer) for answer in await second] == ["a"]
    assert (asking.source.executed, asking.source.closed) == (["a"], 1)
    assert asking.engine.quota.running[TOKEN.id] == 1


async def test_a_failure_is_not_kept_and_ends_nobody(asking: Asking) -> None:
    (stream, first), (_, second) = await asking.follow(NAMES), await asking.follow(NAMES)
    asking.source.failing = True
    asking.source.happen("a")
    for answers in (await first, await second):
        (answer,) = answers
        assert [error.extensions for error in answer.errors] == [{"code": "BAD_REQUEST"}]
    asking.source.failing = False
    asking.source.happen("a")
    assert [named(answer) for answer in await take(stream, 1)] == ["a"]
    assert asking.source.executed == ["a", "a"]


async def test_what_cannot_be_shown_is_masked_and_ends_nobody(asking: Asking) -> None:
    stream, waiting = await asking.follow(NAMES)
    asking.source.happen("odd", "a")
    answers: list[ExecutionResponse] = [*await waiting, *await take(stream, 1)]
    odd, well = answers
    assert [(error.extensions or {})["code"] for error in odd.errors] == ["INTERNAL"]
    assert b"secret" not in odd.json
    assert named(well) == "a"


async def test_what_only_one_is_told_is_executed_for_it_alone(asking: Asking) -> None:
    followers = [await asking.follow("subscription { alone { name } }") for _ in range(2)]
    asking.source.happen("a")
    for _, waiting in followers:
        assert [answer.data for answer in await waiting] == [{"alone": {"name": "a"}}]
    assert asking.source.executed == ["a", "a"]


async def test_the_subscriptions_of_a_token_are_counted_however_they_end() -> None:
    asking = Asking(OperationLimits(subscriptions_per_token=2))
    running = asking.engine.quota.running
    (stream, ending), (_, cancelled) = await asking.follow(NAMES), await asking.follow(NAMES)
    assert await asking.refused(NAMES) == {
        "errors": [
            {
                "message": "This token has 2 subscriptions running, which is the limit: end one first.",
                "extensions": {"code": "LIMIT_EXCEEDED", "limit": "subscriptionsPerToken", "allowed": 2},
            }
        ]
    }
    assert len(asking.source.listeners) == 2
    _, other = await asking.follow(NAMES, OTHER)
    assert (running[TOKEN.id], running[OTHER.id]) == (2, 1)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert running[TOKEN.id] == 1
    asking.source.happen("a")
    await ending
    await stream.aclose()
    assert running[TOKEN.id] == 0
    stream, waiting = await asking.follow(NAMES)
    asking.source.happen("b")
    await waiting
    asking.source.happen()  # the source's own end
    assert [answer async for answer in stream] == []
    await other
    assert running[TOKEN.id] == 0
    asking.engine.close()
