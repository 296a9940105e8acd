"""The live log: one tailer per process reads the delivery log and serves all subscribers.

A subscriber first reads the entries that it missed since its cursor, page by page, up to the tailer's position when it
joined. From there on it gets the entries that the tailer reads. The tailer has one position and the log has one order,
so no entry is missed or repeated. Between entries a subscriber holds only its queue, and queued entries are shared with
all other subscribers.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

import structlog

from ringback.graphql_api.context.single_flight import SingleFlight, wait_for_result
from ringback.models import delivery_log
from ringback.models.database.notifications import Listener, Topic, notifier
from ringback.models.delivery_log import LogEntry, LogFilter, Position
from ringback.models.errors import RingbackError

logger = structlog.get_logger("ringback.tailer")

#: Entries that the tailer reads by one statement.
PAGE = 500
#: Entries that a subscriber gets at once, and entries in a page of missed ones, at most.
BURST = 100
#: Subscribers that are woken in one turn of the event loop.
OFFERS_PER_TURN = 64
#: Entries queued for one subscriber, at most. A subscriber that has read its queue and is then
#: further behind than before, and by more than this, is ended.
MAX_WAITING = 5_000
#: Entries queued for all subscribers together, about, at 8 bytes each. Each subscriber may always have a page of them.
MAX_QUEUED = 1_000_000
#: Pages of missed entries that are cached for other subscribers that missed the same.
MAX_CACHED_PAGES = 64
#: Seconds for which such a page is cached.
PAGE_CACHE_SECONDS = 1.0
#: Seconds between two reads, at most: the delay that a lost notification causes.
POLL_SECONDS = 1.0
#: Seconds until the next read while entries wait for an older transaction, whose end sends no notification. Doubles.
FIRST_RECHECK_SECONDS = 0.005
#: Seconds between two tries while the database fails.
RETRY_SECONDS = 1.0


class SubscriberBehind(RingbackError):
    """A subscriber reads more slowly than the log grows. `position` is the last one that it has read."""

    def __init__(self, entries: int, position: Position) -> None:
        super().__init__(
            f"The subscriber is {entries:,} log entries behind. "
            "Subscribe again with `after` set to `extensions.cursor`."
        )
        self.position = position


@dataclass(frozen=True, slots=True, eq=False)
class TailedEntry:
    """A log entry with its position. All subscribers share one object."""

    entry: LogEntry
    position: Position


class _PageKey(NamedTuple):
    """A page of missed entries: those after one position, up to another, that a filter accepts."""

    after: Position
    until: Position
    entry_filter: LogFilter


class _Page(NamedTuple):
    """Missed entries, and the position up to which the log was searched for them."""

    entries: list[TailedEntry]
    reached: Position


class _TailerRead(NamedTuple):
    """The result of one read by the tailer."""

    #: Whether the page was full, so that more entries can be read at once.
    is_full: bool
    #: Whether entries wait for an older transaction to end.
    is_waiting: bool


class _Subscriber:
    """The queue of one subscriber. It overflows once; later entries have to be read from the table."""

    def __init__(self, entry_filter: LogFilter, max_waiting: int) -> None:
        self.entry_filter = entry_filter
        self._max_waiting = max_waiting
        # Thousands of idle subscribers wait, so each holds as little as possible: an empty deque takes 0.6 kB.
        self._queue: list[TailedEntry] = []
        self._has_overflowed = False
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, entries: Sequence[TailedEntry], max_queued: int) -> None:
        """Queue entries, up to `max_queued` in total. Do nothing after an overflow."""
        if self._has_overflowed:
            return
        # The queue may be longer than `max_queued`, which becomes smaller when others join.
        capacity = max(0, min(self._max_waiting, max_queued) - len(self._queue))
        if len(entries) > capacity:
            self._has_overflowed = True
            entries = entries[:capacity]
        self._queue.extend(entries)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_burst(self) -> list[TailedEntry]:
        """Wait for entries. Return [] once the queue has overflowed and is empty."""
        while not self._queue and not self._has_overflowed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._waiter = None
        burst = self._queue[:BURST]
        del self._queue[:BURST]
        return burst


class _Audience:
    """All subscribers, by webhook: a subscriber to one webhook costs nothing while others fire."""

    def __init__(self) -> None:
        #: Subscribers to all webhooks are under None.
        self._subscribers: dict[UUID | None, set[_Subscriber]] = {}
        self.size = 0

    @contextmanager
    def join(self, subscriber: _Subscriber) -> Iterator[None]:
        """Offer the subscriber what the tailer reads while the block runs."""
        webhook_ids = subscriber.entry_filter.webhook_ids
        keys: Sequence[UUID | None] = (None,) if webhook_ids is None else tuple(webhook_ids)
        for key in keys:
            self._subscribers.setdefault(key, set()).add(subscriber)
        self.size += 1
        try:
            yield
        finally:
            self.size -= 1
            for key in keys:
                self._subscribers[key].discard(subscriber)
                if not self._subscribers[key]:
                    del self._subscribers[key]

    async def publish(self, entries: Sequence[TailedEntry]) -> None:
        """Offer entries to the subscribers whose filters accept them. Each distinct filter is applied once.

        Everything else gets a turn after each OFFERS_PER_TURN subscribers. One that joins meanwhile does so behind
        these entries, and one that leaves no longer reads its queue.
        """
        candidates = set(self._subscribers.get(None, ()))
        for webhook_id in {tailed.entry.webhook_id for tailed in entries}:
            candidates |= self._subscribers.get(webhook_id, set())
        accepted: dict[LogFilter, list[TailedEntry]] = {}
        max_queued = max(PAGE, MAX_QUEUED // max(self.size, 1))
        for number, subscriber in enumerate(candidates, 1):
            if number % OFFERS_PER_TURN == 0:
                await asyncio.sleep(0)
            entry_filter = subscriber.entry_filter
            if entry_filter not in accepted:
                accepted[entry_filter] = [tailed for tailed in entries if entry_filter.accepts(tailed.entry)]
            if accepted[entry_filter]:
                subscriber.offer(accepted[entry_filter], max_queued)


class Tailer:
    """The reader of the delivery log in this process. Run `run` as a task."""

    def __init__(self, epoch: UUID, max_waiting: int = MAX_WAITING) -> None:
        self._epoch = epoch
        self._max_waiting = max_waiting
        #: The position up to which the log was read; None before the first read.
        self.position: Position | None = None
        self.audience = _Audience()
        self._pages: SingleFlight[_PageKey, _Page] = SingleFlight(MAX_CACHED_PAGES, PAGE_CACHE_SECONDS)
        self._started = asyncio.Event()
        #: The read of the log's end that has not started yet.
        self._next_end: asyncio.Future[Position] | None = None
        self._reading_end = asyncio.Lock()
        #: Wakes the tailer, which reads no entries without a subscriber.
        self._joined = Listener()

    async def run(self) -> None:
        """Read until cancelled. A failing database is retried every RETRY_SECONDS."""
        listener = notifier.listen(Topic.LOGGED)
        recheck_seconds = FIRST_RECHECK_SECONDS
        while True:
            try:
                read = await self._read()
            except Exception:
                logger.exception("cannot read the delivery log", action="tail", again_in_seconds=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            pause = POLL_SECONDS
            if read.is_waiting:
                pause = recheck_seconds
                recheck_seconds = min(recheck_seconds * 2, POLL_SECONDS)
            else:
                recheck_seconds = FIRST_RECHECK_SECONDS
            if not self.audience.size:
                await self._joined.wait(POLL_SECONDS)
            elif not read.is_full:
                await listener.wait(pause)

    async def _read(self) -> _TailerRead:
        """Read a page of entries and publish it. Without subscribers, only move to the end of the log."""
        if self.position is None:
            self.position = await delivery_log.read_end(self._epoch)
            self._started.set()
        elif not self.audience.size:
            newest = await delivery_log.read_end(self._epoch)
            if not self.audience.size:  # a subscriber that joined meanwhile gets the entries since `position`
                self.position = newest
                return _TailerRead(is_full=False, is_waiting=False)
        rows, is_waiting = await delivery_log.read_after(self.position, PAGE)
        entries = self._with_positions(rows)
        if entries:
            self.position = entries[-1].position
            await self.audience.publish(entries)
        return _TailerRead(is_full=len(entries) == PAGE, is_waiting=is_waiting)

    async def follow(self, entry_filter: LogFilter, after: Position | None) -> AsyncGenerator[list[TailedEntry], None]:
        """Yield the entries that a filter accepts, after a position or from now on, in bursts, without an end.

        Raises CursorExpired if entries after the position were deleted, SubscriberBehind if the reader is too slow.
        """
        await self._started.wait()
        if after is None:
            position = await self._read_end_together()
        else:
            await delivery_log.check_resumable(after, self._epoch)
            position = after
        behind = self._rows_after(position)
        while True:
            subscriber = _Subscriber(entry_filter, self._max_waiting)
            with self.audience.join(subscriber):
                self._joined.wake()
                joined_at = self._read_to
                while position < joined_at:
                    page = await self._read_missed(_PageKey(position, joined_at, entry_filter))
                    position = page.reached
                    if page.entries:
                        yield page.entries
                while entries := await subscriber.next_burst():
                    # The end of the log, where it started, may be ahead of the tailer's position.
                    if fresh := [tailed for tailed in entries if tailed.position > position]:
                        position = fresh[-1].position
                        yield fresh
            # The queue overflowed. Go on from the table, unless it is now further behind than before.
            behind_before, behind = behind, self._rows_after(position)
            if behind > max(behind_before, self._max_waiting):
                raise SubscriberBehind(behind, position)

    async def _read_end_together(self) -> Position:
        """Read the end of the log, by one statement for all subscribers that come before the statement starts."""
        if self._next_end is None:
            self._next_end = asyncio.ensure_future(self._read_next_end())
        return await wait_for_result(self._next_end)

    async def _read_next_end(self) -> Position:
        async with self._reading_end:
            self._next_end = None
            return await delivery_log.read_end(self._epoch)

    @property
    def _read_to(self) -> Position:
        assert self.position is not None, "the tailer has started"
        return self.position

    def _rows_after(self, position: Position) -> int:
        return self._read_to.row - position.row

    async def _read_missed(self, key: _PageKey) -> _Page:
        """Read a page of missed entries, together with other subscribers that missed the same."""
        return await wait_for_result(self._pages.run(key, partial(self._read_page, key)))

    async def _read_page(self, key: _PageKey) -> _Page:
        rows, reached = await delivery_log.read_between(key.after, key.until, key.entry_filter, BURST)
        return _Page(self._with_positions(rows), reached)

    def _with_positions(self, rows: Sequence[LogEntry]) -> list[TailedEntry]:
        return [TailedEntry(row, delivery_log.get_position(row, self._epoch)) for row in rows]
