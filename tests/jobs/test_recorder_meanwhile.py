"""The recorder: whose results count, and changes of events and webhooks while attempts were running."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.jobs.outcomes import Abandoned
from ringback.jobs.recorder import abandoned, write
from ringback.models import clock, interventions
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode
from ringback.models.statements import fetch
from ringback.models.states import EventStatus
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.builders import OK, later, result
from tests.support.eventually import eventually_found

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_the_result_of_a_lost_lease_is_dropped_and_the_others_are_written() -> None:
    webhook = await builders.webhook()
    mine, taken = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.begun(mine, taken)
    await Event.filter(id=taken.id).update(lease=None, lease_begun_at=None, due_at=await later(-1))
    new_owner = await builders.begun(await builders.stored(taken))
    now = await later()
    await write([result(taken, lease, OK, ended_at=now), result(mine, lease, OK, ended_at=now)])
    assert (await builders.stored(mine)).status is EventStatus.SUCCEEDED
    assert await builders.attempts(taken) == []
    assert await builders.log_of(taken) == []
    stored = await builders.stored(taken)
    assert (stored.status, stored.lease, stored.attempt_count) == (EventStatus.PENDING, new_owner, 0)


async def test_what_became_of_an_event_while_its_attempt_was_under_way_counts() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    begun = await builders.stored(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)
    await write(
        [result(event, lease, builders.REFUSED, ended_at=await later())._replace(begun=builders.as_begun(begun))]
    )
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.next_attempt_at) == (EventStatus.CANCELLED, 1, None)


async def test_of_two_results_for_one_lease_the_first_counts() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    now = await later()
    await write([abandoned(event.id, lease, now, now), result(event, lease, OK, ended_at=now)])
    await write([result(event, lease, OK, ended_at=now)])
    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_the_result_of_an_event_that_is_gone_is_dropped() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await Event.filter(id=event.id).delete()
    await write([result(event, lease, OK, ended_at=await later())])
    assert await Attempt.all().count() == 0


async def test_an_abandoned_attempt_takes_a_number_and_leaves_the_schedule() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    begun_at = (await builders.stored(event)).lease_begun_at
    assert begun_at is not None
    now = await later()
    await write([abandoned(event.id, lease, begun_at, now)])
    (attempt,) = await builders.attempts(event)
    assert (attempt.number, attempt.outcome, attempt.duration_ms) == (1, "ABANDONED", None)
    assert (attempt.started_at, attempt.error) == (begun_at, Abandoned().error)
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.attempts_before_round) == (EventStatus.RETRYING, 1, 1)
    assert (stored.abandoned_in_a_row, stored.max_attempts, stored.due_at) == (1, 4, now)


@pytest.mark.parametrize("outcome", [OK, builders.REFUSED, Abandoned()])
async def test_an_event_cancelled_in_flight_keeps_its_attempt_and_stays_cancelled(outcome: Any) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await interventions.cancel(encode(Prefix.EVENT, event.id))
    cancelled_at = (await builders.stored(event)).finished_at
    await write([result(event, lease, outcome, ended_at=await later())])
    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, outcome.name)]
    stored = await builders.stored(event)
    assert (stored.status, stored.finished_at) == (EventStatus.CANCELLED, cancelled_at)
    assert (stored.due_at, stored.lease, stored.next_attempt_at) == (None, None, None)
    assert await builders.log_of(event) == ["EVENT_CANCELLED", "ATTEMPT_FINISHED"]


@pytest.mark.parametrize("fields", [{"is_active": False}, {"deleted_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}])
async def test_no_attempt_follows_when_the_webhook_was_stopped_in_flight(fields: dict[str, Any]) -> None:
    webhook = await builders.webhook()
    refused, delivered = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.begun(refused, delivered)
    await Webhook.filter(id=webhook.id).update(**fields)
    now = await later()
    await write([result(refused, lease, ended_at=now), result(delivered, lease, OK, ended_at=now)])
    stored = await builders.stored(refused)
    assert (stored.status, stored.attempt_count, stored.due_at) == (EventStatus.CANCELLED, 1, None)
    assert (await builders.stored(delivered)).status is EventStatus.SUCCEEDED
    assert await builders.log_of(refused) == ["ATTEMPT_FINISHED", "EVENT_CANCELLED"]


async def waits_for_a_lock() -> bool:
    """Return whether a connection to the test's own database waits for a lock."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await fetch(Event._meta.db, waiting))


@pytest.mark.on_postgres
async def test_no_attempt_follows_when_the_webhook_is_stopped_while_the_result_waits_for_its_event() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.begun(event)
    refused = result(event, lease, ended_at=await later())._replace(
        begun=builders.as_begun(await builders.stored(event))
    )
    stopping, go_on = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        async with in_transaction() as db:
            await Webhook.filter(id=webhook.id).using_db(db).update(is_active=False)
            await interventions.cancel_waiting(db, webhook, "Stopped", await clock.now(db), tests=False)
            stopping.set()
            await go_on.wait()

    stopped = asyncio.create_task(stop())
    await stopping.wait()
    written = asyncio.create_task(write([refused]))
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
    await write([result(event, await builders.begun(event), ended_at=await later())])
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_the_schedule_is_the_webhooks_as_it_is_now() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.begun(event)
    await Webhook.filter(id=webhook.id).update(retry_delays=[1, 2])
    ended_at = await later()
    await write([result(event, lease, ended_at=ended_at)])
    stored = await builders.stored(event)
    assert (stored.max_attempts, stored.next_attempt_at) == (2, ended_at + dt.timedelta(seconds=2))
