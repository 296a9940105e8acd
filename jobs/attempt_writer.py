"""Writes results: attempts, new states of events, and log entries, in one transaction.

A result counts only if its event still names the worker and attempt number of the result. The event's row, locked by
the transaction, decides that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.jobs.attempt_json import request_to_json, response_to_json
from ringback.jobs.result import Result
from ringback.jobs.retry import Progress, after_attempt
from ringback.models.database.bulk_write import insert_values, update_values
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.row_decoding import load_by_id
from ringback.models.database.sql import array_parameter, as_uuid, column_in, fetch_rows, is_postgres
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus, LogKind
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key_at
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.timestamps import format_timestamp

logger = structlog.get_logger("ringback.delivery")

_END_KINDS = {
    EventStatus.SUCCEEDED: LogKind.EVENT_SUCCEEDED,
    EventStatus.FAILED: LogKind.EVENT_FAILED,
    EventStatus.CANCELLED: LogKind.EVENT_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What decides about the next attempt, of a webhook as it is now."""

    delays: tuple[int, ...]
    is_active: bool
    is_deleted: bool


class _Recorded(NamedTuple):
    """A result to write: the event before it, what becomes of the event, the attempt's id and number."""

    event: Event | ClaimedEvent
    result: Result
    progress: Progress
    attempt_id: UUID
    number: int


async def write_attempts(results: Sequence[Result]) -> None:
    """Write results in one transaction; those whose attempt is recorded already are dropped."""
    async with in_transaction() as db:
        events = await _lock_events(db, results)
        recorded: list[_Recorded] = []
        for result in results:
            found = events.pop(result.event_id, None)
            if found is None:
                event_id = encode(Prefix.EVENT, result.event_id)
                logger.info("result dropped, its attempt is recorded already", action="record", event_id=event_id)
                continue
            recorded.append(_record(*found, result))
        if not recorded:
            return
        await insert_values(db, Attempt, _ATTEMPT_COLUMNS, [_attempt_row(one) for one in recorded])
        await update_values(db, Event, _EVENT_COLUMNS, [_event_row(one) for one in recorded])
        await insert_values(db, LogEntry, _LOG_COLUMNS, [row for one in recorded for row in _log_rows(one)])
    notifier.notify(Topic.LOGGED)
    retries = [one for one in recorded if one.progress.next_attempt_at is not None]
    if retries:
        now = max(one.result.ended_at for one in retries)
        moments = [one.progress.next_attempt_at for one in retries if one.progress.next_attempt_at is not None]
        notifier.notify_if_due_soon(moments, now)
    _log_attempts(recorded)


async def _lock_events(
    db: BaseDBAsyncClient, results: Sequence[Result]
) -> dict[UUID, tuple[Event | ClaimedEvent, _Schedule]]:
    """Lock the events whose attempts are not recorded yet, and return them as they are now."""
    lock = "ORDER BY event.id FOR UPDATE OF event" if is_postgres(db) else ""
    keys = array_parameter(db, [result.event_id for result in results])
    rows = await fetch_rows(db, f"{_STANDING} WHERE {column_in(db, 'event.id', 1)} {lock}", keys)
    stored = {as_uuid(row[0]): row for row in rows}
    found: dict[UUID, tuple[Event | ClaimedEvent, _Schedule]] = {}
    changed: dict[UUID, _Schedule] = {}
    for result in results:
        row = stored.get(result.event_id)
        if row is None:
            continue
        _, worker_id, status, attempt_count, before_round, max_attempts, *webhook = row
        if worker_id is None or as_uuid(worker_id) != result.worker_id or attempt_count != result.attempt_count:
            continue
        schedule = _schedule(*webhook)
        event = result.event
        if event is not None and (status, before_round, max_attempts) == (
            event.status,
            event.attempts_before_round,
            event.max_attempts,
        ):
            found[result.event_id] = (event, schedule)
        else:
            changed[result.event_id] = schedule
    for key, reread in (await load_by_id(db, Event, list(changed))).items():
        found[key] = (reread, changed[key])
    return found


#: A webhook that is changed so that no attempt may follow cancels its waiting events in the same transaction: who has
#: waited here for that transaction sees it by the event, whatever the webhook was before.
_STANDING = """
SELECT event.id, worker_id, status, attempt_count, attempts_before_round, max_attempts,
       retry_delays, is_active, webhook.deleted_at IS NOT NULL
FROM ringback_event event JOIN ringback_webhook webhook ON webhook.id = webhook_id
"""


