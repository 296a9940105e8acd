"""Group commit: what several ask for at the same time is done in one transaction.

A transaction costs its round trips and its flush to the disk whether it writes one row or a hundred. So while one is
under way the next requests gather, and the next transaction does all of them; who comes alone waits for nobody.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from tortoise.exceptions import DBConnectionError

T = TypeVar("T")
R = TypeVar("R")

#: How many requests one transaction does at most.
MOST = 100
#: Transactions under way at the same time: while one waits for the database, the next one's requests are taken in.
AT_ONCE = 2


class GroupCommit(Generic[T, R]):
    """Requests of one kind on one event loop.

    `work` does some of them in a transaction of its own, all or nothing, and returns their results in order.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._work = work
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, request: T) -> R:
        """The result of one request, together with those of others; no transaction may be open here.

        An error is that of this request, unless the database went away. Cancelling takes back what has not begun.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, done))
        self._begin()
        return await done

    def _begin(self) -> None:
        if self._waiting and len(self._running) < AT_ONCE:
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin()

    async def _run(self) -> None:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < MOST:
            request, done = self._waiting.popleft()
            if not done.done():
                batch.append((request, done))
        try:
            await self._together(batch)
        finally:
            for _, done in batch:
                done.cancel()  # what has a result keeps it

    async def _together(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        if not batch:
            return
        try:
            results = await self._work([request for request, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DBConnectionError):
                # One of them is to blame, and all were rolled back. A lost COMMIT, though, may have been one.
                for one in batch:
                    await self._together([one])
                return
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        for (_, done), result in zip(batch, results, strict=True):
            if not done.done():
                done.set_result(result)
