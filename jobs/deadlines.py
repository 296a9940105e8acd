"""Timeouts for very many tasks: one timer for all of them, instead of one for each.

`asyncio.timeout` sets a timer of the loop and takes it away again, each time. Nearly all exchanges end long before
their deadline, so here a deadline is only noted, and one task looks a few hundred times a second for those that passed.
"""

import asyncio
import time
from types import TracebackType
from typing import Self

#: How late a deadline may be noticed, in seconds.
TICK_SECONDS = 0.01


class Deadlines:
    """The deadlines of one loop's tasks; the looking begins with the first of them, and ends when there are none."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Deadline]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> "Deadline":
        """A block that raises TimeoutError when it has not ended after so long; it never does so early."""
        return Deadline(self, seconds)

    def add(self, deadline: "Deadline") -> None:
        """Look after a deadline."""
        self._buckets.setdefault(deadline.tick, set()).add(deadline)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look)

    def remove(self, deadline: "Deadline") -> None:
        """Look after it no more."""
        bucket = self._buckets.get(deadline.tick)
        if bucket is not None:
            bucket.discard(deadline)
            if not bucket:
                del self._buckets[deadline.tick]

    def _look(self) -> None:
        now = int(time.monotonic() / TICK_SECONDS)
        for tick in [tick for tick in self._buckets if tick <= now]:
            for deadline in self._buckets.pop(tick):
                deadline.expire()
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look) if self._buckets else None


class Deadline:
    """One block's deadline. `expired` says whether it passed within the block."""

    __slots__ = ("_cancelling", "_deadlines", "_task", "expired", "seconds", "tick")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self.seconds = seconds
        #: The first look after it.
        self.tick = int((time.monotonic() + seconds) / TICK_SECONDS) + 1
        self.expired = False
        self._deadlines = deadlines

    def expire(self) -> None:
        """End the block."""
        self.expired = True
        self._task.cancel()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        # As asyncio.timeout does it: a cancellation from elsewhere goes on.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
