"""Cancelling events, one by one and by stopping their webhook."""

import datetime as dt

import pytest

from ringback.models import claims, clock, interventions
from ringback.models.event import Event
from ringback.models.log import LogEntry
from ringback.models.states import EventStatus
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.interventions import ended, key, public, refused, webhooks

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

ENDED = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


@pytest.mark.parametrize("status", [EventStatus.PENDING, EventStatus.RETRYING])
async def test_a_waiting_event_is_cancelled(status: EventStatus) -> None:
    event = await builders.event(await builders.webhook(), due_in=5, status=status)
    before = await clock.now()
    await interventions.cancel(public(event))
    stored = await builders.stored(event)
    assert (stored.status, stored.next_attempt_at, stored.due_at) == (EventStatus.CANCELLED, None, None)
    assert stored.finished_at is not None
    assert stored.finished_at >= before
    (entry,) = await LogEntry.filter(event_id=event.id)
    assert (entry.kind, entry.message) == ("EVENT_CANCELLED", "Cancelled by request")


async def test_cancelling_takes_a_claim_that_was_not_begun_and_leaves_nothing_to_be_looked_at() -> None:
    event = await builders.event(await builders.webhook())
    await builders.claimed(event)
    await interventions.cancel(public(event))
    stored = await builders.stored(event)
    assert (stored.lease, stored.due_at) == (None, None)
    assert await claims.next_due(stored.created_at - dt.timedelta(days=1)) is None


async def test_cancelling_in_flight_keeps_the_lease_so_that_the_attempt_is_recorded() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await interventions.cancel(public(event))
    stored = await builders.stored(event)
    assert (stored.status, stored.lease) == (EventStatus.CANCELLED, lease)
    assert stored.due_at is not None


@pytest.mark.parametrize("status", ENDED)
async def test_an_ended_event_cannot_be_cancelled(status: EventStatus) -> None:
    problem = await refused(interventions.cancel(public(await ended(await builders.webhook(), status))))
    assert problem.message == f"The event has already ended ({status}); there is nothing to cancel."


async def waiting(webhook: Webhook) -> dict[str, Event]:
    """Events of every kind that a webhook may have when it is stopped."""
    found = {
        "pending": await builders.event(webhook, due_in=5),
        "retrying": await builders.event(webhook, due_in=240, status=EventStatus.RETRYING, attempt_count=1),
        "claimed": await builders.event(webhook, due_in=0.4),
        "in flight": await builders.event(webhook),
        "test": await builders.event(webhook, is_test=True),
        "ended": await ended(webhook),
    }
    await builders.claimed(found["claimed"])
    await builders.begun(found["in flight"])
    return found


async def states(events: dict[str, Event]) -> dict[str, tuple[EventStatus, bool, bool]]:
    """Of each event its status, whether it is looked at again, and whether somebody has its lease."""
    found = {name: await builders.stored(event) for name, event in events.items()}
    return {name: (e.status, e.due_at is not None, e.lease is not None) for name, e in found.items()}


GONE = (EventStatus.CANCELLED, False, False)

UNDER_WAY = (EventStatus.CANCELLED, True, True)


async def test_deactivating_a_webhook_cancels_its_waiting_events_but_tests() -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    events, untouched = await waiting(webhook), await builders.event(other, due_in=5)
    await webhooks().update(key(webhook), {"is_active": False})
    assert await states(events) == {
        "pending": GONE,
        "retrying": GONE,
        "claimed": GONE,
        "in flight": UNDER_WAY,
        "test": (EventStatus.PENDING, True, False),
        "ended": (EventStatus.FAILED, False, False),
    }
    assert (await builders.stored(untouched)).status is EventStatus.PENDING
    cancelled = [e for name, e in events.items() if name not in ("test", "ended")]
    entries = await LogEntry.all().order_by("id")
    assert [e.event_id for e in entries] == sorted(e.id for e in cancelled)
    assert {(e.kind, e.message) for e in entries} == {("EVENT_CANCELLED", "Cancelled: the webhook was deactivated")}
    stopped = await Webhook.get(id=webhook.id)
    for event in cancelled:
        stored = await builders.stored(event)
        assert (stored.finished_at, stored.next_attempt_at) == (stopped.updated_at, None)


async def test_deleting_a_webhook_cancels_tests_too_and_keeps_the_history() -> None:
    webhook = await builders.webhook()
    events = await waiting(webhook)
    await webhooks().delete(key(webhook))
    assert await states(events) == {
        "pending": GONE,
        "retrying": GONE,
        "claimed": GONE,
        "in flight": UNDER_WAY,
        "test": GONE,
        "ended": (EventStatus.FAILED, False, False),
    }
    assert await Event.all().count() == 6
    assert (await Webhook.get(id=webhook.id)).deleted_at is not None


async def test_activating_again_brings_nothing_back() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook, due_in=5)
    await webhooks().update(key(webhook), {"is_active": False})
    await webhooks().update(key(webhook), {"is_active": True})
    assert (await builders.stored(event)).status is EventStatus.CANCELLED
    await interventions.redeliver(public(event))
    assert (await builders.stored(event)).status is EventStatus.PENDING
