"""The claimer and limits: concurrency and rate of webhooks, shares of retries and suspects, and backlogs."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.jobs import claimer as claiming
from ringback.jobs.attempt_writer import write_attempts
from ringback.models.database import clock, sql
from ringback.models.enums import Action, EventStatus
from ringback.models.event import Event
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stopped import StoppedClock

pytestmark = pytest.mark.every_database

MakeBench = Callable[..., Awaitable[Bench]]
RETRY = {"status": EventStatus.RETRYING, "attempt_count": 1}


async def backlog(webhook: Webhook, events: int) -> None:
    """Insert many due events of a webhook in one statement."""
    now = await clock.now()
    due = now - dt.timedelta(seconds=60)
    await Event.bulk_create(
        Event(
            webhook_id=webhook.id,
            model="lead",
            action=Action.CREATED,
            is_test=True,
            test_item={"id": number},
            max_attempts=3,
            next_attempt_at=due,
            created_at=due,
        )
        for number in range(events)
    )


@asynccontextmanager
async def hold_lock(webhook: Webhook) -> AsyncIterator[None]:
    """Hold the lock of a webhook, like another worker that claims for it."""
    holding, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with in_transaction() as db:
            await sql.lock_row(db, Webhook, id=webhook.id)
            holding.set()
            await done.wait()

    task = asyncio.create_task(hold())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await holding.wait()
    try:
        yield
    finally:
        done.set()
        await task


@pytest.mark.usefixtures("_no_poll")
async def test_a_recorded_result_frees_a_limit_of_one(make_bench: MakeBench) -> None:
    bench = await make_bench(max_concurrency=1)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=number / 100 - 10) for number in range(10)]

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(10)
        await bench.wait_until_idle()

    assert bench.endpoint.event_ids == [event.id for event in events]
    assert bench.endpoint.most_unanswered == 1


@pytest.mark.usefixtures("_no_poll")
async def test_a_full_webhook_does_not_delay_another(make_bench: MakeBench) -> None:
    bench = await make_bench(max_concurrency=2)
    full, healthy = await builders.webhook(), await builders.webhook()
    events = [await builders.event(full, due_in=number / 100 - 10) for number in range(5)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(2)
        event = await builders.event(healthy)
        await bench.claimer.accept_message()
        await bench.endpoint.wait_for_requests(3)
        await asyncio.sleep(0.05)

    assert bench.endpoint.event_ids == [events[0].id, events[1].id, event.id]


@pytest.mark.usefixtures("_no_poll")
async def test_a_healthy_webhook_is_found_behind_1000_events_of_another(make_bench: MakeBench) -> None:
    bench = await make_bench(max_concurrency=1)
    full = await builders.webhook()
    await backlog(full, 1_000)
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(2)

    assert bench.endpoint.event_ids[1:] == [event.id]


async def test_a_healthy_webhook_is_found_behind_backlogs_of_paced_ones(make_bench: MakeBench) -> None:
    bench = await make_bench()
    for _ in range(12):
        await backlog(await builders.webhook(rate_limit_per_second=4), 15)
    event = await builders.event(await builders.webhook())

    async with bench.run_claimer():
        await eventually(lambda: event.id in bench.endpoint.event_ids)

    assert len(bench.endpoint.requests) <= 12 * 8, "the paced ones send four a second each"


@pytest.mark.on_postgres
@pytest.mark.usefixtures("_no_poll")
async def test_a_healthy_webhook_is_found_behind_a_backlog_that_another_worker_claims(make_bench: MakeBench) -> None:
    bench = await make_bench()
    busy = await builders.webhook()
    await backlog(busy, 20)
    event = await builders.event(await builders.webhook())

    async with AsyncExitStack() as stack:
        async with hold_lock(busy):
            await stack.enter_async_context(bench.run_claimer())
            await bench.endpoint.wait_for_requests()
            assert bench.endpoint.event_ids == [event.id]
        await bench.endpoint.wait_for_requests(21)


@pytest.mark.on_postgres
@pytest.mark.usefixtures("_no_poll")
async def test_a_webhook_that_another_worker_locks_is_looked_at_again_soon(bench: Bench) -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)

    async with AsyncExitStack() as stack:
        async with hold_lock(webhook):
            await stack.enter_async_context(bench.run_claimer())
            await bench.wait_for_claims(2)
            assert bench.waits[-1] == claiming.CONTENDED_SECONDS
            assert bench.endpoint.requests == []
        await bench.endpoint.wait_for_requests()

    assert bench.endpoint.event_ids == [event.id]


async def test_attempts_of_other_workers_count_under_the_limit(bench: Bench) -> None:
    webhook = await builders.webhook(max_concurrency=1)
    elsewhere, waiting = await builders.event(webhook, due_in=-1), await builders.event(webhook)
    lease = await builders.claim(elsewhere)
    bench.keeper.has_peers = True

    async with bench.run_claimer():
        await asyncio.sleep(0.1)
        assert bench.endpoint.requests == []
        assert bench.waits[0] == pytest.approx(claiming.FULL_SECONDS, abs=0.05)

        await write_attempts([builders.result(elsewhere, lease, builders.OK, ended_at=await clock.now())])
        await bench.endpoint.wait_for_requests()

    assert bench.endpoint.event_ids == [waiting.id]


async def test_a_worker_without_peers_waits_for_the_end_of_its_own_attempts(bench: Bench) -> None:
    webhook = await builders.webhook(max_concurrency=1)
    events = [await builders.event(webhook, due_in=-1), await builders.event(webhook)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()
        await bench.wait_for_claims(1)
        assert bench.waits[-1] == pytest.approx(claiming.POLL_SECONDS, abs=0.05)
        bench.endpoint.release()
        async with asyncio.timeout(claiming.POLL_SECONDS / 2):
            await bench.endpoint.wait_for_requests(2)

    assert bench.endpoint.event_ids == [event.id for event in events]


@pytest.mark.usefixtures("_no_poll")
async def test_a_paced_webhook_is_held_until_25_ms_before_its_slot(bench: Bench, stopped: StoppedClock) -> None:
    webhook = await builders.webhook(rate_limit_per_second=4)
    first, second, third = [await builders.event(webhook, due_in=number - 60) for number in range(3)]

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()
        # 25 ms before the slot in 250 ms, less the time that the claim itself has taken.
        assert 0.1 < bench.waits[-1] <= 0.226
        stopped.advance(0.199)
        await bench.wait_for_claims()
        assert bench.endpoint.event_ids == [first.id]

        stopped.advance(0.026)
        await bench.endpoint.wait_for_requests(2)
        await bench.wait_until_idle()

    assert bench.endpoint.event_ids == [first.id, second.id]
    stored = await builders.stored(second)
    assert stored.status is EventStatus.SUCCEEDED
    assert (await builders.stored(third)).worker_id is None
    slot = (await Webhook.get(id=webhook.id)).last_slot_at
    assert slot == stopped.now() + dt.timedelta(seconds=0.025)


@pytest.mark.usefixtures("_no_poll")
async def test_each_attempt_of_a_paced_webhook_has_a_slot_of_its_own(bench: Bench) -> None:
    webhook = await builders.webhook(rate_limit_per_second=20)
    events = [await builders.event(webhook, due_in=number / 100 - 10) for number in range(4)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(4)
        slots = [(await builders.stored(event)).next_attempt_at for event in events]
        bench.endpoint.release()
        await bench.wait_until_idle()

    for event, slot, next_slot in zip(events, slots, [*slots[1:], None], strict=True):
        (attempt,) = await builders.attempts(event)
        assert slot is not None
        assert (attempt.started_at - slot).total_seconds() > -0.006
        assert next_slot is None or (next_slot - slot).total_seconds() >= 0.05


async def test_a_limit_that_is_raised_is_found_without_a_message(bench: Bench) -> None:
    paced = await builders.webhook(rate_limit_per_second=0.01)
    limited = await builders.webhook(max_concurrency=1)
    for webhook in (paced, limited):
        for _ in range(3):
            await builders.event(webhook, due_in=-60)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(2)
        await asyncio.sleep(0.1)
        assert len(bench.endpoint.requests) == 2
        await Webhook.filter(id__in=[paced.id, limited.id]).update(rate_limit_per_second=None, max_concurrency=None)
        await bench.endpoint.wait_for_requests(4)

    assert max(bench.waits) <= 1.0


@pytest.mark.usefixtures("_no_poll")
async def test_a_webhook_that_answers_nothing_leaves_slots_for_others(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=8)
    hanging, healthy = await builders.webhook(), await builders.webhook()
    events = [await builders.event(hanging, due_in=number / 100 - 10) for number in range(20)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(4)
        await asyncio.sleep(0.05)
        # Their connections are opened at the same time.
        assert set(bench.endpoint.event_ids) == {event.id for event in events[:4]}

        event = await builders.event(healthy)
        await bench.claimer.accept_message()
        await bench.endpoint.wait_for_requests(5)
        assert bench.endpoint.event_ids[4:] == [event.id]

        bench.endpoint.release(events[0], event)
        await bench.endpoint.wait_for_requests(6)
        assert bench.endpoint.event_ids[5:] == [events[4].id]


@pytest.mark.usefixtures("_no_poll")
async def test_a_suspect_is_sent_alone(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=50)
    suspects = [
        await builders.event(await builders.webhook(), due_in=number - 10, abandoned_in_a_row=2) for number in range(3)
    ]
    plain = await builders.event(await builders.webhook())
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(2)
        await asyncio.sleep(0.05)
        assert set(bench.endpoint.event_ids) == {suspects[0].id, plain.id}

        for number in (1, 2):
            bench.endpoint.release(suspects[number - 1])
            await bench.endpoint.wait_for_requests(2 + number)
            await asyncio.sleep(0.05)
            assert bench.endpoint.event_ids[1 + number :] == [suspects[number].id]


@pytest.mark.usefixtures("_no_poll")
async def test_retries_never_take_the_last_quarter_of_the_slots(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=8)
    for number in range(12):
        await builders.event(await builders.webhook(), due_in=number / 100 - 60, **RETRY)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(6)
        await asyncio.sleep(0.05)
        assert len(bench.endpoint.requests) == 6

        event = await builders.event(await builders.webhook())
        await bench.claimer.accept_message()
        await bench.endpoint.wait_for_requests(7)
        await asyncio.sleep(0.05)

    assert bench.endpoint.event_ids[6:] == [event.id]


@pytest.mark.usefixtures("_no_poll")
async def test_a_retry_that_ends_frees_a_slot_for_the_next_retry(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=4)
    retries = [await builders.event(await builders.webhook(), due_in=number / 100 - 60, **RETRY) for number in range(4)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(3)
        bench.endpoint.release(retries[0])
        await bench.endpoint.wait_for_requests(4)

    assert bench.endpoint.event_ids == [event.id for event in retries]


@pytest.mark.usefixtures("_no_poll")
async def test_first_attempts_do_not_wait_for_a_flood_of_retries(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=50, max_concurrency=4)
    flooded = await builders.webhook()
    retries = [await builders.event(flooded, due_in=number / 100 - 60, **RETRY) for number in range(20)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(4)
        first = await builders.event(flooded)
        bench.endpoint.release(*retries[:2])
        await bench.endpoint.wait_for_requests(6)

    assert set(bench.endpoint.event_ids[4:]) == {first.id, retries[4].id}


async def test_attempts_of_a_dead_worker_free_their_limit(bench: Bench) -> None:
    webhook = await builders.webhook(max_concurrency=2)
    lost = [await builders.event(webhook, due_in=-60) for _ in range(2)]
    dead = await builders.claim(*lost)
    waiting = await builders.event(webhook, due_in=-30)

    async with bench.run_claimer():
        await asyncio.sleep(0.05)
        assert bench.endpoint.requests == []
        await builders.die(dead)
        async with bench.keep_lease():
            await bench.endpoint.wait_for_requests(3)
            await bench.wait_until_idle()

    assert sorted(bench.endpoint.event_ids) == sorted([*(event.id for event in lost), waiting.id])
    for event in lost:
        assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED", "DELIVERED"]


@pytest.mark.usefixtures("_no_poll")
async def test_results_waiting_to_be_recorded_take_slots_too(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench(slots=3)
    may_write = asyncio.Event()
    write = bench.recorder._write

    async def write_late(results: Any) -> None:
        await may_write.wait()
        await write(results)

    monkeypatch.setattr(bench.recorder, "_write", write_late)
    events = [await builders.event(await builders.webhook()) for _ in range(9)]

    async with bench.run_claimer():
        await eventually(lambda: len(bench.recorder) == 3)
        await asyncio.sleep(0.1)
        assert len(bench.endpoint.requests) == 3

        may_write.set()
        await bench.endpoint.wait_for_requests(9)

    assert sorted(bench.endpoint.event_ids) == sorted(event.id for event in events)
