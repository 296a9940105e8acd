"""Records how attempts ended: attempts, states and log rows in bulk, in one transaction, as answers come in.

A result is written only while its lease still owns the event; the database row, locked by the transaction, decides.
"""

import asyncio
import datetime as dt
import sqlite3
from collections.abc import Sequence
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
from ringback.models import log
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key
from ringback.models.log import LogEntry, LogKind
from ringback.models.snapshot import timestamp
from ringback.models.statements import insert, locked, update
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
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 5.0
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
        asked = Event.filter(id__in=[r.event_id for r in results]).using_db(db)
        events = {e.id: e for e in await locked(asked)}
        webhook_ids = {e.webhook_id for e in events.values()}
        webhooks = {w.id: w for w in await Webhook.filter(id__in=webhook_ids).using_db(db)}
        attempts: list[Attempt] = []
        rows: list[LogEntry] = []
        written: list[Event] = []
        for result in results:
            event = events.get(result.event_id)
            if event is None or event.lease != result.lease:
                logger.warning("result of a lost lease dropped", action="record", event_id=_id(result.event_id))
                continue
            attempt = _attempt(event, result)
            _advance(event, webhooks[event.webhook_id], result)
            attempts.append(attempt)
            rows += _log_rows(event, attempt, result)
            written.append(event)
        if not written:
            return
        await insert(db, attempts)
        await update(db, written, _EVENT_FIELDS)
        await insert(db, rows)
    wakeups.notify(Topic.LOGGED)
    wakeups.notify(Topic.DUE)
    for event, attempt in zip(written, attempts, strict=True):
        _say(event, attempt)


_EVENT_FIELDS = (
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


def _attempt(event: Event, result: Result) -> Attempt:
    answer = result.outcome.answer
    return Attempt(
        id=new_key(),
        event_id=event.id,
        webhook_id=event.webhook_id,
        number=event.attempt_count + 1,
        started_at=result.started_at,
        duration_ms=result.duration_ms,
        outcome=OutcomeName(result.outcome.name),
        error=result.outcome.error,
        status_code=answer.status if answer else None,
        request=_kept_request(result),
        response=_kept_response(answer) if answer else None,
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


def _log_rows(event: Event, attempt: Attempt, result: Result) -> list[LogEntry]:
    """What people see in the live log: the attempt, then what follows from it."""
    what = f"Attempt {attempt.number} of {event.max_attempts}: {attempt.outcome}"
    took = f" in {attempt.duration_ms} ms" if attempt.duration_ms is not None else ""
    status = f" ({attempt.status_code})" if attempt.status_code is not None else ""
    why = f". {attempt.error}" if attempt.error else ""
    rows = [_row(LogKind.ATTEMPT_FINISHED, f"{what}{status}{took}{why}", event, attempt, result)]
    if event.next_attempt_at is not None:
        message = f"Attempt {attempt.number + 1} of {event.max_attempts} due at {timestamp(event.next_attempt_at)}"
        rows.append(_row(LogKind.RETRY_SCHEDULED, message, event, attempt, result))
    elif event.finished_at == result.ended_at:
        message = f"{event.status.capitalize()} after {attempt.number} attempt{'s' if attempt.number > 1 else ''}"
        rows.append(_row(_ENDINGS[event.status], message, event, attempt, result))
    return rows


def _row(kind: LogKind, message: str, event: Event, attempt: Attempt, result: Result) -> LogEntry:
    return log.entry(
        kind,
        message,
        at=result.ended_at,
        webhook_id=event.webhook_id,
        event_id=event.id,
        model=event.model,
        attempt_id=attempt.id,
    )


def _say(event: Event, attempt: Attempt) -> None:
    """The one wide line that an attempt leaves in the program's own log."""
    logger.info(
        "attempt finished",
        action="deliver",
        event_id=_id(event.id),
        webhook=encode(Prefix.WEBHOOK, event.webhook_id),
        model=event.model,
        number=attempt.number,
        outcome=attempt.outcome.value,
        status_code=attempt.status_code,
        duration_ms=attempt.duration_ms,
        event_status=event.status.value,
        next_attempt_at=timestamp(event.next_attempt_at) if event.next_attempt_at else None,
    )


def abandoned(event_id: UUID, lease: UUID, begun_at: dt.datetime, now: dt.datetime) -> Result:
    """The result of an attempt whose worker died or lost its lease before it recorded one."""
    return Result(event_id, lease, Abandoned(), started_at=begun_at, ended_at=now, duration_ms=None)


def _id(event_id: UUID) -> str:
    return encode(Prefix.EVENT, event_id)