@lru_cache(256)
def _schedule(delays: str, is_active: bool, is_deleted: bool) -> _Schedule:
    return _Schedule(tuple(orjson.loads(delays)), bool(is_active), bool(is_deleted))


def _record(event: Event | ClaimedEvent, webhook: _Schedule, result: Result) -> _Recorded:
    is_inactive = not webhook.is_active and not event.is_test
    stopped = event.status.ended or webhook.is_deleted or is_inactive
    progress = after_attempt(event, result.outcome, result.ended_at, webhook.delays, stopped=stopped)
    return _Recorded(event, result, progress, new_key_at(result.started_at), event.attempt_count + 1)


_EVENT_COLUMNS = (
    "id",
    "status",
    "attempt_count",
    "attempts_before_round",
    "abandoned_in_a_row",
    "max_attempts",
    "next_attempt_at",
    "finished_at",
    "worker_id",
    "claimed_at",
)


_ATTEMPT_COLUMNS = (
    "id",
    "event_id",
    "webhook_id",
    "number",
    "started_at",
    "duration_ms",
    "outcome",
    "error",
    "status_code",
    "request",
    "response",
)
_LOG_COLUMNS = ("at", "kind", "message", "webhook_id", "event_id", "attempt_id", "model")


def _event_row(one: _Recorded) -> tuple[Any, ...]:
    """Return the event after its attempt; no worker has it any more."""
    progress = one.progress
    return (
        one.event.id,
        progress.status,
        progress.attempt_count,
        progress.attempts_before_round,
        progress.abandoned_in_a_row,
        progress.max_attempts,
        progress.next_attempt_at,
        progress.finished_at,
        None,
        None,
    )


def _attempt_row(one: _Recorded) -> tuple[Any, ...]:
    event, result, _, attempt_id, number = one
    outcome = result.outcome
    answer, request = outcome.answer, result.request
    return (
        attempt_id,
        event.id,
        event.webhook_id,
        number,
        result.started_at,
        result.duration_ms,
        outcome.name,
        outcome.error,
        answer.status if answer is not None else None,
        request_to_json(request) if request is not None else None,
        response_to_json(answer) if answer is not None else None,
    )


def _log_rows(one: _Recorded) -> list[tuple[Any, ...]]:
    """Return the delivery log's entries: the attempt, then what follows from it."""
    event, result, progress, attempt_id, number = one
    outcome, at, took = result.outcome, result.ended_at, result.duration_ms
    of = (event.webhook_id, event.id, attempt_id, event.model)
    answer, why = outcome.answer, outcome.error
    message = f"Attempt {number} of {progress.max_attempts}: {outcome.name}"
    if answer is not None:
        message += f" ({answer.status})"
    if took is not None:
        message += f" in {took} ms"
    if why is not None:
        message += f". {why}"
    rows = [(at, LogKind.ATTEMPT_FINISHED, message, *of)]
    if progress.next_attempt_at is not None:
        message = f"Attempt {number + 1} of {progress.max_attempts} due at {format_timestamp(progress.next_attempt_at)}"
        rows.append((at, LogKind.RETRY_SCHEDULED, message, *of))
    elif progress.finished_at == at:
        rows.append((at, *_ending(progress.status, number), *of))
    return rows


@lru_cache(256)
def _ending(status: EventStatus, number: int) -> tuple[LogKind, str]:
    return _END_KINDS[status], f"{status.capitalize()} after {number} attempt{'s' if number > 1 else ''}"


def _log_attempts(recorded: Sequence[_Recorded]) -> None:
    """Write one wide line for each attempt into the program's own log."""
    info = logger.bind(action="deliver").info
    for event, result, progress, _, number in recorded:
        answer = result.outcome.answer
        next_attempt_at = progress.next_attempt_at
        info(
            "attempt finished",
            event_id=encode(Prefix.EVENT, event.id),
            webhook=encode(Prefix.WEBHOOK, event.webhook_id),
            model=event.model,
            number=number,
            outcome=result.outcome.name,
            status_code=answer.status if answer else None,
            duration_ms=result.duration_ms,
            event_status=progress.status.value,
            next_attempt_at=format_timestamp(next_attempt_at) if next_attempt_at else None,
        )
