"""Writes the results of attempts, many in one transaction: attempts, new states of events, and log entries.

A result counts only if its event still names the worker and the attempt number of the result. The transaction locks the
event's row to check that.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import orjson
import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.jobs.attempt_rows import AttemptRow, LogRow, RecordedAttempt, attempt_row, log_rows
from ringback.jobs.awaiting_events import LockedEvent, end_events, lock_events
from ringback.jobs.outcomes import Abandoned, Delivered
from ringback.jobs.result import Result
from ringback.jobs.retry import Progress, after_attempt, after_delivery
from ringback.models.database.bulk_write import insert_values, update_values
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.row_decoding import load_by_id
from ringback.models.database.sql import choose_database, is_postgres
from ringback.models.delivery_log import LogEntry
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key_at
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.redaction import DEFAULT, Redaction
from ringback.models.timestamps import format_timestamp

logger = structlog.get_logger("ringback.delivery")

#: Columns of an event to write after an attempt. The worker and the time of its claim become null.
_EVENT_COLUMNS = ("id", *Progress._fields, "worker_id", "claimed_at")


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
        ended = await end_events(db, worker_id, deliveries)
        attempts = [_record_delivery(result) for event_id, result in deliveries.items() if event_id in ended]
        await _insert_attempts(db, attempts, redaction)
    _report(attempts)
    written = {attempt.result for attempt in attempts}
    return [result for result in results if result not in written]


async def _write_results(results: Sequence[Result], redaction: Redaction) -> None:
    async with in_transaction() as db:
        locked = await lock_events(db, [result.event_id for result in results])
        chosen = _choose_results(results, locked)
        events = await _read_events(db, chosen, locked)
        attempts: list[RecordedAttempt] = []
        for result in results:
            if result in chosen:
                attempts.append(_record(events[result.event_id], locked[result.event_id], result, redaction))
            else:
                event_id = encode(Prefix.EVENT, result.event_id)
                logger.info("result dropped: the attempt is recorded already", action="record", event_id=event_id)
        event_rows = [(attempt.event.id, *attempt.progress, None, None) for attempt in attempts]
        await update_values(db, Event, _EVENT_COLUMNS, event_rows)
        await _insert_attempts(db, attempts, redaction)
    _report(attempts)


def _choose_results(results: Sequence[Result], locked: Mapping[UUID, LockedEvent]) -> set[Result]:
    """Return one result of each awaited attempt: a delivery if there is one, and an abandonment only alone."""
    chosen: dict[UUID, Result] = {}
    for result in sorted(results, key=_precedence):
        event = locked.get(result.event_id)
        if event is not None and event.awaits(result):
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


async def _read_events(
    db: BaseDBAsyncClient, results: Collection[Result], locked: Mapping[UUID, LockedEvent]
) -> dict[UUID, Event | ClaimedEvent]:
    """Return the events of results, by id. Those unchanged since their claim are not read again."""
    events: dict[UUID, Event | ClaimedEvent] = {}
    changed: list[UUID] = []
    for result in results:
        if result.event is not None and locked[result.event_id].is_unchanged_since_claim(result.event):
            events[result.event_id] = result.event
        else:
            changed.append(result.event_id)
    return events | await load_by_id(db, Event, changed)


def _record(event: Event | ClaimedEvent, locked: LockedEvent, result: Result, redaction: Redaction) -> RecordedAttempt:
    error = result.outcome.error
    if error is not None:
        error = redaction.redact_text(error)
    delays = tuple(orjson.loads(locked.retry_delays))
    is_inactive = not locked.is_active and not event.is_test
    stopped = event.status.ended or locked.is_deleted or is_inactive
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
