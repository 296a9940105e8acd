"""Deliverers whose places are all taken: events that wait there, and events that are handed on."""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import pytest

from ringback.models.event import Event
from ringback.models.states import OutcomeName
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.eventually import eventually, eventually_found
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("database")


async def test_a_batch_for_which_there_is_no_room_waits(benches: Callable[..., Bench]) -> None:
    full = benches(places=2)
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(4)]
    full.endpoint.hold()
    await full.take(*events[:2])
    await full.endpoint.asked(2)
    waiting = asyncio.create_task(full.take(*events[2:]))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    assert len(full.endpoint.requests) == 2
    full.endpoint.release()
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    await full.idle()
    assert [a.outcome for e in events for a in await builders.attempts(e)] == [OutcomeName.DELIVERED] * 4


async def test_no_more_attempts_are_under_way_than_there_are_places(benches: Callable[..., Bench]) -> None:
    full = benches(places=3)
    events = [await builders.event(await builders.webhook()) for _ in range(5)]
    full.endpoint.hold()
    await full.take(*events)
    await full.endpoint.asked(3)
    await asyncio.sleep(0.2)
    assert len(full.endpoint.requests) == 3
    assert [(await builders.stored(e)).lease_begun_at is not None for e in events] == [True] * 3 + [False] * 2
    full.endpoint.release()
    await full.idle()
    assert len(full.endpoint.requests) == 5


async def test_a_batch_larger_than_all_room_is_taken_when_nothing_else_is(benches: Callable[..., Bench]) -> None:
    small = benches(places=1)
    events = [await builders.event(await builders.webhook()) for _ in range(3)]
    await small.take(*events)
    await small.idle()
    assert sorted(small.finished) == sorted(e.id for e in events)


async def is_claimed(event: Event) -> bool:
    return (await builders.stored(event)).lease is not None


async def test_a_batch_that_waits_for_room_is_handed_back_at_the_stop(benches: Callable[..., Bench]) -> None:
    full = benches(places=1)
    first, second = [await builders.event(await builders.webhook()) for _ in range(2)]
    full.endpoint.hold()
    await full.take(first)
    waiting = asyncio.create_task(full.take(second))
    await eventually_found(lambda: is_claimed(second))
    await asyncio.sleep(0.05)
    await full.stop(hurry=True)
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert (await builders.stored(second)).lease is None
    assert await builders.attempts(second) == []


async def test_what_finds_no_place_here_is_handed_on(benches: Callable[..., Bench]) -> None:
    """Part of a batch, and a whole one; another process delivers them by their claim."""
    other = benches()
    full = benches(places=1, hand_on=other.deliverer.take)
    first, second, third = [await builders.event(await builders.webhook()) for _ in range(3)]
    full.endpoint.hold()
    await full.take(first, second)
    await full.take(third)
    await eventually(lambda: len(other.finished) == 2)
    await other.idle()
    assert (full.finished, sorted(other.finished)) == ([], sorted([second.id, third.id]))
    assert not full.deliverer.is_here(second.id)
    full.endpoint.release()
    await full.idle()
    assert [a.outcome for e in (first, second, third) for a in await builders.attempts(e)] == [
        OutcomeName.DELIVERED
    ] * 3


async def test_what_cannot_be_handed_on_waits(benches: Callable[..., Bench]) -> None:
    tries = 0

    async def away(lease: UUID, event_ids: Sequence[UUID]) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("the broker is away")

    full = benches(places=1, hand_on=away)
    first, second, third = [await builders.event(await builders.webhook()) for _ in range(3)]
    full.endpoint.hold()
    await full.take(first, second)
    waiting = asyncio.create_task(full.take(third))
    await eventually(lambda: tries >= 2)
    assert full.deliverer.is_here(second.id)
    assert not waiting.done()
    full.endpoint.release()
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    await full.idle()
    assert sorted(full.finished) == sorted([first.id, second.id, third.id])
