"""What people do to events: fire a test, redeliver, cancel (rules 9, 11 and 12 of the design)."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.sql import execute, is_postgres, lock
from ringback.models.database.unit_of_work import require_unit
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, EventStatus, LogKind
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.event import Event
from ringback.models.ids import Prefix, new_key
from ringback.models.queue.claims import WAITING
from ringback.models.services import webhook_models
from ringback.models.services.validation import parse_id, require_found
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking import outbox
from ringback.models.tracking.outbox import NewEvent
from ringback.models.webhook import Webhook


async def test_fire(webhook_id: str, action: Action, item: Any) -> Event:
    """Record a test event of a webhook, due at once, whatever its condition and activity say.

    `item` is any JSON value as a client sent it; None sends the model's sample. Raises InputRejected.
    """
    key = parse_id(Prefix.WEBHOOK, webhook_id, "webhook_id")
    if item is not None and not isinstance(item, Mapping):
        raise InputRejected(Problem('must be a JSON object, such as {"name": "Maria"}', "item"))
    async with in_transaction() as db:
        webhook = require_found(await lock(db, Webhook, id=key, deleted_at=None), "webhook", webhook_id, "webhook_id")
        if item is None:
            model = await webhook_models.find(webhook.model, db)
            item = model.sample if model else {}
        now = await clock.now(db)
        object_id = item.get("id")
        event = NewEvent(
            id=new_key(),
            webhook_id=webhook.id,
            change_id=None,
            model=webhook.model,
            action=action,
            object_id=None if object_id is None else str(object_id)[:255],
            is_test=True,
            test_item=dict(item),
            max_attempts=len(webhook.retry_delays),
            next_attempt_at=now,
            created_at=now,
        )
        await outbox.save_events(db, [], [event])
    return Event(**event._asdict())


async def redeliver(event_id: str) -> Event:
    """Make the waiting attempt of a retrying event now, or begin a new round of an ended one; raises InputRejected."""
    async with in_transaction() as db:
        event, webhook = await _event(db, event_id)
        _check_redeliverable(event, webhook)
        now = await clock.now(db)
        if event.status is EventStatus.RETRYING:
            due = now
        else:
            due = now + dt.timedelta(seconds=webhook.retry_delays[0])
            event.status = EventStatus.RETRYING if event.attempt_count else EventStatus.PENDING
            event.attempts_before_round = event.attempt_count
            event.abandoned_in_a_row = 0
            event.max_attempts = event.attempt_count + len(webhook.retry_delays)
            event.finished_at = None
        event.next_attempt_at = due
        await event.save(using_db=db)
        message = f"Redelivery asked for; attempt {event.attempt_count + 1} due at {format_timestamp(due)}"
        await _log(db, event, LogKind.RETRY_SCHEDULED, message, now)
        require_unit(db).on_commit(lambda: notifier.notify_if_due_soon([due], now))
    return event


async def cancel(event_id: str) -> Event:
    """Cancel an event that still waits; an attempt in flight ends and is kept. Raises InputRejected."""
    async with in_transaction() as db:
        event, _ = await _event(db, event_id)
        if event.status not in WAITING:
            raise _conflict(f"The event has already ended ({event.status}); there is nothing to cancel.")
        now = await clock.now(db)
        event.status = EventStatus.CANCELLED
        event.next_attempt_at = None
        event.finished_at = now
        await event.save(using_db=db)
        await _log(db, event, LogKind.EVENT_CANCELLED, "Cancelled by request", now)
    return event


async def cancel_waiting(db: BaseDBAsyncClient, webhook: Webhook, why: str, now: dt.datetime, *, tests: bool) -> None:
    """Cancel, within the caller's transaction, the waiting events of a webhook that fires no more.

    `tests` says whether test events go with them: they outlive a deactivation (rule 11), not a deletion. It takes two
    statements, however many there are. Events in flight keep their worker, so that the attempt is recorded.
    """
    waiting = f"webhook_id = $1 AND status IN ('{EventStatus.PENDING}', '{EventStatus.RETRYING}')"
    if not tests:
        waiting += " AND NOT is_test"
    if is_postgres(db):
        await execute(db, f"SELECT FROM ringback_event WHERE {waiting} ORDER BY id FOR UPDATE", webhook.id)
    log_entries = (
        "INSERT INTO ringback_log (at, kind, message, webhook_id, event_id, model) "
        f"SELECT $2, $3, $4, webhook_id, id, model FROM ringback_event WHERE {waiting} ORDER BY id"
    )
    await execute(db, log_entries, webhook.id, now, LogKind.EVENT_CANCELLED, why)
    cancelled = f"UPDATE ringback_event SET status = $2, next_attempt_at = NULL, finished_at = $3 WHERE {waiting}"
    await execute(db, cancelled, webhook.id, EventStatus.CANCELLED, now)
    require_unit(db).on_commit(lambda: notifier.notify(Topic.LOGGED))


def _check_redeliverable(event: Event, webhook: Webhook) -> None:
    if event.status is EventStatus.PENDING:
        raise _conflict("The event has not had its first attempt yet; there is nothing to redeliver.")
    if webhook.deleted_at is not None:
        raise _conflict("The event's webhook was deleted; nothing can be delivered for it.")
    if not webhook.is_active and not event.is_test:
        raise _conflict("The event's webhook is not active: activate it first.")
    if event.worker_id is not None:
        raise _conflict("An attempt is still under way: redeliver when it has ended.")


async def _event(db: BaseDBAsyncClient, event_id: str) -> tuple[Event, Webhook]:
    key = parse_id(Prefix.EVENT, event_id)
    unlocked = require_found(await Event.get_or_none(id=key, using_db=db), "event", event_id)
    # The webhook first, as those do who deactivate one.
    webhook = require_found(await lock(db, Webhook, id=unlocked.webhook_id), "event", event_id)
    return require_found(await lock(db, Event, id=key), "event", event_id), webhook


async def _log(db: BaseDBAsyncClient, event: Event, kind: LogKind, message: str, now: dt.datetime) -> None:
    about = {"webhook_id": event.webhook_id, "event_id": event.id, "model": event.model}
    await LogEntry.create(at=now, kind=kind, message=message, **about, using_db=db)
    require_unit(db).on_commit(lambda: notifier.notify(Topic.LOGGED))


def _conflict(message: str) -> InputRejected:
    return InputRejected(Problem(message, "id", ProblemCode.CONFLICT))
