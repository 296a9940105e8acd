"""Lines in which API tokens take turns: a token with few requests does not wait for all of those of another."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Literal
from uuid import UUID
from weakref import WeakValueDictionary

#: The line in which the running task waits for a `FairLock`: the id of the API token for which it runs, an object that
#: serves many tokens, or None for all else, such as the worker.
current_line: ContextVar[Hashable] = ContextVar("current_line", default=None)


@contextmanager
def wait_in_line(line: Hashable) -> Iterator[None]:
    """Let the block, and the tasks that it starts, wait in this line."""
    previous = current_line.set(line)
    try:
        yield
    finally:
        current_line.reset(previous)


class Lines:
    """Waiting futures, one line for each token, or object that serves many tokens."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[asyncio.Future[None]]] = {}
        #: The token whose turn was the last.
        self._last: Hashable = None

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, token_id: Hashable, turn: "asyncio.Future[None]") -> None:
        """Add a turn to the end of its token's line."""
        self._lines.setdefault(token_id, deque()).append(turn)

    def pop(self) -> "asyncio.Future[None]":
        """Return the first turn of the token whose last turn, or whose arrival, is longest ago."""
        if self._last in self._lines:
            self._lines[self._last] = self._lines.pop(self._last)
        token_id, line = next(iter(self._lines.items()))
        turn = line.popleft()
        if not line:
            del self._lines[token_id]
        self._last = token_id
        return turn


class FairSlots:
    """A semaphore whose slots are granted to tokens in turn."""

    def __init__(self, count: int, *, max_per_token: int | None = None, max_interrupted: int = 0) -> None:
        """Make `count` slots, of which `hold` grants `max_per_token` to one token at the same time.

        At most `max_interrupted` holders let others have their slots at the same time.
        """
        self._free = count
        self._lines = Lines()
        self._max_per_token = max_per_token or count
        self._max_interrupted = max_interrupted
        self._interrupted = 0
        self._own_slots: WeakValueDictionary[UUID | None, asyncio.Semaphore] = WeakValueDictionary()

    @property
    def is_wanted(self) -> bool:
        """Whether someone waits for a slot."""
        return bool(self._lines)

    @asynccontextmanager
    async def hold(self, token_id: UUID | None) -> AsyncIterator["HeldSlot"]:
        """Hold a slot while the block runs."""
        own_slots = self._own_slots.setdefault(token_id, asyncio.Semaphore(self._max_per_token))
        async with own_slots:
            await self.acquire(token_id)
            slot = HeldSlot(self, token_id)
            try:
                yield slot
            finally:
                if slot.is_held:
                    self.release()

    async def acquire(self, token_id: Hashable) -> None:
        """Wait for a slot in the token's line."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.add(token_id, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot was granted before
                self.release()
            raise

    def release(self) -> None:
        """Grant the slot to the next token."""
        while self._lines:
            turn = self._lines.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def pass_on(self, slot: "HeldSlot") -> bool:
        """Let the next token have a held slot, and wait for one again. Return False if too many holders do so."""
        if self._interrupted >= self._max_interrupted:
            return False
        self._interrupted += 1
        slot.is_held = False
        self.release()
        try:
            await self.acquire(slot.token_id)
            slot.is_held = True
        finally:
            self._interrupted -= 1
        return True


class HeldSlot:
    """A slot that the block of `FairSlots.hold` holds. `is_held` is False while others have it."""

    def __init__(self, slots: FairSlots, token_id: UUID | None) -> None:
        self.slots = slots
        self.token_id = token_id
        self.is_held = True


class FairLock(asyncio.Lock):
    """A lock that is granted to the lines of the waiting tasks in turn."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = FairSlots(1)

    async def acquire(self) -> Literal[True]:
        """Wait for the lock in the line of the running task."""
        await self._turns.acquire(current_line.get())
        return await super().acquire()  # never waits, because only the holder of the turn gets here

    def release(self) -> None:
        """Grant the lock to the next line."""
        super().release()
        self._turns.release()
