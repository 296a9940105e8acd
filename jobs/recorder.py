"""Records how attempts ended: attempts, states and log rows in bulk, in one transaction, as answers come in.

A result is written only while its lease still owns the event; the database row, locked by the transaction, decides.
"""

import asyncio
import datetime as dt
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError
from tortoise.transactions import in_transaction

from ringback.jobs.kept import kept_request, kept_response
from ringback.jobs.outcomes import Abandoned, Outcome
from ringback.jobs.requests import OutgoingRequest
from ringback.jobs.retry import Progress, after_attempt
from ringback.models import bulk
from ringback.models.beginning import Begun
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key_at
from ringback.models.log import LogEntry, LogKind
from ringback.models.reading import load_by_id
from ringback.models.snapshot import timestamp
from ringback.models.statements import among, fetch_rows, key_of, many, on_postgres
from ringback.models.states import EventStatus
from ringback.models.transactions import Unstorable
from ringback.models.wakeups import Topic, wakeups

logger = structlog.get_logger("ringback.delivery")

#: How long the first of several results waits for others to be written with it, in seconds.
GATHER_SECONDS = 0.01
#: Results per transaction, and transactions at a time.
MAX_RESULTS, WRITERS = 500, 2
#: How long a failed write waits before it is tried again, in seconds: the first time, and at most.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 2.0
#: What a database that is away, locked or full raises; anything else is the fault of what was to be written.
_AWAY = (OperationalError, TransactionManagementError, DBConnectionError, sqlite3.OperationalError, OSError)
_ENDINGS = {
    EventStatus.SUCCEEDED: LogKind.EVENT_SUCCEEDED,
    EventStatus.FAILED: LogKind.EVENT_FAILED,
    EventStatus.CANCELLED: LogKind.EVENT_CANCELLED,
}


class Result(NamedTuple):
    """One attempt that ended. `request` is None when nothing was sent; times are the database's.

    `begun` is the event as it was when the attempt began, where that is known: it saves reading it again.
    """

    event_id: UUID
    lease: UUID
    outcome: Outcome
    started_at: dt.datetime
    ended_at: dt.datetime
    duration_ms: int | None
    request: OutgoingRequest | None = None
    headers_sent: tuple[tuple[str, str], ...] | None = None
    begun: Begun | None = None


class Recorder:
    """Writes results in the background; `run` it as a task."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Result, Callable[[], None]]] = deque()
        self._came = asyncio.Event()
        #: The leases of events whose results are not committed yet, those that came first before others.
        self._unwritten: dict[UUID, UUID] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, result: Result, written: Callable[[], None]) -> None:
        """Have a result written; `written` is called when it is committed, or never will be: its lease is lost."""
        self._waiting.append((result, written))
        self._unwritten[result.event_id] = result.lease
        self._came.set()
        self._idle.clear()

    async def record(self, result: Result) -> None:
        """The same, and wait for it."""
        done = asyncio.Event()
        self.put(result, done.set)
        await done.wait()

    async def run(self) -> None:
        """Write what comes in until cancelled. A database that is away is waited for.

        Two transactions overlap, so that neither the database nor this process waits for the other. A result that
        cannot be written although the database is there holds up no other one.
        """
        writers = asyncio.Semaphore(WRITERS)
        async with asyncio.TaskGroup() as writing:
            while True:
                await self._came.wait()
                await asyncio.sleep(GATHER_SECONDS)
                await writers.acquire()
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_RESULTS))]
                if not self._waiting:
                    self._came.clear()
                writing.create_task(self._write_batch(batch)).add_done_callback(lambda _: writers.release())

    async def _write_batch(self, batch: Sequence[tuple[Result, Callable[[], None]]]) -> None:
        await self._write([result for result, _ in batch])
        for result, written in batch:
            if self._unwritten.get(result.event_id) == result.lease:
                del self._unwritten[result.event_id]
            written()
        if not self._unwritten:
            self._idle.set()

    def unwritten(self, most: int) -> dict[UUID, UUID]:
        """Events whose attempts have ended and whose results are not committed yet, with their leases."""
        return dict(islice(self._unwritten.items(), most))

    async def drain(self) -> None:
        """Wait until everything that came in is written."""
        await self._idle.wait()

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
        held = await _held(db, results)
        recorded: list[_Recorded] = []
        for result in results:
            if result.event_id not in held:
                logger.warning("result of a lost lease dropped", action="record", event_id=_id(result.event_id))
                continue
            recorded.append(_recorded(*held.pop(result.event_id), result))
        if not recorded:
            return
        await bulk.write(
            db,
            bulk.Insert(Attempt, _ATTEMPT_COLUMNS, [_attempt(one) for one in recorded]),
            bulk.Update(Event, _EVENT_COLUMNS, [_state(one) for one in recorded]),
            bulk.Insert(LogEntry, _LOG_COLUMNS, [row for one in recorded for row in _log_rows(one)]),
        )
    wakeups.notify(Topic.LOGGED)
    if any(one.progress.next_attempt_at is not None for one in recorded):
        wakeups.notify(Topic.DUE)
    else:
        # The limits of their webhooks may let more go; other processes look for that by themselves.
        wakeups.wake(Topic.DUE)
    _say(recorded)


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What of a webhook, as it is now, decides about the next attempt."""

    delays: tuple[int, ...]
    is_active: bool
    is_deleted: bool


