"""The tailer: one reader of the log table per process, from which all live subscribers are served.

A subscriber first reads the entries that it missed since its cursor, page by page, up to where the tailer stood when it
joined; from there on it gets what the tailer reads. The tailer has one position and the log has one order, so nothing
between is missed or repeated.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from ringback.models import log
from ringback.models.errors import RingbackError
from ringback.models.log import LogEntry, LogFilter, Position
from ringback.models.wakeups import Topic, wakeups

logger = structlog.get_logger("ringback.tailer")

#: Entries per read.
PAGE = 500
#: Entries that wait for one subscriber, at most; one that falls further behind is ended, and resumes with its cursor.
MAX_WAITING = 5_000
#: The longest sleep between two reads, in seconds: what a lost wake-up costs at most.
POLL_SECONDS = 1.0
#: How long a failing database is left alone between two tries, in seconds.
PAUSE_SECONDS = 1.0


class SubscriberBehind(RingbackError):
    """A subscriber could not keep up."""


@dataclass(frozen=True, slots=True)
class Tailed:
    """An entry with its place in the log."""

    entry: LogEntry
    position: Position


@dataclass(slots=True, eq=False)
class _Subscriber:
    wanted: LogFilter
    max_waiting: int
    queue: asyncio.Queue[Tailed | None] = field(default_factory=asyncio.Queue)
    behind: bool = False

    def offer(self, tailed: Tailed) -> None:
        if self.behind or not self.wanted.accepts(tailed.entry):
            return
        if self.queue.qsize() >= self.max_waiting:
            self.behind = True
            self.queue.put_nowait(None)
        else:
            self.queue.put_nowait(tailed)


class Tailer:
    """Reads the log as it grows; `run` it as a task."""

    def __init__(self, epoch: UUID, max_waiting: int = MAX_WAITING) -> None:
        self._epoch = epoch
        self._max_waiting = max_waiting
        self._position: Position | None = None
        self._subscribers: set[_Subscriber] = set()
        self._started = asyncio.Event()

    @property
    def subscribers(self) -> int:
        """How many follow the log now."""
        return len(self._subscribers)

    @property
    def position(self) -> Position | None:
        """How far it has read; None before its first read."""
        return self._position

    async def run(self) -> None:
        """Read until cancelled; a database that is away is waited for."""
        listener = wakeups.listen(Topic.LOGGED)
        while True:
            try:
                grew = await self._read()
            except Exception:
                logger.exception("cannot read the log", action="tail", again_in_seconds=PAUSE_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if not grew:
                await listener.wait(POLL_SECONDS)

    async def _read(self) -> bool:
        if self._position is None:
            self._position = await log.newest(self._epoch)
            self._started.set()
        entries = await log.after(self._position, PAGE)
        for entry in entries:
            self._position = Position(self._epoch, 0, entry.id)
            tailed = Tailed(entry, self._position)
            for subscriber in self._subscribers:
                subscriber.offer(tailed)
        return bool(entries)

    async def follow(self, wanted: LogFilter, after: Position | None) -> AsyncGenerator[Tailed, None]:
        """The wanted entries after a position, or from now on, for ever.

        Raises CursorExpired when entries after the position are gone, SubscriberBehind when the reader is too slow.
        """
        await self._started.wait()
        if after is None:
            after = await log.newest(self._epoch)
        else:
            await log.check_resumable(after, self._epoch)
        subscriber = _Subscriber(wanted, self._max_waiting)
        joined = self._position
        assert joined is not None, "the tailer has started"
        self._subscribers.add(subscriber)
        try:
            async for tailed in self._missed(wanted, after, joined):
                yield tailed
            while True:
                next_one = await subscriber.queue.get()
                if next_one is None:
                    raise SubscriberBehind(f"more than {self._max_waiting:,} entries were waiting to be read")
                if next_one.position > after:
                    yield next_one
        finally:
            self._subscribers.discard(subscriber)

    async def _missed(self, wanted: LogFilter, after: Position, joined: Position) -> AsyncGenerator[Tailed, None]:
        position = after
        while position < joined:
            entries = await log.after(position, PAGE)
            for entry in entries:
                position = Position(self._epoch, 0, entry.id)
                if position > joined:
                    return
                if wanted.accepts(entry):
                    yield Tailed(entry, position)
            if len(entries) < PAGE:
                return
