"""Cancelling events one by one, or by deactivating or deleting their webhook."""

from uuid import UUID

import pytest

from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus
from ringback.models.event import Event
from ringback.models.queue import workers
from ringback.models.queue.claims import ClaimedBatch, claim
from ringback.models.queue.grants import ClaimRequest
from ringback.models.services import events as event_service
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.interventions import ended, key, public, refused, webhooks

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

WORKER = UUID(int=1)
ENDED = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


@pytest.mark.parametrize("status", [EventStatus.PENDING, EventStatus.RETRYING])
async def test_a_waiting_event_is_cancelled(status: EventStatus) -> None:
    event = await builders.event(await builders.webhook(), due_in=5, status=status)
    before = await clock.now()
    await event_service.cancel(public(event))
    stored = await builders.stored(event)
    assert (stored.status, stored.next_attempt_at) == (EventStatus.CANCELLED, None)
    assert stored.finished_at is not None
    assert stored.finished_at >= before
    (entry,) = await LogEntry.filter(event_id=event.id)
    assert (entry.kind, entry.message) == ("EVENT_CANCELLED", "Cancelled by request")


async def test_a_cancelled_event_is_not_claimed() -> None:
    webhook = await builders.webhook()
    due, later = await builders.event(webhook), await builders.event(webhook, due_in=60)

    await event_service.cancel(public(due))
    await event_service.cancel(public(later))

    assert await claim(WORKER, ClaimRequest(free_slots=9, retry_slots=9, max_concurrency=50)) == ClaimedBatch()


async def test_an_event_cancelled_in_flight_keeps_its_worker() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    claimed_at = (await builders.stored(event)).claimed_at

    await event_service.cancel(public(event))

    stored = await builders.stored(event)
    assert (stored.status, stored.next_attempt_at) == (EventStatus.CANCELLED, None)
    assert (stored.worker_id, stored.claimed_at) == (lease.worker_id, claimed_at)


async def test_an_event_cancelled_in_flight_is_not_claimed_after_its_release() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await event_service.cancel(public(event))

    await workers.release(lease, [event.id])

    assert (await builders.stored(event)).status is EventStatus.CANCELLED
    assert await claim(WORKER, ClaimRequest(free_slots=9, retry_slots=9, max_concurrency=50)) == ClaimedBatch()


@pytest.mark.parametrize("status", ENDED)
async def test_an_ended_event_cannot_be_cancelled(status: EventStatus) -> None:
    problem = await refused(event_service.cancel(public(await ended(await builders.webhook(), status))))
    assert problem.message == f"The event has already ended ({status}), so it cannot be cancelled."


async def create_events(webhook: Webhook) -> dict[str, Event]:
    """Create one event in each state."""
    events = {
        "pending": await builders.event(webhook, due_in=5),
        "retrying": await builders.event(webhook, due_in=240, status=EventStatus.RETRYING, attempt_count=1),
        "in flight": await builders.event(webhook),
        "test": await builders.event(webhook, is_test=True),
        "ended": await ended(webhook),
    }
    await builders.claim(events["in flight"])
    return events


async def states(events: dict[str, Event]) -> dict[str, tuple[EventStatus, bool, bool]]:
    """Return the status of each event, whether an attempt follows, and whether a worker has claimed it."""
    stored = {name: await builders.stored(event) for name, event in events.items()}
    return {name: (e.status, e.next_attempt_at is not None, e.worker_id is not None) for name, e in stored.items()}


CANCELLED = (EventStatus.CANCELLED, False, False)
IN_FLIGHT = (EventStatus.CANCELLED, False, True)


async def test_deactivating_a_webhook_cancels_its_waiting_events_except_tests() -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    events, untouched = await create_events(webhook), await builders.event(other, due_in=5)
    await webhooks().update(key(webhook), {"is_active": False})
    assert await states(events) == {
        "pending": CANCELLED,
        "retrying": CANCELLED,
        "in flight": IN_FLIGHT,
        "test": (EventStatus.PENDING, True, False),
        "ended": (EventStatus.FAILED, False, False),
    }
    assert (await builders.stored(untouched)).status is EventStatus.PENDING
    cancelled = [e for name, e in events.items() if name not in ("test", "ended")]
    entries = await LogEntry.all().order_by("id")
    assert [e.event_id for e in entries] == sorted(e.id for e in cancelled)
    assert {(e.kind, e.message) for e in entries} == {("EVENT_CANCELLED", "Cancelled: the webhook was deactivated")}
    deactivated = await Webhook.get(id=webhook.id)
    for event in cancelled:
        stored = await builders.stored(event)
        assert (stored.finished_at, stored.next_attempt_at) == (deactivated.updated_at, None)


async def test_deleting_a_webhook_cancels_its_tests_too_and_keeps_the_history() -> None:
    webhook = await builders.webhook()
    events = await create_events(webhook)
    await webhooks().delete(key(webhook))
    assert await states(events) == {
        "pending": CANCELLED,
        "retrying": CANCELLED,
        "in flight": IN_FLIGHT,
        "test": CANCELLED,
        "ended": (EventStatus.FAILED, False, False),
    }
    assert await Event.all().count() == 5
    assert (await Webhook.get(id=webhook.id)).deleted_at is not None


async def test_activating_a_webhook_again_restores_no_event() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook, due_in=5)
    await webhooks().update(key(webhook), {"is_active": False})
    await webhooks().update(key(webhook), {"is_active": True})
    assert (await builders.stored(event)).status is EventStatus.CANCELLED
    await event_service.redeliver(public(event))
    assert (await builders.stored(event)).status is EventStatus.PENDING
