"""Records the results of attempts: queues them, writes them in batches, and repeats failed writes."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from uuid import UUID, uuid4

import structlog
from tortoise.exceptions import IntegrityError, OperationalError, TransactionManagementError

from ringback.jobs.attempt_writer import write_attempts
from ringback.jobs.outcomes import Abandoned
from ringback.jobs.result import Result
from ringback.models.background_tasks import end_tasks
from ringback.models.database.sql import fetch_rows
from ringback.models.database.transactions import Unstorable, finish
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.redaction import DEFAULT, Redaction

logger = structlog.get_logger("ringback.delivery")

#: Seconds that the first of several results waits for others, to be written with them.
GATHER_SECONDS = 0.01
#: Results that are written without waiting for more, because results that wait take slots.
ENOUGH_RESULTS = 100
#: Results of one batch.
MAX_RESULTS = 300
#: Transactions at once: while one waits for the database, the rows of the other are made. docs/decisions/0002 has the
#: figures.
MAX_TRANSACTIONS = 2
#: Seconds before a failed write is first repeated; they double each time.
FIRST_PAUSE_SECONDS = 0.1
#: Maximum number of seconds before a failed write is repeated.
LAST_PAUSE_SECONDS = 2.0
#: Unknown errors of one write, while the database answers, after which the results themselves count as the cause.
MAX_UNEXPLAINED = 5
#: Errors of a database that is unavailable, locked or full.
_UNAVAILABLE = (OperationalError, TransactionManagementError, sqlite3.OperationalError, OSError)
#: Errors of values that cannot be stored.
_VALUE_FAULTS = (Unstorable, IntegrityError, ValueError, TypeError, OverflowError)


class Recorder:
    """Background writes of results; `run` it as a task. No result is dropped while the database is unavailable.

    `on_recorded` is called when a result, or another result of the same attempt, is committed.
    """

    def __init__(
        self,
        redaction: Redaction = DEFAULT,
        *,
        on_recorded: Callable[[Result], None] = lambda _: None,
        transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        self._redaction = redaction
        self.on_recorded = on_recorded
        self._queue: deque[Result] = deque()
        self._has_results = asyncio.Event()
        self._free_transactions = asyncio.Semaphore(transactions)
        self._writes: set[asyncio.Task[None]] = set()
        #: Events by result: an event may have an orphan's result and the worker's late one.
        self._unrecorded: dict[Result, UUID] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def put(self, result: Result) -> None:
        """Queue a result."""
        self._queue.append(result)
        self._unrecorded[result] = result.event_id
        self._has_results.set()
        self._is_idle.clear()

    @property
    def unrecorded(self) -> Set[UUID]:
        """The events with results that are not committed yet."""
        return set(self._unrecorded.values())

    def __len__(self) -> int:
        return len(self._unrecorded)

    async def run(self) -> None:
        """Write results until cancelled. Those that arrive while all transactions are open form the next batch."""
        try:
            while True:
                await self._has_results.wait()
                await self._free_transactions.acquire()
                if len(self._queue) < ENOUGH_RESULTS:
                    await asyncio.sleep(GATHER_SECONDS)
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_RESULTS))]
                if not self._queue:
                    self._has_results.clear()
                write = asyncio.create_task(self._write_batch(batch))
                self._writes.add(write)
                write.add_done_callback(self._end_write)
        finally:
            await finish(end_tasks(*self._writes))

    def _end_write(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        self._free_transactions.release()

    async def drain(self) -> None:
        """Wait until every queued result is committed."""
        await self._is_idle.wait()

    async def _write_batch(self, batch: Sequence[Result]) -> None:
        await self._write(batch)
        for result in batch:
            del self._unrecorded[result]
            self.on_recorded(result)
        if not self._unrecorded:
            self._is_idle.set()

    async def _write(self, results: Sequence[Result]) -> None:
        """Write results, again and again while the database is unavailable."""
        remaining = list(results)
        pause = FIRST_PAUSE_SECONDS
        unexplained = 0
        while True:
            try:
                await write_attempts(remaining, self._redaction)
                return
            except Exception as error:
                is_value_fault = isinstance(error, _VALUE_FAULTS)
                is_unavailable = isinstance(error, _UNAVAILABLE) and not is_value_fault
                # While the database is away, a driver may raise anything.
                if not is_unavailable and await _database_answers():
                    unexplained += 1
                    if is_value_fault or unexplained == MAX_UNEXPLAINED:
                        await self._write_each(remaining)
                        return
                logger.warning(
                    "cannot record attempts; trying again",
                    action="record",
                    attempts=len(remaining),
                    reason=str(error),
                    again_in_seconds=pause,
                    exc_info=not is_unavailable,
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def _write_each(self, results: Sequence[Result]) -> None:
        """Write results one by one after an error that one of them has caused; call it where that error is handled."""
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
        await self._write([replace(result, outcome=outcome, request=None)])


async def _database_answers() -> bool:
    try:
        await fetch_rows(Event._meta.db, "SELECT 1")
    except Exception:  # whatever a driver raises
        return False
    return True
