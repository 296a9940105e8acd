"""Subscribers of one engine: equal selections share one execution per event, and each token has a quota."""

import asyncio
import json
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest
import strawberry

from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.context.single_flight import EventBatch
from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.execution.engine import MAX_SUBSCRIPTIONS_AT_ONCE, Engine, ExecutionResponse
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.execution.subscription_quota import CHARS_PER_TOKEN
from ringback.models.api_token import ApiToken
from ringback.models.enums import Role
from tests.support.eventually import eventually
from tests.support.live_log import take
from tests.support.patience import PATIENCE_SECONDS


class Source:
    """A source of batches for all listeners. Executions wait for `may_end` and are recorded in `executed`."""

    def __init__(self) -> None:
        self.listeners: list[asyncio.Queue[tuple[Any, ...] | None]] = []
        self.executed: list[object] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.failing = False
        self.closed = 0

    def emit(self, *things: object) -> None:
        for listener in self.listeners:
            listener.put_nowait(things)

    async def listen(self) -> AsyncGenerator[EventBatch[Any], None]:
        mine: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
        self.listeners.append(mine)
        try:
            while things := await mine.get():
                yield EventBatch(things, to_thing)
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
            raise ApiError("BAD_REQUEST", "failing")
        return str(self.what)


def to_thing(what: object) -> Thing:
    if what == "odd":
        raise ZeroDivisionError("a secret")
    return Thing(what=what)


@strawberry.type
class Query:
    nothing: int = 0


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def things(
        self, info: strawberry.Info[Any, None], after: int = 0, label: str = ""
    ) -> AsyncGenerator[Thing, None]:
        async with aclosing(info.context.services.listen()) as bursts:
            async for burst in bursts:
                yield burst  # the engine converts the items to Things

    @strawberry.subscription
    async def alone(self, info: strawberry.Info[Any, None]) -> AsyncGenerator[Thing, None]:
        async with aclosing(info.context.services.listen()) as bursts:
            async for burst in bursts:
                for item in burst.items:
                    yield Thing(what=item)


TOKEN, OTHER = (ApiToken(name=name, role=Role.ADMIN) for name in ("one", "other"))
NAMES = "subscription { things { name } }"
AFTER = "subscription ($after: Int! = 0) { things(after: $after) { name } }"
LABEL = "subscription ($label: String!) { things(label: $label) { name } }"
TWICE = "subscription ($twice: Boolean!) { things { name again: name @include(if: $twice) } }"


class Bench:
    """An engine on a small schema of its own, with its source of events."""

    def __init__(self, limits: OperationLimits | None = None) -> None:
        self.source = Source()
        self.engine = Engine(strawberry.Schema(Query, subscription=Subscription), limits)

    async def follow(
        self, text: str, token: ApiToken = TOKEN, /, **variables: Any
    ) -> tuple[AsyncGenerator[ExecutionResponse, None], "asyncio.Task[list[ExecutionResponse]]"]:
        """Start a subscription. Return it, and the task that waits for its first response."""
        operation = await self.engine.operation(text)
        stream = self.engine.subscribe(operation, variables, Context(cast(Any, self.source), token))
        before = len(self.source.listeners)
        waiting = asyncio.create_task(take(stream, 1))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.source.listeners) == before:
                await asyncio.sleep(0)
        return stream, waiting

    async def refused(self, text: str, token: ApiToken = TOKEN, /, **variables: Any) -> dict[str, Any]:
        """Return the only response of a subscription that cannot start."""
        operation = await self.engine.operation(text)
        stream = self.engine.subscribe(operation, variables, Context(cast(Any, self.source), token))
        (answer,) = [answer async for answer in stream]
        return dict(json.loads(answer.json))


@pytest.fixture
async def bench() -> AsyncGenerator[Bench, None]:
    bench = Bench()
    yield bench
    bench.engine.close()


def name_of(answer: ExecutionResponse) -> Any:
    assert answer.errors == ()
    return (answer.data or {})["things"]["name"]


async def test_equal_selections_share_responses_whatever_the_root_arguments(bench: Bench) -> None:
    followers = [await bench.follow(AFTER, after=n) for n in range(3)] + [await bench.follow(AFTER, OTHER)]
    bench.source.emit("a")
    answers = [(await waiting)[0] for _, waiting in followers]
    assert bench.source.executed == ["a"]
    assert name_of(answers[0]) == "a"
    assert all(answer is answers[0] and answer.json is answers[0].json for answer in answers)


