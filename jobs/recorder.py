"""Records how attempts ended: attempts, states and log rows in bulk, in one transaction, as answers come in.

A result is written only while its lease still owns the event; the database row, locked by the transaction, decides.
"""

import asyncio
import datetime as dt
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError
from tortoise.transactions import in_transaction

from ringback.jobs.masking import masked, masked_url
from ringback.jobs.outcomes import Abandoned, Answer, Outcome
from ringback.jobs.retry import Progress, after_attempt
from ringback.jobs.sender import OutgoingRequest
from ringback.models.bulk import insert_values, update_values
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key_at
from ringback.models.log import LogEntry, LogKind
from ringback.models.reading import load_by_id
from ringback.models.snapshot import timestamp
from ringback.models.statements import on_postgres
from ringback.models.states import EventStatus, OutcomeName
from ringback.models.transactions import Unstorable
from ringback.models.wakeups import Topic, wakeups
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.delivery")

#: How long the first of several results waits for others to be written with it, in seconds.
GATHER_SECONDS = 0.005
#: Results per transaction.
MAX_RESULTS = 500
#: How long a failed write waits before it is tried again, in seconds: the first time, and at most.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 2.0
#: What a database that is away, locked or full raises; anything else is the fault of what was to be written.
_AWAY = (OperationalError, TransactionManagementError, DBConnectionError, sqlite3.OperationalError, OSError)
_ENDINGS = {
    EventStatus.SUCCEEDED: LogKind.EVENT_SUCCEEDED,
    EventStatus.FAILED: LogKind.EVENT_FAILED,
    EventStatus.CANCELLED: LogKind.EVENT_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt that ended. `request` is None when nothing was sent; times are the database's."""

    event_id: UUID
    lease: UUID
    outcome: Outcome
    started_at: dt.datetime
    ended_at: dt.datetime
    duration_ms: int | None
    request: OutgoingRequest | None = None
    headers_sent: tuple[tuple[str, str], ...] | None = None


class Recorder:
    """Writes results in the background; `run` it as a task."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Result, asyncio.Future[None]]] = asyncio.Queue()

    async def record(self, result: Result) -> None:
        """Have a result written; returns when it is committed, or when its lease turned out to be lost."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((result, done))
        await done

    async def run(self) -> None:
        """Write what comes in until cancelled. A database that is away is waited for.

        A result that cannot be written although the database is there holds up no other one.
        """
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(GATHER_SECONDS)
            while not self._queue.empty() and len(batch) < MAX_RESULTS:
                batch.append(self._queue.get_nowait())
            await self._write([result for result, _ in batch])
            for _, done in batch:
                self._queue.task_done()
                if not done.done():
                    done.set_result(None)

    async def drain(self) -> None:
        """Wait until everything that came in is written."""
        await self._queue.join()

    async def _write(self, results: Sequence[Result]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await write(results)
                return
            except Exception as error:
                if not isinstance(error, _AWAY) or isinstance(error, Unstorable):
                    await self._write_each(results)
                    return
                logger.exception(
                    "cannot record attempts", action="record", attempts=len(results), again_in_seconds=pause
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def _write_each(self, results: Sequence[Result]) -> None:
        """After an error that comes from what was to be written: whose fault is it?"""
        if len(results) > 1:
            for result in results:
                await self._write([result])
            return
        logger.error(
            "an attempt cannot be written; its lease will put it on record as abandoned",
            action="record",
            event_id=_id(results[0].event_id),
            exc_info=True,
        )


async def write(results: Sequence[Result]) -> None:
    """Write results in one transaction; those whose lease is lost are left out, with a warning."""
    async with in_transaction() as db:
        lock = "ORDER BY id FOR UPDATE" if on_postgres(db) else ""
        events = await load_by_id(db, Event, list({r.event_id for r in results}), lock)
        webhooks = await load_by_id(db, Webhook, list({e.webhook_id for e in events.values()}))
        recorded: list[_Recorded] = []
        for result in results:
            event = events.get(result.event_id)
            if event is None or event.lease != result.lease:
                logger.warning("result of a lost lease dropped", action="record", event_id=_id(result.event_id))
                continue
            recorded.append(_recorded(event, webhooks[event.webhook_id], result))
        if not recorded:
            return
        await insert_values(db, Attempt, _ATTEMPT_COLUMNS, [_attempt(one) for one in recorded])
        await update_values(db, Event, _EVENT_COLUMNS, [_state(one.event) for one in recorded])
        await insert_values(db, LogEntry, _LOG_COLUMNS, [row for one in recorded for row in _log_rows(one)])
    wakeups.notify(Topic.LOGGED)
    wakeups.notify(Topic.DUE)
    for one in recorded:
        _say(one)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A result that is written: the event after it, the attempt's id and number."""

    event: Event
    result: Result
    attempt_id: UUID
    number: int


def _recorded(event: Event, webhook: Webhook, result: Result) -> _Recorded:
    number = event.attempt_count + 1
    _advance(event, webhook, result)
    return _Recorded(event, result, new_key_at(result.started_at), number)


_EVENT_COLUMNS = (
    "id",
    "status",
    "attempt_count",
    "attempts_before_round",
    "abandoned_in_a_row",
    "max_attempts",
    "next_attempt_at",
    "finished_at",
    "due_at",
    "lease",
    "lease_begun_at",
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


def _state(event: Event) -> tuple[Any, ...]:
    return tuple(getattr(event, name) for name in _EVENT_COLUMNS)


def _attempt(one: _Recorded) -> tuple[Any, ...]:
    result = one.result
    answer = result.outcome.answer
    return (
        one.attempt_id,
        one.event.id,
        one.event.webhook_id,
        one.number,
        result.started_at,
        result.duration_ms,
        OutcomeName(result.outcome.name),
        result.outcome.error,
        answer.status if answer else None,
        _kept_request(result),
        _kept_response(answer) if answer else None,
    )


def _kept_request(result: Result) -> dict[str, Any] | None:
    if result.request is None or result.headers_sent is None:
        return None
    body = result.request.body
    return {
        "method": result.request.method,
        "url": masked_url(str(result.request.url)),
        "headers": masked(result.headers_sent),
        "body": None if body is None else body.decode("utf-8", "replace"),
    }


def _kept_response(answer: Answer) -> dict[str, Any]:
    return {
        "headers": [[name, value] for name, value in answer.headers],
        "body": answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "body_truncated": answer.body_truncated,
    }


def _advance(event: Event, webhook: Webhook, result: Result) -> None:
    """Bring an event to its state after the attempt; its lease ends with it."""
    stopped = event.status.ended or webhook.deleted_at is not None or (not webhook.is_active and not event.is_test)
    progress = after_attempt(
        Progress(
            status=event.status,
            attempt_count=event.attempt_count,
            attempts_before_round=event.attempts_before_round,
            abandoned_in_a_row=event.abandoned_in_a_row,
            max_attempts=event.max_attempts,
            finished_at=event.finished_at,
        ),
        result.outcome,
        result.ended_at,
        tuple(webhook.retry_delays),
        stopped=stopped,
    )
    for name in ("status", "attempt_count", "attempts_before_round", "abandoned_in_a_row", "max_attempts"):
        setattr(event, name, getattr(progress, name))
    event.next_attempt_at = event.due_at = progress.next_attempt_at
    event.finished_at = progress.finished_at
    event.lease = event.lease_begun_at = None


def _log_rows(one: _Recorded) -> Iterator[tuple[Any, ...]]:
    """What people see in the live log: the attempt, then what follows from it."""
    event, result = one.event, one.result
    answer = result.outcome.answer
    what = f"Attempt {one.number} of {event.max_attempts}: {result.outcome.name}"
    took = f" in {result.duration_ms} ms" if result.duration_ms is not None else ""
    status = f" ({answer.status})" if answer is not None else ""
    why = f". {result.outcome.error}" if result.outcome.error else ""
    yield _log_row(LogKind.ATTEMPT_FINISHED, f"{what}{status}{took}{why}", one)
    if event.next_attempt_at is not None:
        message = f"Attempt {one.number + 1} of {event.max_attempts} due at {timestamp(event.next_attempt_at)}"
        yield _log_row(LogKind.RETRY_SCHEDULED, message, one)
    elif event.finished_at == result.ended_at:
        message = f"{event.status.capitalize()} after {one.number} attempt{'s' if one.number > 1 else ''}"
        yield _log_row(_ENDINGS[event.status], message, one)


def _log_row(kind: LogKind, message: str, one: _Recorded) -> tuple[Any, ...]:
    event = one.event
    return one.result.ended_at, kind, message, event.webhook_id, event.id, one.attempt_id, event.model


def _say(one: _Recorded) -> None:
    """The one wide line that an attempt leaves in the program's own log."""
    event, result = one.event, one.result
    answer = result.outcome.answer
    logger.info(
        "attempt finished",
        action="deliver",
        event_id=_id(event.id),
        webhook=encode(Prefix.WEBHOOK, event.webhook_id),
        model=event.model,
        number=one.number,
        outcome=result.outcome.name,
        status_code=answer.status if answer else None,
        duration_ms=result.duration_ms,
        event_status=event.status.value,
        next_attempt_at=timestamp(event.next_attempt_at) if event.next_attempt_at else None,
    )


def abandoned(event_id: UUID, lease: UUID, begun_at: dt.datetime, now: dt.datetime) -> Result:
    """The result of an attempt whose worker died or lost its lease before it recorded one."""
    return Result(event_id, lease, Abandoned(), started_at=begun_at, ended_at=now, duration_ms=None)


def _id(event_id: UUID) -> str:
    return encode(Prefix.EVENT, event_id)
