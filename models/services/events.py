"""Fire test events, and redeliver and cancel events (rules 9, 11 and 12 in docs/architecture.md)."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.sql import execute, is_postgres, lock_row
from ringback.models.database.unit_of_work import require_unit
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, EventStatus, LogKind
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.event import Event
from ringback.models.ids import Prefix, new_key
from ringback.models.queue.claims import WAITING_STATUSES
from ringback.models.services import webhook_models
from ringback.models.services.validation import parse_id, require_found, require_webhook
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking import outbox
from ringback.models.tracking.outbox import NewEvent
from ringback.models.webhook import Webhook

# The three statements below use the index ringback_event(webhook_id, status, id). Parameter $1 is the webhook, $2
# whether its test events are included.

# Lock the waiting events on Postgres, in the order of their ids, so that two transactions cannot deadlock.
_LOCK_WAITING = """
SELECT FROM ringback_event
WHERE webhook_id = $1 AND status IN ('PENDING', 'RETRYING') AND (NOT is_test OR $2)
ORDER BY id
FOR UPDATE
"""
# Write a log entry for each waiting event, before the statement that cancels them.
_LOG_WAITING = """
INSERT INTO ringback_log (at, kind, message, webhook_id, event_id, model)
SELECT $3, $4, $5, webhook_id, id, model
FROM ringback_event
WHERE webhook_id = $1 AND status IN ('PENDING', 'RETRYING') AND (NOT is_test OR $2)
ORDER BY id
"""
# Cancel the waiting events. Events in flight keep their worker, so that the running attempt is recorded.
_CANCEL_WAITING = """
UPDATE ringback_event
SET status = 'CANCELLED', next_attempt_at = NULL, finished_at = $3
WHERE webhook_id = $1 AND status IN ('PENDING', 'RETRYING') AND (NOT is_test OR $2)
"""
_MAX_OBJECT_ID_CHARS = 255


async def test_fire(webhook_id: str, action: Action, item: Any) -> Event:
    """Record a test event that is due at once, even if the webhook is inactive or its condition is false.

    `item` is a JSON value from the client; None stands for the model's sample. Raises InputRejected.
    """
    key = parse_id(Prefix.WEBHOOK, webhook_id, "webhook_id")
    if item is not None and not isinstance(item, Mapping):
        raise InputRejected(Problem('item is not a JSON object. Send an object, such as {"name": "Maria"}.', "item"))
    async with in_transaction() as db:
        webhook = require_webhook(await lock_row(db, Webhook, id=key), webhook_id, "webhook_id")
        if item is None:
            model = await webhook_models.find(webhook.model, db)
            item = model.sample if model else {}
        now = await clock.now(db)
        event = NewEvent(
            id=new_key(),
            webhook_id=webhook.id,
            change_id=None,
            model=webhook.model,
            action=action,
            object_id=_test_object_id(item),
            is_test=True,
            test_item=dict(item),
            max_attempts=len(webhook.retry_delays),
            next_attempt_at=now,
            created_at=now,
        )
        await outbox.save_events(db, [], [event])
    return Event(**event._asdict())


async def redeliver(event_id: str) -> Event:
    """Make the next attempt of a retrying event due now, or start a new round of an ended one with an attempt now.

    Raises InputRejected. Rule 12 in docs/architecture.md.
    """
    async with in_transaction() as db:
        event, webhook = await _lock_event(db, event_id)
        _check_redeliverable(event, webhook)
        now = await clock.now(db)
        if event.status is not EventStatus.RETRYING:
            _start_new_round(event, webhook)
        event.next_attempt_at = now
        await event.save(using_db=db)
        message = f"Redelivery requested; attempt {event.attempt_count + 1} due at {format_timestamp(now)}"
        await _log(db, event, LogKind.RETRY_SCHEDULED, message, now)
        require_unit(db).on_commit(lambda: notifier.notify_if_due_soon([now], now))
    return event


async def cancel(event_id: str) -> Event:
    """Cancel a waiting event. An attempt in flight is finished and recorded. Raises InputRejected."""
    async with in_transaction() as db:
        event, _ = await _lock_event(db, event_id)
        if event.status not in WAITING_STATUSES:
            raise _conflict(f"The event has already ended ({event.status}), so it cannot be cancelled.")
        now = await clock.now(db)
        event.status = EventStatus.CANCELLED
        event.next_attempt_at = None
        event.finished_at = now
        await event.save(using_db=db)
        await _log(db, event, LogKind.EVENT_CANCELLED, "Cancelled by request", now)
    return event


async def cancel_waiting(
    db: BaseDBAsyncClient, webhook: Webhook, reason: str, now: dt.datetime, *, tests: bool
) -> None:
    """Cancel a webhook's waiting events within the caller's transaction, its test events too if `tests`.

    `reason` is the message of the log entries. The number of statements does not depend on the number of events.
    """
    if is_postgres(db):
        await execute(db, _LOCK_WAITING, webhook.id, tests)
    await execute(db, _LOG_WAITING, webhook.id, tests, now, LogKind.EVENT_CANCELLED, reason)
    await execute(db, _CANCEL_WAITING, webhook.id, tests, now)
    require_unit(db).on_commit(lambda: notifier.notify(Topic.LOGGED))


def _test_object_id(item: Mapping[str, Any]) -> str | None:
    object_id = item.get("id")
    return None if object_id is None else str(object_id)[:_MAX_OBJECT_ID_CHARS]


async def _lock_event(db: BaseDBAsyncClient, event_id: str) -> tuple[Event, Webhook]:
    key = parse_id(Prefix.EVENT, event_id)
    unlocked = require_found(await Event.get_or_none(id=key, using_db=db), "event", event_id)
    # Lock the webhook first, as deactivating it does, so that the two cannot deadlock.
    webhook = require_found(await lock_row(db, Webhook, id=unlocked.webhook_id), "event", event_id)
    event = require_found(await lock_row(db, Event, id=key), "event", event_id)
    return event, webhook


def _check_redeliverable(event: Event, webhook: Webhook) -> None:
    if event.status is EventStatus.PENDING:
        raise _conflict("The event has not had its first attempt yet. Redeliver it after that attempt.")
    if webhook.deleted_at is not None:
        raise _conflict("The event's webhook was deleted, so the event cannot be redelivered.")
    if not webhook.is_active and not event.is_test:
        raise _conflict("The event's webhook is inactive. Activate it first.")
    if event.worker_id is not None:
        raise _conflict("An attempt is in flight. Redeliver the event when the attempt has ended.")


def _start_new_round(event: Event, webhook: Webhook) -> None:
    """Start the schedule again. Attempt numbers continue, and `max_attempts` grows by one round."""
    event.status = EventStatus.RETRYING if event.attempt_count else EventStatus.PENDING
    event.attempts_before_round = event.attempt_count
    event.abandoned_in_a_row = 0
    event.max_attempts = event.attempt_count + len(webhook.retry_delays)
    event.finished_at = None


async def _log(db: BaseDBAsyncClient, event: Event, kind: LogKind, message: str, now: dt.datetime) -> None:
    await LogEntry.create(
        at=now,
        kind=kind,
        message=message,
        webhook_id=event.webhook_id,
        event_id=event.id,
        model=event.model,
        using_db=db,
    )
    require_unit(db).on_commit(lambda: notifier.notify(Topic.LOGGED))


def _conflict(message: str) -> InputRejected:
    return InputRejected(Problem(message, "id", ProblemCode.CONFLICT))
