"""Writes the results of attempts, many in one transaction: attempts, new states of events, and log entries.

A result counts only if its event still names the worker and the attempt number of the result. The transaction locks the
event's row to check that.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.jobs.attempt_rows import AttemptRow, LogRow, RecordedAttempt, attempt_row, log_rows
from ringback.jobs.outcomes import Abandoned, Delivered
from ringback.jobs.result import Result
from ringback.jobs.retry import Progress, after_attempt, after_delivery
from ringback.models.database.bulk_write import insert_values, update_values
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.row_decoding import load_by_id
from ringback.models.database.sql import array_parameter, as_uuid, choose_database, fetch_rows, is_postgres
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


async def write_attempts(results: list[Result], redaction: Redaction = DEFAULT) -> None:
    """Write results, redacted. Results of attempts that are recorded already are dropped.

    On Postgres, deliveries are written first, in a transaction of their own. Then they are removed from `results`, so
    that a repeated call after an error writes only the rest. Each transaction locks its events once, in the order of
    their ids, so that two cannot deadlock.
    """
    if is_postgres(choose_database(Event)):
        results[:] = await _write_deliveries(results, redaction)
    if results:
        await _write_results(results, redaction)


async def _write_deliveries(results: Sequence[Result], redaction: Redaction) -> Sequence[Result]:
    """Write the deliveries whose events still name the worker and the attempt; return all other results."""
    worker_id: UUID | None = None
    deliveries: dict[UUID, Result] = {}
    for result in results:
        if result.event is None or not isinstance(result.outcome, Delivered):
            continue
        worker_id = worker_id or result.worker_id
        if result.worker_id == worker_id:
            deliveries[result.event_id] = result
    if worker_id is None:
        return results
    async with in_transaction() as db:
        ended = await _end_events(db, worker_id, [deliveries[event_id] for event_id in sorted(deliveries)])
        attempts = [_record_delivery(result) for event_id, result in deliveries.items() if event_id in ended]
        await _insert_attempts(db, attempts, redaction)
    _report(attempts)
    written = {attempt.result for attempt in attempts}
    return [result for result in results if result not in written]


async def _write_results(results: Sequence[Result], redaction: Redaction) -> None:
    async with in_transaction() as db:
        events = await _lock_events(db, results)
        counted = _choose_results(results, events)
        attempts: list[RecordedAttempt] = []
        for result in results:
            if result in counted:
                attempts.append(_record(*events[result.event_id], result, redaction))
            else:
                event_id = encode(Prefix.EVENT, result.event_id)
                logger.info("result dropped: the attempt is recorded already", action="record", event_id=event_id)
        event_rows = [(attempt.event.id, *attempt.progress, None, None) for attempt in attempts]
        await update_values(db, Event, _EVENT_COLUMNS, event_rows)
        await _insert_attempts(db, attempts, redaction)
    _report(attempts)


def _choose_results(
    results: Sequence[Result], events: Mapping[UUID, tuple[Event | ClaimedEvent, _LockedRow]]
) -> set[Result]:
    """Return one result of each awaited attempt: a delivery if there is one, and an abandonment only alone."""
    chosen: dict[UUID, Result] = {}
    for result in sorted(results, key=_precedence):
        if result.event_id in events and _is_awaited(result, events[result.event_id][1]):
            chosen[result.event_id] = result
    return set(chosen.values())


def _precedence(result: Result) -> int:
    if isinstance(result.outcome, Delivered):
        return 2
    return 0 if isinstance(result.outcome, Abandoned) else 1


async def _insert_attempts(db: BaseDBAsyncClient, attempts: Sequence[RecordedAttempt], redaction: Redaction) -> None:
    log_entries: list[LogRow] = []
    for attempt in attempts:
        log_entries += log_rows(attempt)
    attempt_rows = [attempt_row(attempt, redaction) for attempt in attempts]
    await insert_values(db, Attempt, AttemptRow._fields, attempt_rows)
    await insert_values(db, LogEntry, LogRow._fields, log_entries)


async def _end_events(db: BaseDBAsyncClient, worker_id: UUID, deliveries: Sequence[Result]) -> set[UUID]:
    """Mark the events as succeeded that still name the worker and the attempt; return their ids. Postgres only."""
    event_ids = [result.event_id for result in deliveries]
    attempt_counts = [result.attempt_count for result in deliveries]
    end_times = [result.ended_at for result in deliveries]
    rows = await fetch_rows(db, _END_EVENTS, event_ids, attempt_counts, end_times, worker_id)
    return {event_id for (event_id,) in rows}


#: `$1` ids, `$2` numbers of attempts before these, `$3` end times, `$4` worker. docs/decisions/0004 has the figures.
#: - LATERAL locks rows in the order of the arrays. It finds them by their keys: unlike `=`, IS NOT DISTINCT FROM cannot
#:   use the index on the worker.
#: - A row that another transaction has changed meanwhile is locked, but not updated: its new version is not in this
#:   statement's snapshot. Its result is written with the others, after a fresh look.
#: - As in `models.queue.claim_sql`, the UPDATE finds its rows by ctid, whatever Postgres estimates, and the arrays are
#:   subselects, so that it does not plan the statement anew for each batch.
_END_EVENTS = """
WITH awaited AS (
    SELECT event.ctid, event.id, ended_at
    FROM unnest((SELECT $1::uuid[]), (SELECT $2::int[]), (SELECT $3::timestamptz[]))
    delivered(id, attempt_count, ended_at), LATERAL (
        SELECT ctid, id FROM ringback_event event
        WHERE event.id = delivered.id AND event.worker_id IS NOT DISTINCT FROM $4
        AND event.attempt_count = delivered.attempt_count AND status IN ('PENDING', 'RETRYING')
        FOR UPDATE
    ) event
)
UPDATE ringback_event event
SET status = 'SUCCEEDED', attempt_count = attempt_count + 1, abandoned_in_a_row = 0,
max_attempts = greatest(max_attempts, attempt_count + 1), next_attempt_at = NULL, finished_at = ended_at,
worker_id = NULL, claimed_at = NULL
FROM awaited
WHERE event.ctid = ANY(ARRAY(SELECT ctid FROM awaited)) AND event.id = awaited.id
RETURNING event.id
"""


async def _lock_events(
    db: BaseDBAsyncClient, results: Sequence[Result]
) -> dict[UUID, tuple[Event | ClaimedEvent, _LockedRow]]:
    """Lock the events of results, and return those that await one as they are now, with their rows."""
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


def _record_delivery(result: Result) -> RecordedAttempt:
    assert result.event is not None, "deliveries are results of claimed events"
    return RecordedAttempt(
        event=result.event,
        result=result,
        error=None,
        progress=after_delivery(result.event, result.ended_at),
        attempt_id=new_key_at(result.started_at),
    )


def _report(attempts: Sequence[RecordedAttempt]) -> None:
    if attempts:
        _notify(attempts)
        _log_attempts(attempts)


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
