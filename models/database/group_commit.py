"""Group commit: requests that arrive at the same time share one transaction.

A transaction costs its round trips and its flush to disk, whether it writes one row or a hundred. So requests that
arrive while transactions are open wait and share the next one. A request that arrives alone starts at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tortoise.exceptions import DBConnectionError

from ringback.models.fair_slots import wait_in_line

T = TypeVar("T")
R = TypeVar("R")

#: Maximum number of requests in one transaction.
MAX_BATCH_REQUESTS = 100
#: Maximum number of open transactions: while one waits for the database, the other can use this process.
MAX_CONCURRENT_BATCHES = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Pending(Generic[T, R]):
    """A request and the future of its result."""

    request: T
    result: asyncio.Future[R]


class GroupCommit(Generic[T, R]):
    """A queue that handles requests of one kind in batches, on one event loop.

    `work` handles a batch in one transaction, all or nothing, and returns the results in the order of the requests.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._work = work
        self._waiting: deque[_Pending[T, R]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, request: T) -> R:
        """Handle a request in a batch with others and return its result. No transaction may be open here.

        Raises the error of this request alone, or DBConnectionError, which fails the whole batch. If the caller is
        cancelled before the batch starts, the request is dropped.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Pending(request, result))
        self._start_batch()
        return await result

    def _start_batch(self) -> None:
        if self._waiting and len(self._running) < MAX_CONCURRENT_BATCHES:
            task = asyncio.create_task(self._run_batch())
            self._running.add(task)
            task.add_done_callback(self._on_batch_done)

    def _on_batch_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_batch()

    async def _run_batch(self) -> None:
        batch: list[_Pending[T, R]] = []
        while self._waiting and len(batch) < MAX_BATCH_REQUESTS:
            pending = self._waiting.popleft()
            if not pending.result.done():
                batch.append(pending)
        try:
            if batch:
                with wait_in_line(self):  # a batch serves several tokens
                    await self._handle(batch)
        finally:
            for pending in batch:
                pending.result.cancel()  # has no effect on futures that have a result

    async def _handle(self, batch: Sequence[_Pending[T, R]]) -> None:
        try:
            results = await self._work([pending.request for pending in batch])
        # No retry: the COMMIT may have succeeded before the connection broke.
        except DBConnectionError as error:
            _fail(batch, error)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            # One of the requests failed and all were rolled back, so each is retried alone.
            for pending in batch:
                await self._handle([pending])
        else:
            for pending, result in zip(batch, results, strict=True):
                if not pending.result.done():
                    pending.result.set_result(result)


def _fail(batch: Sequence[_Pending[T, R]], error: Exception) -> None:
    for pending in batch:
        if not pending.result.done():
            pending.result.set_exception(error)
