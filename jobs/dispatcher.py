"""The dispatcher: woken by a commit or the next due moment, it claims due events in batches and hands them on.

The database is the truth and the broker carries only what is due within half a second, so a million waiting retries
cost the broker nothing, and a message that is lost is found again by the end of its short lease.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from ringback.jobs.recorder import Recorder, abandoned
from ringback.models import claims, clock
from ringback.models.claims import Due
from ringback.models.wakeups import Topic, wakeups

logger = structlog.get_logger("ringback.dispatcher")

#: How far ahead of its moment an event is claimed, in seconds; the worker awaits the rest.
AHEAD_SECONDS = 0.5
#: The longest sleep between two looks at the database, in seconds: what a lost wake-up costs at most.
POLL_SECONDS = 1.0
#: Events per batch, and events under way in one process at the same time.
BATCH_EVENTS = 200
MAX_UNDER_WAY = 2_000
#: How long a failing database is left alone between two tries, in seconds.
PAUSE_SECONDS = 1.0


class Dispatcher:
    """Claims events and hands each batch to `enqueue(lease, event_ids)`; `run` it as a task."""

    def __init__(self, enqueue: Callable[[UUID, Sequence[UUID]], None], recorder: Recorder) -> None:
        self._enqueue = enqueue
        self._recorder = recorder
        self._under_way = 0
        self._wake: Callable[[], None] = lambda: None

    def finished(self, events: int) -> None:
        """Tell that a batch of so many events has ended, so that as many more may be claimed."""
        self._under_way -= events
        self._wake()

    async def run(self) -> None:
        """Dispatch until cancelled; a database that is away is waited for."""
        listener = wakeups.listen(Topic.DUE)
        self._wake = listener.wake
        while True:
            try:
                wait = await self._round()
            except Exception:
                logger.exception("cannot dispatch", action="dispatch", again_in_seconds=PAUSE_SECONDS)
                wait = PAUSE_SECONDS
            if wait > 0:
                await listener.wait(wait)

    async def _round(self) -> float:
        """Claim what is due; returns how long to sleep, in seconds."""
        now = await clock.now()
        lost = await claims.expired(now, BATCH_EVENTS)
        await asyncio.gather(*(self._recorder.record(abandoned(e.event_id, e.lease, e.begun_at, now)) for e in lost))
        room = MAX_UNDER_WAY - self._under_way
        if room <= 0:
            return POLL_SECONDS
        ahead = now + dt.timedelta(seconds=AHEAD_SECONDS)
        due = await claims.due(ahead, now, min(room, BATCH_EVENTS * 4))
        if not due:
            return await self._until_next(now)
        for lease, batch in await claims.claim(batches(due), now):
            self._under_way += len(batch)
            self._enqueue(lease, [d.event_id for d in batch])
        return 0.0

    async def _until_next(self, now: dt.datetime) -> float:
        moment = await claims.next_due()
        if moment is None:
            return POLL_SECONDS
        return min(max((moment - now).total_seconds() - AHEAD_SECONDS, 0.01), POLL_SECONDS)


def batches(due: Sequence[Due]) -> list[list[Due]]:
    """Divide due events into batches: a busy webhook's events travel by themselves, those of small ones together.

    So a slow endpoint with much to receive holds up only itself.
    """
    by_webhook: dict[UUID, list[Due]] = {}
    for event in due:
        by_webhook.setdefault(event.webhook_id, []).append(event)
    found: list[list[Due]] = []
    small: list[Due] = []
    for events in by_webhook.values():
        if len(events) >= BATCH_EVENTS // 4:
            found += [events[start : start + BATCH_EVENTS] for start in range(0, len(events), BATCH_EVENTS)]
        else:
            small += events
    found += [small[start : start + BATCH_EVENTS] for start in range(0, len(small), BATCH_EVENTS)]
    return found