async def test_different_documents_and_variables_do_not_share_responses(bench: Bench) -> None:
    followers = [
        await bench.follow(text, **variables)
        for text, variables in [
            (NAMES, {}), (NAMES, {}), (NAMES + " ", {}),
            (TWICE, {"twice": True}), (TWICE, {"twice": False}), (TWICE, {"twice": False}),
        ]
    ]  # fmt: skip
    bench.source.emit("a")
    answers = [(await waiting)[0] for _, waiting in followers]
    assert [answer.data for answer in answers] == [
        {"things": {"name": "a"}}, {"things": {"name": "a"}}, {"things": {"name": "a"}},
        {"things": {"name": "a", "again": "a"}}, {"things": {"name": "a"}}, {"things": {"name": "a"}},
    ]  # fmt: skip
    assert [answers[0] is a for a in answers] == [True, True, False, False, False, False]
    assert bench.source.executed == ["a"] * 5  # twice for `again`


async def test_a_batch_executes_concurrently_and_keeps_its_order(bench: Bench) -> None:
    stream, waiting = await bench.follow(NAMES)
    bench.source.may_end.clear()
    bench.source.emit(*"abcd")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(bench.source.executed) < 4:
            await asyncio.sleep(0)
    bench.source.may_end.set()
    assert [name_of(answer) for answer in [*await waiting, *await take(stream, 3)]] == ["a", "b", "c", "d"]
    assert bench.source.executed == ["a", "b", "c", "d"]


async def test_different_documents_execute_an_item_a_few_at_a_time(bench: Bench) -> None:
    texts = [f"subscription {{ things {{ name a{number}: name }} }}" for number in range(MAX_SUBSCRIPTIONS_AT_ONCE + 4)]
    followers = [await bench.follow(text) for text in texts]
    bench.source.may_end.clear()
    bench.source.emit("a")
    await eventually(lambda: len(bench.source.executed) == 2 * MAX_SUBSCRIPTIONS_AT_ONCE)
    await asyncio.sleep(0.05)
    executed_at_once = len(bench.source.executed)

    bench.source.may_end.set()

    assert [name_of((await waiting)[0]) for _, waiting in followers] == ["a"] * len(texts)
    assert executed_at_once == 2 * MAX_SUBSCRIPTIONS_AT_ONCE


async def test_cancelling_one_subscriber_does_not_cancel_the_shared_execution(bench: Bench) -> None:
    (_, first), (_, second) = await bench.follow(NAMES), await bench.follow(NAMES)
    bench.source.may_end.clear()
    bench.source.emit("a")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not bench.source.executed:
            await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    bench.source.may_end.set()
    assert [name_of(answer) for answer in await second] == ["a"]
    assert (bench.source.executed, bench.source.closed) == (["a"], 1)
    assert bench.engine.quota.running[TOKEN.id] == 1


async def test_a_failure_is_not_cached_and_ends_no_subscription(bench: Bench) -> None:
    (stream, first), (_, second) = await bench.follow(NAMES), await bench.follow(NAMES)
    bench.source.failing = True
    bench.source.emit("a")
    for answers in (await first, await second):
        (answer,) = answers
        assert [error.extensions for error in answer.errors] == [{"code": "BAD_REQUEST"}]
    bench.source.failing = False
    bench.source.emit("a")
    assert [name_of(answer) for answer in await take(stream, 1)] == ["a"]
    assert bench.source.executed == ["a", "a"]


async def test_a_failing_conversion_is_masked_and_ends_no_subscription(bench: Bench) -> None:
    stream, waiting = await bench.follow(NAMES)
    bench.source.emit("odd", "a")
    answers: list[ExecutionResponse] = [*await waiting, *await take(stream, 1)]
    odd, succeeded = answers
    assert [(error.extensions or {})["code"] for error in odd.errors] == ["INTERNAL"]
    assert b"secret" not in odd.json
    assert name_of(succeeded) == "a"


async def test_events_outside_batches_are_not_shared(bench: Bench) -> None:
    followers = [await bench.follow("subscription { alone { name } }") for _ in range(2)]
    bench.source.emit("a")
    for _, waiting in followers:
        assert [answer.data for answer in await waiting] == [{"alone": {"name": "a"}}]
    assert bench.source.executed == ["a", "a"]