async def _held(db: BaseDBAsyncClient, results: Sequence[Result]) -> dict[UUID, tuple[Event | Begun, _Schedule]]:
    """The events whose leases are not lost, as they are now; nobody else changes them until the transaction ends."""
    lock = "ORDER BY event.id FOR UPDATE OF event" if on_postgres(db) else ""
    keys = many(db, [r.event_id for r in results])
    rows = await fetch_rows(db, f"{_STANDING} WHERE {among(db, 'event.id', 1)} {lock}", keys)
    now = {key_of(row[0]): row for row in rows}
    found: dict[UUID, tuple[Event | Begun, _Schedule]] = {}
    changed: dict[UUID, _Schedule] = {}
    for result in results:
        key, begun = result.event_id, result.begun
        row = now.get(key)
        if row is None or row[1] is None or key_of(row[1]) != result.lease:
            continue
        schedule = _schedule(*row[6:])
        if begun is not None and row[2:6] == _standing(begun):
            found[key] = (begun, schedule)
        else:
            changed[key] = schedule
    for key, event in (await load_by_id(db, Event, list(changed))).items():
        found[key] = (event, changed[key])
    return found


#: A webhook that is changed so that no attempt may follow cancels those of its events that wait, in the same
#: transaction: whoever waited here for that one sees it by the event, whatever the webhook was before.
_STANDING = """
SELECT event.id, lease, status, attempt_count, attempts_before_round, max_attempts,
       retry_delays, is_active, webhook.deleted_at IS NOT NULL
FROM ringback_event event JOIN ringback_webhook webhook ON webhook.id = webhook_id
"""


def _standing(begun: Begun) -> tuple[Any, ...]:
    """What is the same of an event as long as nothing has become of it but that its attempt is under way."""
    return begun.status, begun.attempt_count, begun.attempts_before_round, begun.max_attempts


@lru_cache(256)
def _schedule(delays: str, is_active: bool, is_deleted: bool) -> _Schedule:
    return _Schedule(tuple(orjson.loads(delays)), bool(is_active), bool(is_deleted))


class _Recorded(NamedTuple):
    """A result that is written: the event before it, what it becomes, the attempt's id and number."""

    event: Event | Begun
    result: Result
    progress: Progress
    attempt_id: UUID
    number: int


def _recorded(event: Event | Begun, webhook: _Schedule, result: Result) -> _Recorded:
    stopped = event.status.ended or webhook.is_deleted or (not webhook.is_active and not event.is_test)
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


def _state(one: _Recorded) -> tuple[Any, ...]:
    """The event after it; its lease ends with it."""
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
        progress.next_attempt_at,
        None,
        None,
    )


def _attempt(one: _Recorded) -> tuple[Any, ...]:
    event, result, _, attempt_id, number = one
    outcome = result.outcome
    answer, request, sent = outcome.answer, result.request, result.headers_sent
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
        kept_request(request, sent) if request is not None and sent is not None else None,
        kept_response(answer) if answer is not None else None,
    )


def _log_rows(one: _Recorded) -> list[tuple[Any, ...]]:
    """What people see in the live log: the attempt, then what follows from it."""
    event, result, progress, attempt_id, number = one
    outcome, at, took = result.outcome, result.ended_at, result.duration_ms
    of = (event.webhook_id, event.id, attempt_id, event.model)
    answer, why = outcome.answer, outcome.error
    message = (
        f"Attempt {number} of {progress.max_attempts}: {outcome.name}"
        f"{'' if answer is None else f' ({answer.status})'}"
        f"{'' if took is None else f' in {took} ms'}{'' if why is None else f'. {why}'}"
    )
    rows = [(at, LogKind.ATTEMPT_FINISHED, message, *of)]
    if progress.next_attempt_at is not None:
        message = f"Attempt {number + 1} of {progress.max_attempts} due at {timestamp(progress.next_attempt_at)}"
        rows.append((at, LogKind.RETRY_SCHEDULED, message, *of))
    elif progress.finished_at == at:
        rows.append((at, *_ending(progress.status, number), *of))
    return rows


@lru_cache(256)
def _ending(status: EventStatus, number: int) -> tuple[LogKind, str]:
    return _ENDINGS[status], f"{status.capitalize()} after {number} attempt{'s' if number > 1 else ''}"


def _say(recorded: Sequence[_Recorded]) -> None:
    """The one wide line that each attempt leaves in the program's own log."""
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
            next_attempt_at=timestamp(next_attempt_at) if next_attempt_at else None,
        )


def abandoned(event_id: UUID, lease: UUID, begun_at: dt.datetime, now: dt.datetime) -> Result:
    """The result of an attempt whose worker died or lost its lease before it recorded one."""
    return Result(event_id, lease, Abandoned(), started_at=begun_at, ended_at=now, duration_ms=None)


def _id(event_id: UUID) -> str:
    return encode(Prefix.EVENT, event_id)
