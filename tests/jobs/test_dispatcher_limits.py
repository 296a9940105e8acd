"""The dispatcher and the limits of webhooks: their bounds, their rates, and the share of retries."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import pytest
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.jobs import dispatcher as dispatching
from ringback.jobs import recorder as recording
from ringback.jobs.dispatcher import Dispatcher
from ringback.jobs.outcomes import Answer, Delivered
from ringback.jobs.recorder import Recorder, Result
from ringback.models import clock, limits, statements
from ringback.models.event import Event
from ringback.models.states import EventStatus
from ringback.models.wakeups import Topic, wakeups
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.eventually import eventually
from tests.support.handed import Handed, at_work, record_all
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stopped import StoppedClock

pytestmark = pytest.mark.every_database


@pytest.mark.usefixtures("_no_poll")
async def test_what_is_recorded_frees_room_under_the_bound(handed: Handed, recorder: Recorder) -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    events = [await builders.event(webhook, due_in=n / 100 - 10) for n in range(5)]
    async with at_work(Dispatcher(handed, recorder, bound=2)):
        await handed.wait_for(2)
        assert handed.events == [e.id for e in events[:2]]
        one = await builders.event(other)
        wakeups.notify(Topic.DUE)
        await handed.wait_for(3)
        assert handed.events[2:] == [one.id], "a webhook at its bound holds up nobody else"
        await record_all(handed, handed.events[:1])
        await handed.wait_for(4)
        await asyncio.sleep(0.05)
        assert handed.events[3:] == [events[2].id]


@pytest.mark.usefixtures("database")
async def test_who_is_told_that_an_attempt_ended_need_not_read_the_limits(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = limits.read

    async def within_a_claim(
        webhook_ids: Collection[UUID], bound: int, ended: Mapping[UUID, UUID], db: BaseDBAsyncClient | None = None
    ) -> dict[UUID, limits.Limits]:
        assert db is not None
        return await read(webhook_ids, bound, ended, db)

    monkeypatch.setattr(limits, "read", within_a_claim)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=n / 100 - 10) for n in range(3)]
    made = Dispatcher(handed, recorder, bound=1)
    for _ in range(2):
        await made._round()
    assert handed.events == [events[0].id]
    await record_all(handed, handed.events[:1])
    await made._round()
    assert len(handed.events) == 1, "nobody told it"
    made.recorded(webhook.id)
    await made._round()
    assert len(handed.events) == 2
    await record_all(handed, handed.events[1:2])
    made.finished(handed.events[1])
    await made._round()
    assert handed.events == [e.id for e in events]


@pytest.mark.usefixtures("database")
async def test_what_has_ended_here_frees_room_before_it_is_on_record(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def held_up(results: Sequence[Result]) -> None:
        await never.wait()

    monkeypatch.setattr(recording, "write", held_up)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=n / 100 - 10) for n in range(3)]
    made = Dispatcher(handed, recorder, bound=1)
    await made._round()
    ((lease, (first,)),) = handed.batches
    now = await clock.now()
    delivered = Delivered(Answer(200, (), b""))
    recorder.put(Result(first, lease, delivered, started_at=now, ended_at=now, duration_ms=1), lambda: None)
    made.finished(first)
    for _ in range(2):
        await made._round()
    assert handed.events == [e.id for e in events[:2]]


@pytest.mark.usefixtures("_no_poll")
async def test_under_a_flood_of_retries_first_attempts_go_out_as_soon_as_there_is_room(
    handed: Handed, recorder: Recorder
) -> None:
    flooded, other = await builders.webhook(), await builders.webhook()
    retry = {"status": EventStatus.RETRYING, "attempt_count": 1}
    retries = [(await builders.event(flooded, due_in=n / 100 - 60, **retry)).id for n in range(20)]
    async with at_work(Dispatcher(handed, recorder, bound=4)):
        await handed.wait_for(4)
        first, of_other = (await builders.event(flooded)).id, (await builders.event(other)).id
        wakeups.notify(Topic.DUE)
        await handed.wait_for(5)
        assert handed.events == [*retries[:4], of_other]
        await record_all(handed, retries[:2])
        await handed.wait_for(7)
        assert set(handed.events[5:]) == {first, retries[4]}


@pytest.mark.usefixtures("_no_poll")
async def test_retries_leave_a_quarter_of_the_places(handed: Handed, recorder: Recorder) -> None:
    retry = {"status": EventStatus.RETRYING, "attempt_count": 1}
    for n in range(12):
        await builders.event(await builders.webhook(), due_in=n / 100 - 60, **retry)
    async with at_work(Dispatcher(handed, recorder, places=8)):
        await handed.wait_for(6)
        event = await builders.event(await builders.webhook())
        wakeups.notify(Topic.DUE)
        await handed.wait_for(7)
        await asyncio.sleep(0.05)
        assert handed.events[6:] == [event.id]


async def test_while_limits_hold_all_it_sleeps_and_looks_when_the_rate_has_half_of_its_look_ahead_free(
    handed: Handed, recorder: Recorder, stopped: StoppedClock
) -> None:
    webhook = await builders.webhook(rate_limit_per_second=10)
    for _ in range(20):
        await builders.event(webhook, due_in=-60)
    made = Dispatcher(handed, recorder)
    assert await made._round() == 0
    assert len(handed.events) == 6, "one now, and five within the half second that it looks ahead"
    wait = await made._round()
    assert wait == pytest.approx(0.35, abs=0.001)
    assert len(handed.events) == 6
    stopped.advance(wait)
    assert await made._round() == 0
    assert len(handed.events) >= 8


@pytest.mark.on_postgres
async def test_a_webhook_that_another_process_claims_for_is_looked_at_again_soon(
    handed: Handed, recorder: Recorder
) -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    made = Dispatcher(handed, recorder)
    locked, looked = asyncio.Event(), asyncio.Event()

    async def another() -> None:
        async with in_transaction() as db:
            await statements.lock(db, Webhook, id=webhook.id)
            locked.set()
            await looked.wait()

    claiming = asyncio.create_task(another())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await locked.wait()
        assert await made._round() == dispatching.CONTENTION_SECONDS
    assert handed.events == []
    looked.set()
    await claiming
    assert await made._round() == 0
    assert handed.events == [event.id]


async def test_what_others_have_under_way_is_asked_for_often(
    handed: Handed, recorder: Recorder, stopped: StoppedClock
) -> None:
    webhook = await builders.webhook(max_concurrency=1)
    elsewhere = await builders.event(webhook)
    await builders.begun(elsewhere)
    await builders.event(webhook)
    made = Dispatcher(handed, recorder, alone=False)
    assert await made._round() == dispatching.CONTENTION_SECONDS
    stopped.advance(0.05)
    assert await made._round() == pytest.approx(dispatching.FULL_SECONDS - 0.05, abs=0.001)
    assert handed.events == []


@pytest.mark.usefixtures("_no_poll", "recorder")
async def test_backlogs_that_limits_hold_back_hide_nobody(
    handed: Handed, recorder: Recorder, stopped: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them fills a look, and each is free again after two looks."""
    monkeypatch.setattr(dispatching, "CLAIM_EVENTS", 10)
    paced = [await builders.webhook(rate_limit_per_second=4) for _ in range(12)]
    for webhook in paced:
        for _ in range(15):
            await builders.event(webhook, due_in=-60)
    event = await builders.event(await builders.webhook())
    made = Dispatcher(handed, recorder)
    for _ in range(12):
        await made._round()
        stopped.advance(0.2)
    assert event.id in handed.events


