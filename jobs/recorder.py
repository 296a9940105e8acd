"""Records how attempts ended: a queue whose results are written together, in one transaction, as answers come in."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence, Set
from uuid import UUID, uuid4

import structlog
from tortoise.exceptions import (
    BaseORMException,
    DBConnectionError,
    IntegrityError,
    OperationalError,
    TransactionManagementError,
)

from ringback.jobs.attempt_writer import write_attempts
from ringback.jobs.outcomes import Abandoned
from ringback.jobs.result import Result
from ringback.models.database.sql import fetch_rows
from ringback.models.database.transactions import Unstorable
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode

logger = structlog.get_logger("ringback.delivery")

#: Seconds that the first of several results waits for others to be written with it.
GATHER_SECONDS = 0.01
#: Results that are written at once, without waiting for more, because results that wait take slots; and results per
#: transaction, at most.
ENOUGH_RESULTS, MAX_RESULTS = 100, 300
#: Seconds before a failed write is tried again: the first time, and at most.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 2.0
#: Writes that may fail for an unknown reason while the database answers before the results are taken to be at fault.
MAX_UNEXPLAINED = 5
#: What a database raises that is away, locked or full.
_AWAY = (OperationalError, TransactionManagementError, DBConnectionError, sqlite3.OperationalError, OSError)
#: What is raised by a value that cannot be stored.
_VALUE_FAULTS = (Unstorable, IntegrityError, ValueError, TypeError, OverflowError)


class Recorder:
    """Writes results in the background; `run` it as a task. A result is never dropped while the database is away."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Result, Callable[[], None]]] = deque()
        self._came = asyncio.Event()
        #: The events of results by identity: an orphan's result may meet a late one of its worker's.
        self._unrecorded: dict[int, UUID] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, result: Result, on_recorded: Callable[[], None]) -> None:
        """Have a result written; `on_recorded` is called when it is committed, or another one was for that attempt."""
        self._queue.append((result, on_recorded))
        self._unrecorded[id(result)] = result.event_id
        self._came.set()
        self._idle.clear()

    async def record(self, result: Result) -> None:
        """Have a result written, and wait for it."""
        recorded = asyncio.Event()
        self.put(result, recorded.set)
        await recorded.wait()

    @property
    def unrecorded(self) -> Set[UUID]:
        """The events whose results are not committed yet."""
        return set(self._unrecorded.values())

    def __len__(self) -> int:
        return len(self._unrecorded)

    async def run(self) -> None:
        """Write what comes in until cancelled, one transaction after the other: the next results gather meanwhile."""
        while True:
            await self._came.wait()
            if len(self._queue) < ENOUGH_RESULTS:
                await asyncio.sleep(GATHER_SECONDS)
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_RESULTS))]
            if not self._queue:
                self._came.clear()
            await self._write_batch(batch)

    async def drain(self) -> None:
        """Wait until everything that came in is written."""
        await self._idle.wait()

    async def _write_batch(self, batch: Sequence[tuple[Result, Callable[[], None]]]) -> None:
        await self._write([result for result, _ in batch])
        for result, on_recorded in batch:
            del self._unrecorded[id(result)]
            on_recorded()
        if not self._unrecorded:
            self._idle.set()

    async def _write(self, results: Sequence[Result]) -> None:
        """Write results, however often the database goes away; only a value that cannot be stored ends the tries."""
        pause = FIRST_PAUSE_SECONDS
        unexplained = 0
        while True:
            try:
                await write_attempts(results)
                return
            except Exception as error:
                if isinstance(error, _VALUE_FAULTS):
                    await self._write_each(results)
                    return
                if not isinstance(error, _AWAY) and await _database_answers():
                    unexplained += 1
                if unexplained == MAX_UNEXPLAINED:
                    await self._write_each(results)
                    return
                logger.warning(
                    "cannot record attempts",
                    action="record",
                    attempts=len(results),
                    reason=str(error),
                    again_in_seconds=pause,
                    exc_info=not isinstance(error, _AWAY),
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def _write_each(self, results: Sequence[Result]) -> None:
        """Write results one by one, to be called where an error is handled that comes from one of them."""
        if len(results) > 1:
            for result in results:
                await self._write([result])
            return
        (result,) = results
        error_id = uuid4().hex[:12]
        event_id = encode(Prefix.EVENT, result.event_id)
        logger.exception("a result cannot be stored", action="record", event_id=event_id, error_id=error_id)
        if isinstance(result.outcome, Abandoned):
            return
        outcome = Abandoned(
            f"Internal error {error_id}: the result could not be stored; the endpoint may have received the request."
        )
        await self._write([result._replace(outcome=outcome, request=None)])


async def _database_answers() -> bool:
    try:
        await fetch_rows(Event._meta.db, "SELECT 1")
    except (BaseORMException, OSError):
        return False
    return True