async def test_the_quota_is_released_however_a_subscription_ends() -> None:
    bench = Bench(OperationLimits(subscriptions_per_token=2))
    running = bench.engine.quota.running
    (stream, ending), (_, cancelled) = await bench.follow(NAMES), await bench.follow(NAMES)
    assert await bench.refused(NAMES) == {
        "errors": [
            {
                "message": "This token has 2 subscriptions running, which is the limit, "
                "RINGBACK_API_MAX_SUBSCRIPTIONS_PER_TOKEN. End one first.",
                "extensions": {"code": "LIMIT_EXCEEDED", "limit": "subscriptionsPerToken", "allowed": 2},
            }
        ]
    }
    assert len(bench.source.listeners) == 2
    _, other = await bench.follow(NAMES, OTHER)
    assert (running[TOKEN.id], running[OTHER.id]) == (2, 1)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert running[TOKEN.id] == 1
    bench.source.emit("a")
    await ending
    await stream.aclose()
    assert running[TOKEN.id] == 0
    stream, waiting = await bench.follow(NAMES)
    bench.source.emit("b")
    await waiting
    bench.source.emit()  # an empty batch ends the source
    assert [answer async for answer in stream] == []
    await other
    assert running[TOKEN.id] == 0
    bench.engine.close()


async def test_the_tokens_of_running_documents_are_limited_and_equal_ones_count_once() -> None:
    bench = Bench(OperationLimits(subscription_tokens=18))
    _, first = await bench.follow(NAMES)
    _, equal = await bench.follow(NAMES)
    (error,) = (await bench.refused("subscription { things { name again: name twice: name } }"))["errors"]

    assert "RINGBACK_API_MAX_SUBSCRIPTION_TOKENS" in error["message"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "subscriptionTokens", "allowed": 18}
    _, different = await bench.follow("subscription { things { other: name } }")
    for task in (first, equal, different):
        task.cancel()
    await asyncio.gather(first, equal, different, return_exceptions=True)
    _, again = await bench.follow("subscription { things { name again: name twice: name } }")
    again.cancel()
    bench.engine.close()


async def test_the_subscriptions_of_all_tokens_are_limited() -> None:
    bench = Bench(OperationLimits(subscriptions_per_token=3))
    tasks = [(await bench.follow(NAMES, token))[1] for token in (TOKEN, TOKEN, OTHER, OTHER)]
    (error,) = (await bench.refused(NAMES, OTHER))["errors"]

    assert "RINGBACK_API_MAX_SUBSCRIPTIONS_PER_TOKEN" in error["message"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "subscriptions", "allowed": 4}
    for task in tasks:
        task.cancel()
    bench.engine.close()


async def test_the_tokens_of_all_running_documents_are_limited() -> None:
    bench = Bench(OperationLimits(subscription_tokens=18))
    texts = [NAMES, "subscription { things { other: name } }"]
    tasks = [(await bench.follow(text))[1] for text in texts]
    tasks.append((await bench.follow(NAMES, OTHER))[1])
    (error,) = (await bench.refused(texts[1], OTHER))["errors"]

    assert "RINGBACK_API_MAX_SUBSCRIPTION_TOKENS" in error["message"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "allSubscriptionTokens", "allowed": 24}
    for task in tasks:
        task.cancel()
    bench.engine.close()


async def test_variables_count_as_tokens_for_each_subscription() -> None:
    bench = Bench(OperationLimits(subscription_tokens=60))
    operation = await bench.engine.operation(LABEL)
    one_token_left = "x" * CHARS_PER_TOKEN * (59 - operation.token_count)
    two_tokens = "x" * CHARS_PER_TOKEN * 2

    _, first = await bench.follow(LABEL, label=one_token_left)
    (error,) = (await bench.refused(LABEL, label=two_tokens))["errors"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    _, second = await bench.follow(LABEL, label=two_tokens)

    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "subscriptionTokens", "allowed": 60}
    second.cancel()
    bench.engine.close()


class Value:
    """A value that no operation declares."""


async def test_variables_that_are_not_declared_are_freed(bench: Bench) -> None:
    value = Value()
    freed = weakref.ref(value)
    _, waiting = await bench.follow(NAMES, unused=value)

    del value

    assert freed() is None
    waiting.cancel()
