"""Timeouts for very many waits: one timer for all of them, instead of one for each.

`asyncio.timeout` sets a timer of the loop and takes it away again, each time. Nearly all exchanges end long before
their deadline, so here a deadline is only noted, and one timer looks a hundred times a second for those that passed.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

#: How late a deadline may be noticed, in seconds.
TICK_SECONDS = 0.01


class Deadline:
    """A moment after which `expire` is called, once, unless it is cleared before. `expired` says whether it was."""

    __slots__ = ("expire", "expired", "tick")

    def __init__(self, tick: int, expire: Callable[[], object]) -> None:
        self.tick = tick
        self.expire = expire
        self.expired = False


class Deadlines:
    """The deadlines of one loop; the looking begins with the first of them, and ends when there are none."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Deadline]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, expire: Callable[[], object]) -> Deadline:
        """Have `expire` called after so long; never early."""
        # The first look after it.
        deadline = Deadline(int((time.monotonic() + seconds) / TICK_SECONDS) + 1, expire)
        bucket = self._buckets.get(deadline.tick)
        if bucket is None:
            self._buckets[deadline.tick] = {deadline}
        else:
            bucket.add(deadline)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look)
        return deadline

    def clear(self, deadline: Deadline) -> None:
        """Look after it no more."""
        bucket = self._buckets.get(deadline.tick)
        if bucket is not None:
            bucket.discard(deadline)
            if not bucket:
                del self._buckets[deadline.tick]

    def within(self, seconds: float) -> "Block":
        """A block that raises TimeoutError when it has not ended after so long."""
        return Block(self, seconds)

    def _look(self) -> None:
        now = int(time.monotonic() / TICK_SECONDS)
        for tick in [tick for tick in self._buckets if tick <= now]:
            for deadline in self._buckets.pop(tick):
                deadline.expired = True
                deadline.expire()
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look) if self._buckets else None


class Block:
    """A block of a task, with its deadline. `expired` says whether it passed within it."""

    __slots__ = ("_cancelling", "_deadline", "_deadlines", "_seconds", "_task", "expired")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self.expired = False

    def expire(self) -> None:
        """End the block."""
        self.expired = True
        self._task.cancel()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._task = task
        self._cancelling = task.cancelling()
        self._deadline = self._deadlines.set(self._seconds, self.expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.clear(self._deadline)
        # As asyncio.timeout does it: a cancellation from elsewhere goes on.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
