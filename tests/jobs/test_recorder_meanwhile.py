"""The recorder: late and duplicate results, and changes of events and webhooks during an attempt."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.jobs.attempt_writer import write_attempts
from ringback.jobs.outcomes import Abandoned
from ringback.jobs.result import abandon
from ringback.models.database import clock
from ringback.models.database.sql import fetch
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus, LogKind
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode
from ringback.models.queue import workers
from ringback.models.queue.workers import Orphan
from ringback.models.services import events
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.builders import OK, later, result
from tests.support.eventually import eventually_found

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_the_result_of_a_worker_that_released_the_event_is_dropped() -> None:
    webhook = await builders.webhook()
    kept, released = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.claim(kept, released)
    await workers.release(lease, [released.id])
    other = await builders.claim(released)
    now = await later()

    await write_attempts([result(released, lease, OK, ended_at=now), result(kept, lease, OK, ended_at=now)])

    assert (await builders.stored(kept)).status is EventStatus.SUCCEEDED
    assert await builders.attempts(released) == []
    assert await builders.log_of(released) == []
    stored = await builders.stored(released)
    assert (stored.status, stored.worker_id, stored.attempt_count) == (EventStatus.PENDING, other.worker_id, 0)


async def test_a_late_result_of_a_dead_worker_is_stored() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await builders.die(lease)

    await write_attempts([result(event, lease, OK, ended_at=await later())])

    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED


async def test_a_late_result_of_an_abandoned_attempt_is_dropped() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await builders.die(lease)
    (orphan,) = await workers.find_orphans(10)
    now = await later()
    await write_attempts([abandon(orphan, now)])
    next_lease = await builders.claim(event)

    await write_attempts([result(event, lease, OK, ended_at=now)])

    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "ABANDONED")]
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id) == (EventStatus.RETRYING, next_lease.worker_id)


async def test_a_late_result_does_not_count_for_a_later_attempt() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    now = await later()
    await write_attempts([result(event, lease, ended_at=now)])
    await builders.claim(event, lease=lease)

    await write_attempts([result(event, lease, OK, ended_at=now)])

    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "REJECTED")]
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.attempt_count) == (EventStatus.RETRYING, lease.worker_id, 1)


async def test_an_event_changed_during_its_attempt_is_read_again() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)
    await write_attempts([result(event, lease, builders.REFUSED, ended_at=await later())])
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.next_attempt_at) == (EventStatus.CANCELLED, 1, None)


@pytest.mark.parametrize("outcome", [OK, builders.REFUSED])
@pytest.mark.parametrize("is_abandoned_first", [True, False])
async def test_of_two_results_in_a_batch_the_abandonment_does_not_count(outcome: Any, is_abandoned_first: bool) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    now = await later()
    results = [abandon(Orphan(event.id, lease.worker_id, 0, now), now), result(event, lease, outcome, ended_at=now)]
    await write_attempts(results if is_abandoned_first else results[::-1])
    assert [a.outcome for a in await builders.attempts(event)] == [outcome.name]


@pytest.mark.parametrize("outcome", [OK, builders.REFUSED])
async def test_log_entries_have_the_order_of_the_results(outcome: Any) -> None:
    webhook = await builders.webhook()
    made = [await builders.event(webhook) for _ in range(3)][::-1]
    lease = await builders.claim(*made)
    now = await later()
    await write_attempts([result(event, lease, outcome, ended_at=now) for event in made])
    entries = await LogEntry.filter(kind=LogKind.ATTEMPT_FINISHED).order_by("id")
    assert [entry.event_id for entry in entries] == [event.id for event in made]


@pytest.mark.on_postgres
async def test_a_delivery_of_an_event_that_another_transaction_changes_is_stored_once() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    ended = result(event, lease, OK, ended_at=await later())
    changing, go_on = asyncio.Event(), asyncio.Event()

    async def change() -> None:
        async with in_transaction() as db:
            await Event.filter(id=event.id).using_db(db).update(max_attempts=9)
            changing.set()
            await go_on.wait()

    changed = asyncio.create_task(change())
    await changing.wait()
    written = asyncio.create_task(write_attempts([ended]))
    await eventually_found(waits_for_a_lock)
    go_on.set()
    await asyncio.gather(changed, written)
    assert [a.number for a in await builders.attempts(event)] == [1]
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.max_attempts) == (EventStatus.SUCCEEDED, 1, 9)


@pytest.mark.parametrize("outcome", [OK, builders.REFUSED])
async def test_a_late_result_in_a_batch_does_not_count_for_the_awaited_attempt(outcome: Any) -> None:
    event = await builders.event(await builders.webhook())
    first_lease = await builders.claim(event)
    now = await later()
    await write_attempts([abandon(Orphan(event.id, first_lease.worker_id, 0, now), now)])
    retried = await builders.stored(event)
    lease = await builders.claim(event)

    await write_attempts([result(event, first_lease, OK, ended_at=now), result(retried, lease, outcome, ended_at=now)])

    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "ABANDONED"), (2, outcome.name)]


async def test_two_deliveries_of_one_attempt_in_a_batch_count_once() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    now = await later()
    await write_attempts([result(event, lease, OK, ended_at=now), result(event, lease, OK, ended_at=now)])
    assert [a.number for a in await builders.attempts(event)] == [1]
    assert await builders.log_of(event) == ["ATTEMPT_FINISHED", "EVENT_SUCCEEDED"]


async def test_deliveries_of_a_worker_under_two_ids_are_all_stored() -> None:
    webhook = await builders.webhook()
    first, second = await builders.event(webhook), await builders.event(webhook)
    now = await later()
    results = [result(event, await builders.claim(event), OK, ended_at=now) for event in (first, second)]
    await write_attempts(results)
    for event in (first, second):
        assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]
        assert (await builders.stored(event)).status is EventStatus.SUCCEEDED


async def test_a_delivery_leaves_max_attempts_as_it_was() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.claim(event)
    await Webhook.filter(id=webhook.id).update(retry_delays=[1])
    await write_attempts([result(event, lease, OK, ended_at=await later())])
    assert (await builders.stored(event)).max_attempts == 3


async def test_the_result_of_an_event_that_is_gone_is_dropped() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await Event.filter(id=event.id).delete()
    await write_attempts([result(event, lease, OK, ended_at=await later())])
    assert await Attempt.all().count() == 0


async def test_an_abandoned_attempt_takes_a_number_and_leaves_the_schedule() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    claimed_at = (await builders.stored(event)).claimed_at
    assert claimed_at is not None
    now = await later()
    await write_attempts([abandon(Orphan(event.id, lease.worker_id, 0, claimed_at), now)])
    (attempt,) = await builders.attempts(event)
    assert (attempt.number, attempt.outcome, attempt.duration_ms) == (1, "ABANDONED", None)
    assert (attempt.started_at, attempt.error) == (claimed_at, Abandoned().error)
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.attempts_before_round) == (EventStatus.RETRYING, 1, 1)
    assert (stored.abandoned_in_a_row, stored.max_attempts, stored.next_attempt_at) == (1, 4, now)


@pytest.mark.parametrize("outcome", [OK, builders.REFUSED, Abandoned()])
async def test_an_event_cancelled_in_flight_keeps_its_attempt_and_stays_cancelled(outcome: Any) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await events.cancel(encode(Prefix.EVENT, event.id))
    cancelled_at = (await builders.stored(event)).finished_at
    await write_attempts([result(event, lease, outcome, ended_at=await later())])
    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, outcome.name)]
    stored = await builders.stored(event)
    assert (stored.status, stored.finished_at) == (EventStatus.CANCELLED, cancelled_at)
    assert (stored.worker_id, stored.next_attempt_at) == (None, None)
    assert await builders.log_of(event) == ["EVENT_CANCELLED", "ATTEMPT_FINISHED"]


@pytest.mark.parametrize("fields", [{"is_active": False}, {"deleted_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}])
async def test_no_attempt_follows_when_the_webhook_was_stopped_in_flight(fields: dict[str, Any]) -> None:
    webhook = await builders.webhook()
    refused, delivered = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.claim(refused, delivered)
    await Webhook.filter(id=webhook.id).update(**fields)
    now = await later()
    await write_attempts([result(refused, lease, ended_at=now), result(delivered, lease, OK, ended_at=now)])
    stored = await builders.stored(refused)
    assert (stored.status, stored.attempt_count, stored.next_attempt_at) == (EventStatus.CANCELLED, 1, None)
    assert (await builders.stored(delivered)).status is EventStatus.SUCCEEDED
    assert await builders.log_of(refused) == ["ATTEMPT_FINISHED", "EVENT_CANCELLED"]


async def waits_for_a_lock() -> bool:
    """Return whether a connection to the test's own database waits for a lock."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await fetch(Event._meta.db, waiting))


