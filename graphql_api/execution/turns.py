"""Turns of subscriptions on the event loop.

One log entry can wake thousands of subscriptions, whose executions would hold the loop for seconds. So each takes a
turn: a slice of them runs, then everything else that is ready, then the next slice. While queries or mutations are
executed, there is a pause between slices. API tokens take turns within a slice, so a token with few subscriptions does
not wait for all of those of another.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from ringback.models.fair_slots import Lines

V = TypeVar("V")

#: Seconds that a slice takes, about: so much longer does each step of a request wait while subscriptions are busy.
SLICE_SECONDS = 0.002
#: Seconds between slices while queries or mutations are executed, each of which takes many steps on the loop.
PAUSE_SECONDS = 0.005
#: Turns of the first slice, whose time is not known yet.
FIRST_SLICE = 16
#: Turns of a slice, at most.
MAX_SLICE = 256


class Turns:
    """Waiting subscriptions by token, and the slice that runs."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._slice_size = FIRST_SLICE
        self._slice_started_at: float | None = None
        self._is_scheduled = False
        self.requests = 0

    @contextmanager
    def give_way(self) -> Iterator[None]:
        """Pause between slices while the block executes a query or a mutation."""
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def take(self, token_id: UUID) -> None:
        """Wait for a turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(token_id, turn)
        await turn

    async def wait_for(self, token_id: UUID, shared: "asyncio.Future[V]") -> V:
        """Return the result of shared work in a turn. Cancelling the caller does not cancel the work."""
        if shared.done():
            await self.take(token_id)
            return shared.result()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shared.add_done_callback(lambda _: self._add(token_id, turn))
        await turn
        return shared.result()

    def _add(self, token_id: UUID, turn: "asyncio.Future[None]") -> None:
        self._lines.add(token_id, turn)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        """Wake the next subscriptions, and come back after they have run and other work had its turn."""
        self._is_scheduled = bool(self._lines)
        if not self._lines:
            return
        loop = asyncio.get_running_loop()
        # The loop calls back in order: the woken subscriptions run between these two.
        loop.call_soon(self._start_clock)
        for _ in range(self._slice_size):
            if not self._lines:
                break
            turn = self._lines.pop()
            if not turn.done():
                turn.set_result(None)
        loop.call_soon(self._schedule_slice)

    def _schedule_slice(self) -> None:
        self._adapt_size()
        if self.requests:
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._run_slice)
        else:
            self._run_slice()

    def _start_clock(self) -> None:
        self._slice_started_at = time.perf_counter()

    def _adapt_size(self) -> None:
        """Make the next slice take SLICE_SECONDS, as far as the last one tells."""
        if self._slice_started_at is None:
            return
        seconds = time.perf_counter() - self._slice_started_at
        self._slice_started_at = None
        factor = min(max(SLICE_SECONDS / seconds, 0.25), 2.0)
        self._slice_size = min(max(int(self._slice_size * factor), 1), MAX_SLICE)
