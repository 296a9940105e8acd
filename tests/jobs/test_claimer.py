"""The claimer on a real database: the causes of a claim, its limits, and its stop."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from ringback.jobs import claimer as claiming
from ringback.models.background_tasks import end_tasks
from ringback.models.database import clock
from ringback.models.enums import EventStatus
from ringback.models.queue.claims import ClaimedBatch, Delivery, claim, find_next_due
from ringback.models.queue.grants import AHEAD, ClaimRequest
from ringback.models.queue.workers import WorkerLease
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.eventually import eventually

pytestmark = pytest.mark.every_database

MakeBench = Callable[..., Awaitable[Bench]]


@pytest.mark.usefixtures("_no_poll")
async def test_a_message_leads_to_a_claim(bench: Bench) -> None:
    async with bench.run_claimer():
        event = await builders.event(await builders.webhook())
        await asyncio.sleep(0.05)
        assert bench.endpoint.requests == [], "there was no message"

        assert await bench.accept_message()
        await bench.endpoint.wait_for_requests()
        await bench.wait_until_idle()

    assert bench.endpoint.event_ids == [event.id]
    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED


async def test_without_a_message_a_poll_finds_the_event(bench: Bench) -> None:
    async with bench.run_claimer():
        event = await builders.event(await builders.webhook())
        await bench.endpoint.wait_for_requests()

    assert bench.endpoint.event_ids == [event.id]
    assert max(bench.waits) <= 1.0


@pytest.mark.usefixtures("_no_poll")
async def test_the_next_due_event_is_claimed_by_a_timer(bench: Bench) -> None:
    soon = await builders.event(await builders.webhook(), due_in=0.4)
    later = await builders.event(await builders.webhook(), due_in=300)

    async with bench.run_claimer():
        first_wait = bench.waits[0]
        assert bench.endpoint.requests == []
        await bench.endpoint.wait_for_requests()
        await bench.wait_until_idle()

    assert 0 < first_wait <= 0.4 - AHEAD.total_seconds() / 2
    assert bench.endpoint.event_ids == [soon.id]
    (attempt,) = await builders.attempts(soon)
    assert soon.next_attempt_at is not None
    assert (attempt.started_at - soon.next_attempt_at).total_seconds() > -0.006
    assert (await builders.stored(later)).worker_id is None


@pytest.mark.usefixtures("_no_poll")
async def test_an_event_due_right_after_a_claim_does_not_wait_for_the_poll(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.3)
    due_at = event.next_attempt_at
    assert due_at is not None

    async def next_due_late(*args: Any) -> dt.datetime | None:
        while await clock.now() + AHEAD <= due_at:
            await asyncio.sleep(0.005)
        return await find_next_due(*args)

    monkeypatch.setattr(claiming, "find_next_due", next_due_late)
    async with bench.run_claimer():
        first_wait = bench.waits[0]

    assert first_wait <= AHEAD.total_seconds()


@pytest.mark.usefixtures("_no_poll")
async def test_a_free_slot_leads_to_the_next_claim(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=2)
    events = [await builders.event(await builders.webhook(), due_in=number - 10) for number in range(3)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(2)
        await asyncio.sleep(0.05)
        assert bench.endpoint.event_ids == [events[0].id, events[1].id]
        assert (await builders.stored(events[2])).worker_id is None

        bench.endpoint.release(events[0])
        await bench.endpoint.wait_for_requests(3)

    assert bench.endpoint.event_ids == [event.id for event in events]


@pytest.mark.usefixtures("_no_poll")
async def test_one_message_is_enough_for_more_events_than_slots(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=2)
    async with bench.run_claimer():
        events = [await builders.event(await builders.webhook()) for _ in range(25)]

        assert await bench.accept_message()
        await bench.endpoint.wait_for_requests(25)
        await bench.wait_until_idle()

    assert sorted(bench.endpoint.event_ids) == sorted(event.id for event in events)
    assert bench.endpoint.most_unanswered <= 2


@pytest.mark.usefixtures("_no_poll")
async def test_the_claimer_sleeps_while_every_slot_is_taken(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=2)
    webhook = await builders.webhook()
    for _ in range(20):
        await builders.event(webhook, due_in=-10)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()
        await asyncio.sleep(0.05)
        looks = len(bench.waits)
        await asyncio.sleep(0.3)

        assert len(bench.waits) - looks <= 1
        assert len(bench.endpoint.requests) == 1, "a webhook alone gets half of the slots"


@pytest.mark.usefixtures("_no_poll")
async def test_the_next_claim_does_not_wait_for_the_start_of_attempts(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench()
    claimed: list[int] = []
    may_start = asyncio.Event()
    start = bench.deliverer.start

    async def claim_and_count(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        batch = await claim(worker_id, request)
        claimed.append(len(batch.deliveries))
        return batch

    async def start_late(lease: WorkerLease, deliveries: Sequence[Delivery]) -> None:
        await may_start.wait()
        await start(lease, deliveries)

    monkeypatch.setattr(claiming, "claim", claim_and_count)
    monkeypatch.setattr(bench.deliverer, "start", start_late)
    events = [await builders.event(await builders.webhook())]

    async with bench.run_claimer():
        events.append(await builders.event(await builders.webhook()))
        assert await bench.accept_message()
        await eventually(lambda: claimed == [1, 1])
        assert bench.endpoint.requests == []
        may_start.set()
        await bench.endpoint.wait_for_requests(2)

    assert bench.endpoint.event_ids == [event.id for event in events]


@pytest.mark.usefixtures("_no_poll")
async def test_duplicate_messages_deliver_an_event_once(bench: Bench) -> None:
    async with bench.run_claimer():
        event = await builders.event(await builders.webhook())

        await asyncio.gather(*(bench.accept_message() for _ in range(10)))
        await bench.endpoint.wait_for_requests()
        await bench.wait_until_idle()
        await asyncio.sleep(0.05)

    assert bench.endpoint.event_ids == [event.id]


@pytest.mark.on_postgres
async def test_an_expired_lease_claims_nothing_until_it_is_renewed(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    bench.keeper.lease.ends_at = 0.0
    event = await builders.event(await builders.webhook())

    async with bench.run_claimer():
        await bench.accept_message()
        await bench.wait_for_claims()
        assert (await builders.stored(event)).worker_id is None
        assert bench.endpoint.requests == []

        async with bench.keep_lease():
            await bench.endpoint.wait_for_requests()

    assert bench.endpoint.event_ids == [event.id]


@pytest.mark.on_postgres
async def test_a_worker_declared_dead_claims_under_a_new_id(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    dead_id = bench.keeper.lease.worker_id
    await builders.die(bench.keeper.lease)
    bench.keeper.lease.ends_at = 0.0
    bench.endpoint.hold()

    async with bench.run_claimer(), bench.keep_lease():
        event = await builders.event(await builders.webhook())
        await bench.endpoint.wait_for_requests()
        stored = await builders.stored(event)
        bench.endpoint.release()
        await bench.wait_until_idle()

    assert stored.worker_id == bench.keeper.lease.worker_id != dead_id
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


@pytest.mark.usefixtures("_no_poll")
async def test_a_stop_claims_nothing_more(bench: Bench) -> None:
    async with bench.run_claimer():
        pass
    event = await builders.event(await builders.webhook())

    assert await bench.accept_message()
    await asyncio.sleep(0.05)

    assert (await builders.stored(event)).worker_id is None
    assert bench.endpoint.requests == []


async def test_a_stop_releases_events_that_wait_for_an_earlier_start(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench()
    claimed: list[int] = []

    async def claim_and_count(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        batch = await claim(worker_id, request)
        claimed.append(len(batch.deliveries))
        return batch

    async def hang(lease: WorkerLease, deliveries: Sequence[Delivery]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(claiming, "claim", claim_and_count)
    monkeypatch.setattr(bench.deliverer, "start", hang)
    await builders.event(await builders.webhook())
    running = asyncio.create_task(bench.claimer.run())
    await eventually(lambda: claimed == [1])
    waiting = await builders.event(await builders.webhook())
    assert await bench.accept_message()
    await eventually(lambda: claimed == [1, 1])

    bench.claimer.stop()
    await end_tasks(running)
    await bench.keeper.leave()

    stored = await builders.stored(waiting)
    assert (stored.status, stored.worker_id) == (EventStatus.PENDING, None)
    assert await builders.attempts(waiting) == []