@pytest.mark.on_postgres
@pytest.mark.parametrize("outcome", [OK, builders.REFUSED])
async def test_a_webhook_stopped_while_a_result_waits_gets_no_further_attempt(outcome: Any) -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.claim(event)
    ended = result(event, lease, outcome, ended_at=await later())
    stopping, go_on = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        async with in_transaction() as db:
            await Webhook.filter(id=webhook.id).using_db(db).update(is_active=False)
            await events.cancel_waiting(db, webhook, "Stopped", await clock.now(db), tests=False)
            stopping.set()
            await go_on.wait()

    stopped = asyncio.create_task(stop())
    await stopping.wait()
    written = asyncio.create_task(write_attempts([ended]))
    await eventually_found(waits_for_a_lock)
    assert not written.done()
    go_on.set()
    await asyncio.gather(stopped, written)
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.next_attempt_at) == (EventStatus.CANCELLED, 1, None)
    assert await builders.log_of(event) == ["EVENT_CANCELLED", "ATTEMPT_FINISHED"]


async def test_a_test_event_goes_on_when_its_webhook_is_inactive() -> None:
    webhook = await builders.webhook(is_active=False)
    event = await builders.event(webhook, is_test=True)
    await write_attempts([result(event, await builders.claim(event), ended_at=await later())])
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_the_schedule_is_the_webhooks_as_it_is_now() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.claim(event)
    await Webhook.filter(id=webhook.id).update(retry_delays=[1, 2])
    ended_at = await later()
    await write_attempts([result(event, lease, ended_at=ended_at)])
    stored = await builders.stored(event)
    assert (stored.max_attempts, stored.next_attempt_at) == (2, ended_at + dt.timedelta(seconds=2))
