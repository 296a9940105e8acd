"""Writes the results of attempts in one transaction: attempts, new states of events, and log entries.

A result counts only if its event still names the worker and the attempt number of the result. The transaction locks the
event's row to check that.
"""

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.jobs.attempt_rows import AttemptRow, LogRow, RecordedAttempt, attempt_row, log_rows
from ringback.jobs.result import Result
from ringback.jobs.retry import Progress, after_attempt
from ringback.models.database.bulk_write import insert_values, update_values
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.row_decoding import load_by_id
from ringback.models.database.sql import array_parameter, as_uuid, fetch_rows, is_postgres
from ringback.models.delivery_log import LogEntry
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key_at
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.redaction import DEFAULT, Redaction
from ringback.models.timestamps import format_timestamp

logger = structlog.get_logger("ringback.delivery")

#: Columns of an event to write after an attempt. The worker and the time of its claim become null.
_EVENT_COLUMNS = ("id", *Progress._fields, "worker_id", "claimed_at")


class _LockedRow(NamedTuple):
    """The columns of `_LOCK_EVENTS`, as the driver returns them."""

    event_id: UUID | str
    worker_id: UUID | str | None
    status: str
    attempt_count: int
    attempts_before_round: int
    max_attempts: int
    retry_delays: str
    is_active: bool
    is_deleted: bool


async def write_attempts(results: Sequence[Result], redaction: Redaction = DEFAULT) -> None:
    """Write results in one transaction, redacted. Results of attempts that are recorded already are dropped."""
    async with in_transaction() as db:
        events = await _lock_events(db, results)
        attempts: list[RecordedAttempt] = []
        for result in results:
            locked = events.pop(result.event_id, None)
            if locked is None:
                event_id = encode(Prefix.EVENT, result.event_id)
                logger.info("result dropped: the attempt is recorded already", action="record", event_id=event_id)
                continue
            attempts.append(_record(*locked, result, redaction))
        if not attempts:
            return
        log_entries: list[LogRow] = []
        for attempt in attempts:
            log_entries += log_rows(attempt)
        attempt_rows = [attempt_row(attempt, redaction) for attempt in attempts]
        event_rows = [(attempt.event.id, *attempt.progress, None, None) for attempt in attempts]
        await insert_values(db, Attempt, AttemptRow._fields, attempt_rows)
        await update_values(db, Event, _EVENT_COLUMNS, event_rows)
        await insert_values(db, LogEntry, LogRow._fields, log_entries)
    _notify(attempts)
    _log_attempts(attempts)


async def _lock_events(
    db: BaseDBAsyncClient, results: Sequence[Result]
) -> dict[UUID, tuple[Event | ClaimedEvent, _LockedRow]]:
    """Lock the events whose attempts are not recorded yet, and return them as they are now, with their rows."""
    rows = await _fetch_locked_rows(db, [result.event_id for result in results])
    locked: dict[UUID, tuple[Event | ClaimedEvent, _LockedRow]] = {}
    changed: list[UUID] = []
    for result in results:
        row = rows.get(result.event_id)
        if row is None or not _is_awaited(result, row):
            continue
        event = result.event
        if event is not None and _is_unchanged(event, row):
            locked[result.event_id] = event, row
        else:
            changed.append(result.event_id)
    for event_id, changed_event in (await load_by_id(db, Event, changed)).items():
        locked[event_id] = changed_event, rows[event_id]
    return locked


async def _fetch_locked_rows(db: BaseDBAsyncClient, event_ids: Sequence[UUID]) -> dict[UUID, _LockedRow]:
    statement = _READ_EVENTS_ON_SQLITE
    if is_postgres(db):
        statement = _LOCK_EVENTS
    rows = await fetch_rows(db, statement, array_parameter(db, event_ids))
    return {as_uuid(row[0]): _LockedRow._make(row) for row in rows}


#: Events by their primary key, with their webhooks, in the order of ids so that transactions cannot deadlock. Stopping
#: a webhook cancels its waiting events in the same transaction. So if this statement waits for that transaction, the
#: event's status is current, even if the webhook's columns were read before it.
_LOCK_EVENTS = """
SELECT event.id, worker_id, status, attempt_count, attempts_before_round, max_attempts,
       retry_delays, is_active, webhook.deleted_at IS NOT NULL
FROM ringback_event event JOIN ringback_webhook webhook ON webhook.id = webhook_id
WHERE event.id = ANY($1::uuid[]) ORDER BY event.id FOR UPDATE OF event
"""
#: The same columns. SQLite's transactions run one at a time and need no row locks.
_READ_EVENTS_ON_SQLITE = """
SELECT event.id, worker_id, status, attempt_count, attempts_before_round, max_attempts,
       retry_delays, is_active, webhook.deleted_at IS NOT NULL
FROM ringback_event event JOIN ringback_webhook webhook ON webhook.id = webhook_id
WHERE event.id IN (SELECT value FROM json_each($1))
"""


def _is_awaited(result: Result, row: _LockedRow) -> bool:
    """Return whether the event still waits for this result."""
    if row.worker_id is None or row.attempt_count != result.attempt_count:
        return False
    return as_uuid(row.worker_id) == result.worker_id


def _is_unchanged(event: ClaimedEvent, row: _LockedRow) -> bool:
    """Return whether the event is as it was claimed, so that it need not be read again."""
    return (
        event.status == row.status
        and event.attempts_before_round == row.attempts_before_round
        and event.max_attempts == row.max_attempts
    )


def _record(event: Event | ClaimedEvent, row: _LockedRow, result: Result, redaction: Redaction) -> RecordedAttempt:
    error = result.outcome.error
    if error is not None:
        error = redaction.redact_text(error)
    delays = tuple(orjson.loads(row.retry_delays))
    is_inactive = not row.is_active and not event.is_test
    stopped = event.status.ended or row.is_deleted or is_inactive
    return RecordedAttempt(
        event=event,
        result=result,
        error=error,
        progress=after_attempt(event, result.outcome, result.ended_at, delays, stopped=stopped),
        attempt_id=new_key_at(result.started_at),
    )


def _notify(attempts: Sequence[RecordedAttempt]) -> None:
    """Notify listeners of the new log entries, and of retries that are due soon."""
    notifier.notify(Topic.LOGGED)
    due_times: list[dt.datetime] = []
    end_times: list[dt.datetime] = []
    for attempt in attempts:
        if attempt.progress.next_attempt_at is not None:
            due_times.append(attempt.progress.next_attempt_at)
            end_times.append(attempt.result.ended_at)
    if due_times:
        notifier.notify_if_due_soon(due_times, now=max(end_times))


def _log_attempts(attempts: Sequence[RecordedAttempt]) -> None:
    """Write one line for each attempt into the program's own log."""
    info = logger.bind(action="deliver").info
    for attempt in attempts:
        event, outcome, progress = attempt.event, attempt.result.outcome, attempt.progress
        status_code = next_attempt_at = None
        if outcome.response is not None:
            status_code = outcome.response.status
        if progress.next_attempt_at is not None:
            next_attempt_at = format_timestamp(progress.next_attempt_at)
        info(
            "attempt finished",
            event_id=encode(Prefix.EVENT, event.id),
            webhook=encode(Prefix.WEBHOOK, event.webhook_id),
            model=event.model,
            number=progress.attempt_count,
            outcome=outcome.name,
            status_code=status_code,
            duration_ms=attempt.result.duration_ms,
            event_status=progress.status.value,
            next_attempt_at=next_attempt_at,
        )