@pytest.mark.on_postgres
@pytest.mark.usefixtures("_no_poll", "recorder")
async def test_a_webhook_that_somebody_has_locked_hides_nobody(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "CLAIM_EVENTS", 10)
    locked = await builders.webhook()
    for _ in range(15):
        await builders.event(locked, due_in=-60)
    event = await builders.event(await builders.webhook())
    made = Dispatcher(handed, recorder)
    holds, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with in_transaction() as db:
            await statements.lock(db, Webhook, id=locked.id)
            holds.set()
            await done.wait()

    holding = asyncio.create_task(hold())
    await holds.wait()
    for _ in range(3):
        await made._round()
    assert handed.events == [event.id]
    done.set()
    await holding
    for _ in range(3):
        await made._round()
    assert len(handed.events) == 16


@pytest.mark.usefixtures("_no_poll")
async def test_a_limit_that_is_lifted_is_found_out_without_a_wake_up(handed: Handed, recorder: Recorder) -> None:
    slow, bound = await builders.webhook(rate_limit_per_second=0.01), await builders.webhook(max_concurrency=1)
    for webhook in (slow, bound):
        for _ in range(3):
            await builders.event(webhook, due_in=-60)
    async with at_work(Dispatcher(handed, recorder)) as waits:
        await handed.wait_for(2)
        await eventually(lambda: waits[-1] > 0)
        assert max(waits) <= dispatching.LIMITS_SECONDS
        await asyncio.sleep(0.1)
        assert len(handed.events) == 2
        await Webhook.filter(id__in=[slow.id, bound.id]).update(rate_limit_per_second=None, max_concurrency=None)
        await handed.wait_for(6)  # long before the next slot of the rate, which is 100 s away


@pytest.mark.usefixtures("_no_poll")
async def test_what_a_dead_worker_had_begun_frees_its_room_when_its_lease_ends(
    handed: Handed, recorder: Recorder
) -> None:
    webhook = await builders.webhook(max_concurrency=2)
    lost = [await builders.event(webhook, due_in=-60) for _ in range(2)]
    await builders.begun(*lost)
    waiting = [await builders.event(webhook, due_in=-30) for _ in range(2)]
    async with at_work(Dispatcher(handed, recorder)):
        await asyncio.sleep(0.1)
        assert handed.events == []
        await Event.filter(id__in=[e.id for e in lost]).update(due_at=await clock.now())
        await handed.wait_for(2)
        assert waiting[0].id in handed.events, "it and a retry of what was lost take turns"
        await asyncio.sleep(0.1)
        assert len(handed.events) == 2
        assert [a.outcome for e in lost for a in await builders.attempts(e)] == ["ABANDONED"] * 2
