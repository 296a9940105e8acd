"""The tailer: one reader of the log table per process, from which all live subscribers are served.

A subscriber first reads the entries that it missed since its cursor, page by page, up to where the tailer stood when it
joined; from there on it gets what the tailer reads. The tailer has one position and the log has one order, so nothing
between is missed or repeated. While it waits a subscriber holds nothing but its queue, and what waits in the queue is
shared with all others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog

from ringback.graphql_api.context.single_flight import SingleFlight, outcome
from ringback.models import delivery_log
from ringback.models.database.notifications import Listener, Topic, notifier
from ringback.models.delivery_log import LogEntry, LogFilter, Position
from ringback.models.errors import RingbackError

logger = structlog.get_logger("ringback.tailer")

#: Entries per read.
PAGE = 500
#: Entries that a subscriber is handed at once, at most, and those of a page of what it missed.
BURST = 100
#: Entries that wait for one subscriber, at most. One that has read them, and is as far behind again, is ended: it
#: resumes with its cursor.
MAX_WAITING = 5_000
#: Pages of missed entries that are kept for others who missed the same, and for how many seconds.
KEPT_PAGES, KEPT_SECONDS = 64, 1.0
#: The longest sleep between two reads, in seconds: what a lost wake-up costs at most.
POLL_SECONDS = 1.0
#: The first sleep while entries wait for an older transaction to end, which wakes nobody, in seconds; then twice that.
SOON_SECONDS = 0.005
#: How long a failing database is left alone between two tries, in seconds.
PAUSE_SECONDS = 1.0


class SubscriberBehind(RingbackError):
    """A subscriber could not keep up; `position` is how far it came."""

    def __init__(self, waiting: int, position: Position) -> None:
        super().__init__(f"{waiting:,} entries were waiting to be read")
        self.position = position


@dataclass(frozen=True, slots=True, eq=False)
class Tailed:
    """An entry with its place in the log; one object for all who are told of it."""

    entry: LogEntry
    position: Position


#: Entries, and how far the log was searched for them.
_Page = tuple[list[Tailed], Position]


class _Subscriber:
    """The queue of one that follows the log."""

    def __init__(self, wanted: LogFilter, max_waiting: int) -> None:
        self.wanted = wanted
        self._max_waiting = max_waiting
        self._waiting: deque[Tailed] = deque()
        self._full = False
        self._changed = asyncio.Event()

    def offer(self, entries: Sequence[Tailed]) -> None:
        """Queue these entries, and none any more once one had no place: they all are in the table."""
        if self._full:
            return
        places = self._max_waiting - len(self._waiting)
        self._full = len(entries) > places
        self._waiting.extend(entries[:places] if self._full else entries)
        self._changed.set()

    async def burst(self) -> list[Tailed]:
        """Wait for entries; none where one had no place, after which there will be no more."""
        while not self._waiting and not self._full:
            self._changed.clear()
            await self._changed.wait()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), BURST))]


class _Audience:
    """All subscribers, found by what they want: one who follows one webhook costs nothing while others fire."""

    def __init__(self) -> None:
        self._members: dict[UUID | None, set[_Subscriber]] = {}
        self.size = 0

    @contextmanager
    def joined(self, subscriber: _Subscriber) -> Iterator[None]:
        """The subscriber is told of what is read while the block runs."""
        webhooks = subscriber.wanted.webhook_ids
        keys: Sequence[UUID | None] = (None,) if webhooks is None else tuple(webhooks)
        for key in keys:
            self._members.setdefault(key, set()).add(subscriber)
        self.size += 1
        try:
            yield
        finally:
            self.size -= 1
            for key in keys:
                self._members[key].discard(subscriber)
                if not self._members[key]:
                    del self._members[key]

    def tell(self, entries: Sequence[Tailed]) -> None:
        """Offer the entries to those that want them; equal filters are applied once."""
        concerned = set(self._members.get(None, ()))
        for webhook_id in {tailed.entry.webhook_id for tailed in entries}:
            concerned |= self._members.get(webhook_id, set())
        accepted: dict[LogFilter, list[Tailed]] = {}
        for subscriber in concerned:
            wanted = subscriber.wanted
            if wanted not in accepted:
                accepted[wanted] = [tailed for tailed in entries if wanted.accepts(tailed.entry)]
            if accepted[wanted]:
                subscriber.offer(accepted[wanted])


class Tailer:
    """Reads the log as it grows; `run` it as a task."""

    def __init__(self, epoch: UUID, max_waiting: int = MAX_WAITING) -> None:
        self._epoch = epoch
        self._max_waiting = max_waiting
        #: How far it has read; None before its first read.
        self.position: Position | None = None
        self.audience = _Audience()
        self._pages: SingleFlight[tuple[Position, Position, LogFilter], _Page] = SingleFlight(KEPT_PAGES, KEPT_SECONDS)
        self._started = asyncio.Event()
        #: Wakes the reader that reads nothing while nobody follows.
        self._joined: Listener | None = None

    async def run(self) -> None:
        """Read until cancelled; a database that is away is waited for."""
        listener = notifier.listen(Topic.LOGGED)
        self._joined = Listener()
        soon = SOON_SECONDS
        while True:
            try:
                more, waiting = await self._read()
            except Exception:
                logger.exception("cannot read the log", action="tail", again_in_seconds=PAUSE_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if not self.audience.size:
                await self._joined.wait(POLL_SECONDS)
            elif not more:
                await listener.wait(soon if waiting else POLL_SECONDS)
            soon = min(soon * 2, POLL_SECONDS) if waiting else SOON_SECONDS

    async def _read(self) -> tuple[bool, bool]:
        """Read a page; returns whether there are more to be read now, and whether some are waiting."""
        if self.position is None:
            self.position = await delivery_log.newest(self._epoch)
            self._started.set()
        elif not self.audience.size:
            newest = await delivery_log.newest(self._epoch)
            if not self.audience.size:  # a subscriber that joined meanwhile gets what came since
                self.position = newest
                return False, False
        found, waiting = await delivery_log.tail(self.position, PAGE)
        entries = self._tailed(found)
        if entries:
            self.position = entries[-1].position
            self.audience.tell(entries)
        return len(entries) == PAGE, waiting

    async def follow(self, wanted: LogFilter, after: Position | None) -> AsyncGenerator[list[Tailed], None]:
        """The wanted entries after a position, or from now on, for ever; those that are there at once, together.

        Raises CursorExpired when entries after the position are gone, SubscriberBehind when the reader is too slow.
        """
        await self._started.wait()
        if after is None:
            position = await delivery_log.newest(self._epoch)
        else:
            await delivery_log.check_resumable(after, self._epoch)
            position = after
        behind = self._rows_after(position)
        while True:
            subscriber = _Subscriber(wanted, self._max_waiting)
            with self.audience.joined(subscriber):
                if self._joined is not None:
                    self._joined.wake()
                joined = self._read_to
                while position < joined:
                    # Others who missed the same read the same page.
                    page = (position, joined, wanted)
                    missed, position = await outcome(self._pages.ask(page, partial(self._read_page, *page)))
                    if missed:
                        yield missed
                while entries := await subscriber.burst():
                    # One that began from the log's end may be told again of what was read before it joined.
                    if fresh := [tailed for tailed in entries if tailed.position > position]:
                        position = fresh[-1].position
                        yield fresh
            # It goes on from the table, as long as that brings it closer to the end of the log.
            before, behind = behind, self._rows_after(position)
            if behind > max(before, self._max_waiting):
                raise SubscriberBehind(behind, position)

    @property
    def _read_to(self) -> Position:
        assert self.position is not None, "the tailer has started"
        return self.position

    def _rows_after(self, position: Position) -> int:
        return self._read_to.row - position.row

    async def _read_page(self, position: Position, until: Position, wanted: LogFilter) -> _Page:
        """Read a page of the wanted entries after one position up to another, and how far it reaches."""
        entries, reached = await delivery_log.between(position, until, wanted, BURST)
        return self._tailed(entries), reached

    def _tailed(self, entries: Sequence[LogEntry]) -> list[Tailed]:
        return [Tailed(entry, delivery_log.place(entry, self._epoch)) for entry in entries]
