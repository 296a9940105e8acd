"""The dispatcher's loop on a real database: when it looks, and what it hands on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ringback.jobs import dispatcher as dispatching
from ringback.jobs.dispatcher import Dispatcher
from ringback.jobs.outcomes import Answer, Delivered
from ringback.jobs.recorder import Recorder, write
from ringback.models import clock
from ringback.models.event import Event
from ringback.models.limits import AHEAD_SECONDS
from ringback.models.states import EventStatus
from ringback.models.wakeups import Topic, wakeups
from tests.support import builders
from tests.support.eventually import eventually
from tests.support.handed import Handed, at_work
from tests.support.stopped import StoppedClock

pytestmark = pytest.mark.every_database


@pytest_asyncio.fixture
async def dispatcher(handed: Handed, recorder: Recorder) -> AsyncIterator[Dispatcher]:
    """A dispatcher that has found nothing yet and sleeps."""
    made = Dispatcher(handed, recorder, places=8)
    async with at_work(made):
        yield made


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_a_wake_up_is_followed_at_once(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert handed.events == [event.id]
    assert (await builders.stored(event)).lease == handed.batches[0][0]


async def test_without_a_wake_up_an_event_is_found_within_a_second(handed: Handed, recorder: Recorder) -> None:
    async with at_work(Dispatcher(handed, recorder, places=8)) as waits:
        event = await builders.event(await builders.webhook())
        await handed.wait_for(1)
    assert handed.events == [event.id]
    assert max(waits) <= 1.0


@pytest.mark.usefixtures("_no_poll")
async def test_it_looks_again_shortly_before_the_next_moment(
    handed: Handed, recorder: Recorder, stopped: StoppedClock
) -> None:
    async with at_work(Dispatcher(handed, recorder, places=8)) as waits:
        await builders.event(await builders.webhook(), due_in=AHEAD_SECONDS + 0.5)
        wakeups.notify(Topic.DUE)
        await eventually(lambda: waits[-1] == pytest.approx(0.5, abs=0.001))
        stopped.advance(0.4)
        await eventually(lambda: waits[-1] == pytest.approx(0.1, abs=0.001))
        assert handed.events == []
        stopped.advance(0.1)
        await handed.wait_for(1)


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_a_later_event_is_left_in_the_database(handed: Handed) -> None:
    later = await builders.event(await builders.webhook(), due_in=300)
    now = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert handed.events == [now.id]
    assert (await builders.stored(later)).lease is None


@pytest.mark.usefixtures("_no_poll")
async def test_a_webhook_that_finishes_nothing_leaves_room_for_others(dispatcher: Dispatcher, handed: Handed) -> None:
    hanging, healthy = await builders.webhook(), await builders.webhook()
    first = [await builders.event(hanging, due_in=-10) for _ in range(20)]
    wakeups.notify(Topic.DUE)
    await handed.wait_for(4)
    event = await builders.event(healthy)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(5)
    assert handed.events == [*[e.id for e in first[:4]], event.id]
    dispatcher.finished(first[0].id)
    dispatcher.finished(event.id)
    await handed.wait_for(6)
    assert handed.events[5] == first[4].id


@pytest.mark.usefixtures("_no_poll")
async def test_while_all_is_held_it_sleeps(
    dispatcher: Dispatcher, handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await builders.webhook()
    for _ in range(20):
        await builders.event(webhook, due_in=-10)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(4)
    await asyncio.sleep(0.05)
    rounds = 0
    whole = dispatcher._round

    async def counted() -> float:
        nonlocal rounds
        rounds += 1
        return await whole()

    monkeypatch.setattr(dispatcher, "_round", counted)
    await asyncio.sleep(0.3)
    assert rounds <= 1
    assert len(handed.events) == 4


@pytest.mark.usefixtures("_no_poll")
async def test_suspects_are_handed_on_one_by_one(dispatcher: Dispatcher, handed: Handed) -> None:
    webhook = await builders.webhook()
    suspects = [await builders.event(webhook, due_in=-i, abandoned_in_a_row=2) for i in (3, 2, 1)]
    plain = await builders.event(webhook)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(2)
    assert set(handed.events) == {suspects[0].id, plain.id}
    for number, event in enumerate(suspects[:2]):
        dispatcher.finished(event.id)
        await handed.wait_for(3 + number)
        assert handed.events[-1] == suspects[number + 1].id


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_what_a_dead_worker_left_is_recorded_as_abandoned_and_handed_on(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    dead = await builders.begun(event)
    await Event.filter(id=event.id).update(due_at=await clock.now())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "ABANDONED")]
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count) == (EventStatus.RETRYING, 1)
    assert stored.lease == handed.batches[0][0] != dead
    await write([builders.result(event, dead, Delivered(Answer(200)), ended_at=await clock.now())])
    assert (await builders.stored(event)).status is EventStatus.RETRYING


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_a_message_that_was_lost_is_sent_again(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    await Event.filter(id=event.id).update(due_at=await clock.now())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(2)
    assert handed.events == [event.id, event.id]
    assert handed.batches[0][0] != handed.batches[1][0]
    assert await builders.attempts(event) == []


@pytest.mark.usefixtures("recorder")
async def test_a_failing_database_is_waited_for(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "PAUSE_SECONDS", 0.01)
    made = Dispatcher(handed, recorder)
    whole, failures = made._round, [OSError("disk"), KeyError("anything")]

    async def failing() -> float:
        if failures:
            raise failures.pop()
        return await whole()

    monkeypatch.setattr(made, "_round", failing)
    event = await builders.event(await builders.webhook())
    running = asyncio.create_task(made.run())
    await handed.wait_for(1)
    running.cancel()
    assert handed.events == [event.id]
