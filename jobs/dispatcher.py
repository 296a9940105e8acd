"""The dispatcher: woken by a commit or the next due moment, it claims due events in batches and hands them on.

The database is the truth and the broker carries only what is due within half a second, so a million waiting retries
cost the broker nothing, and a message that is lost is found again by the end of its short lease.

Places are shared out so that nobody takes them all. A webhook may have as many events under way as there are places
free: alone it gets half of them, with nine others a tenth, and one more always finds room ("dynamic thresholds",
Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). So endpoints that hang hold up only themselves.
What is about to end counts as ended (`jobs.flow`), so that no place stands empty while a claim is on its way to it over
a broker elsewhere.
First attempts and retries take turns, and retries never take the last quarter of the places, so a flood of either kind
lets the other through. Beside that each webhook has limits of its own, which hold in all processes together
(`models.limits`): one that has reached them is not looked at before they let more go.
"""

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile, zip_longest
from typing import NamedTuple
from uuid import UUID

import structlog

from ringback.jobs.connections import MAX_CONNECTIONS
from ringback.jobs.flow import Flow
from ringback.jobs.recorder import Recorder, abandoned
from ringback.models import claims, clock, limits
from ringback.models.claims import Due, Held
from ringback.models.limits import AHEAD_SECONDS, Limits
from ringback.models.settings import DEFAULT_MAX_CONCURRENCY
from ringback.models.wakeups import Topic, wakeups

logger = structlog.get_logger("ringback.dispatcher")

#: The longest sleep between two looks at the database, in seconds: what a lost wake-up costs at most.
POLL_SECONDS = 1.0
#: Events per batch, and per claim.
BATCH_EVENTS = 400
CLAIM_EVENTS = 800
#: Events under way in one process at the same time: as many as there are connections.
PLACES = MAX_CONNECTIONS
#: The part of the places that retries may take all together.
RETRIES_SHARE = 0.75
#: The part of the places for which events are claimed before they are free, at most, where claims have some way to go.
AHEAD_SHARE = 0.5
#: How often the database is asked what other processes have finished, of what has been under way for so long, in
#: seconds, and about how many events at a time. What this process finishes it knows by itself.
ASK_SECONDS, ASK_EVENTS = 0.02, 200
#: How often claims and leases that ended are looked for, in seconds.
LOST_SECONDS = 0.5
#: How often limits that let nothing go are read again, in seconds: somebody may have raised them.
LIMITS_SECONDS = 0.5
#: How often a bound that is reached is, when its attempts may be under way elsewhere; of those here it is known when
#: they end.
FULL_SECONDS = 0.2
#: The least time between two claims while places or limits are short, in seconds: a few events make a poor batch.
GATHER_SECONDS = 0.02
#: How long a webhook is left alone for which another process was claiming, in seconds.
CONTENTION_SECONDS = 0.01
#: How long a failing database is left alone between two tries, in seconds.
PAUSE_SECONDS = 1.0


class _UnderWay(NamedTuple):
    """A claimed event; `claimed_at`, and `known_at`, when it still was, are moments of the monotonic clock."""

    due: Due
    lease: UUID
    claimed_at: float
    known_at: float


@dataclass(frozen=True, slots=True)
class _Wait:
    """A webhook's limits let nothing go until a moment; None is until one of its attempts ends. True at `known_at`."""

    until: dt.datetime | None
    known_at: dt.datetime


class Dispatcher:
    """Claims events and hands batches to `enqueue`, each with its lease; `run` it as a task.

    `bound` is how many attempts a webhook may have under way that has no bound of its own. This process tells of each
    attempt of its own by `finished`, and by `recorded` when it is on record. `alone` says that it delivers all of them;
    otherwise the database is asked which are still under way of those that `is_here` does not know.
    """

    def __init__(
        self,
        enqueue: Callable[[Sequence[tuple[UUID, Sequence[UUID]]]], Awaitable[None]],
        recorder: Recorder,
        *,
        places: int = PLACES,
        alone: bool = True,
        is_here: Callable[[UUID], bool] = lambda event_id: False,
        bound: int = DEFAULT_MAX_CONCURRENCY,
    ) -> None:
        self._enqueue = enqueue
        self._recorder = recorder
        self._places = places
        self._ahead = 0 if alone else int(places * AHEAD_SHARE)
        self._alone = alone
        self._is_here = is_here
        self._bound = bound
        #: By event; what is known for the longest comes first.
        self._under_way: dict[UUID, _UnderWay] = {}
        self._flow = Flow()
        self._asked_at = self._looked_for_lost_at = 0.0
        self._woken = False
        self._held = claims.NOTHING_HELD
        self._short_of_places = False
        self._waits: dict[UUID, _Wait] = {}
        #: Webhooks of which attempts have ended, or been recorded, since the last look.
        self._freed: set[UUID] = set()
        self._retries_first = False
        #: Whether the last look was full of events that could not be claimed, and where the turn of webhooks is.
        self._clogged = False
        self._turn = claims.FIRST_WEBHOOK
        self._wake: Callable[[], None] = lambda: None

    def finished(self, event_id: UUID) -> None:
        """Tell that an event is no longer under way, so that another one may be claimed."""
        ended = self._forget(event_id)
        wait = None
        if ended is not None:
            self._flow.ended(ended.due.webhook_id, ended.claimed_at)
            wait = self._waits.get(ended.due.webhook_id)
        if not self._woken and (self._short_of_places or (wait is not None and wait.until is None)):
            self._woken = True
            self._wake()

    def recorded(self, webhook_id: UUID) -> None:
        """Tell that an attempt is on record, whoever claimed it; wakes nobody."""
        self._freed.add(webhook_id)

    async def run(self) -> None:
        """Dispatch until cancelled; a database that is away is waited for."""
        listener = wakeups.listen(Topic.DUE)
        self._wake = listener.wake
        while True:
            began = time.monotonic()
            try:
                wait = await self._round()
            except Exception:
                logger.exception("cannot dispatch", action="dispatch", again_in_seconds=PAUSE_SECONDS)
                wait = PAUSE_SECONDS
            if self._under_way and (self._short_of_places or self._waits):
                await asyncio.sleep(max(began + GATHER_SECONDS - time.monotonic(), 0))
            if wait > 0:
                await listener.wait(wait)

    async def _round(self) -> float:
        """Claim what is due; returns how long to sleep, in seconds."""
        now = await clock.now()
        await self._look_for_lost(now)
        if not self._alone:
            await self._ask_what_is_under_way()
        await self._ask_limits(now)
        self._woken = False
        under_way = [known.due for known in self._under_way.values()]
        load = Counter([d.webhook_id for d in under_way])
        if not self._alone:
            load -= self._flow.ending((known.due.webhook_id, known.claimed_at) for known in self._under_way.values())
        free = min(self._places - load.total(), self._places + self._ahead - len(under_way))
        retries = max(int(self._places * RETRIES_SHARE), 1) - sum(d.retry for d in under_way)
        crowded = {webhook_id for webhook_id, events in load.items() if events >= free}
        self._held = Held(crowded | self._waits.keys(), any(d.suspect for d in under_way), retries <= 0)
        self._short_of_places = free <= 0 or bool(crowded) or self._held.suspects or self._held.retries
        if free <= 0:
            return POLL_SECONDS if self._alone else ASK_SECONDS
        ahead = now + dt.timedelta(seconds=AHEAD_SECONDS)
        limit = min(free, CLAIM_EVENTS)
        firsts, again = await self._look(ahead, limit)
        due = admitted(in_turn(firsts, again, retries_first=self._retries_first), load, free, retries)
        if not due:
            return await self._until_next(now)
        self._retries_first = not self._retries_first
        claimed = await self._claim(due, now)
        taken = sum(len(batch) for _, batch in claimed)
        self._clogged = limit in (len(firsts), len(again)) and 2 * taken < len(firsts) + len(again)
        await self._hand_on(claimed)
        return 0.0 if claimed else CONTENTION_SECONDS

    async def _look(self, until: dt.datetime, limit: int) -> tuple[list[Due], list[Due]]:
        """The earliest events, unless those last seen were hardly claimed: then each webhook's in turn."""
        if self._clogged:
            each = max(min(limit // (len(self._waits) + 1), claims.MOST_EACH), 1)
            firsts, again, self._turn = await claims.due_by_webhook(until, limit, each, self._turn, self._held)
            if firsts or again:
                return firsts, again
        return await claims.due(until, limit, self._held)

    async def _claim(self, due: Sequence[Due], now: dt.datetime) -> list[tuple[UUID, list[Due]]]:
        claimed = await claims.claim(batches(due), now, self._bound, ended=self._ended())
        self._know(claimed.limits, now)
        return claimed.batches

    async def _hand_on(self, claimed: Sequence[tuple[UUID, list[Due]]]) -> None:
        at = time.monotonic()
        for lease, batch in claimed:
            self._under_way.update((d.event_id, _UnderWay(d, lease, at, at)) for d in batch)
        try:
            await self._enqueue([(lease, [d.event_id for d in batch]) for lease, batch in claimed])
        except BaseException:
            # The broker is away, or the program stops: they are due again at once, not when their lease ends. A batch
            # that did go out finds that it owns nothing any more, unless it is begun.
            await self._withdraw(claimed)
            raise

    async def _ask_limits(self, now: dt.datetime) -> None:
        """Look again at the limits of webhooks that wait for them, where they may have changed."""
        for webhook_id in self._freed & self._waits.keys():
            if self._waits[webhook_id].until is None:
                del self._waits[webhook_id]
        self._freed.clear()
        asked = [webhook_id for webhook_id in self._waits if self._ask_again_at(webhook_id) <= now]
        if asked:
            found = await limits.read(asked, self._bound, self._ended())
            for webhook_id in asked:
                del self._waits[webhook_id]
            self._know(found, now)

    def _ended(self) -> Mapping[UUID, UUID]:
        """What has ended here and is not on record: the bounds do not count it, unless recording falls far behind."""
        return self._recorder.unwritten(PLACES)

    def _know(self, found: Mapping[UUID, Limits], now: dt.datetime) -> None:
        for webhook_id, of_webhook in found.items():
            until = limits.free_at(of_webhook, now)
            if limits.is_full(of_webhook):
                self._waits[webhook_id] = _Wait(None, now)
            elif until > now:
                self._waits[webhook_id] = _Wait(until, now)

    async def _withdraw(self, claimed: Sequence[tuple[UUID, Sequence[Due]]]) -> None:
        for event_id in [d.event_id for _, batch in claimed for d in batch]:
            self._forget(event_id)
        for lease, batch in claimed:
            await claims.withdraw(lease, [d.event_id for d in batch])

    def _forget(self, event_id: UUID) -> _UnderWay | None:
        known = self._under_way.pop(event_id, None)
        if known is not None:
            self._freed.add(known.due.webhook_id)
        return known

    async def _ask_what_is_under_way(self) -> None:
        now = time.monotonic()
        if now - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = now
        old = takewhile(lambda item: item[1].known_at <= now - ASK_SECONDS, self._under_way.items())
        elsewhere = (item for item in old if not self._is_here(item[0]))
        asked = dict(islice(elsewhere, ASK_EVENTS))
        if not asked:
            return
        for event_id in asked.keys() - await claims.still_leased({key: known.lease for key, known in asked.items()}):
            self.finished(event_id)
        for event_id in asked:
            still = self._under_way.pop(event_id, None)
            if still is not None:  # the next time others are asked about first
                self._under_way[event_id] = still._replace(known_at=now)

    async def _look_for_lost(self, now: dt.datetime) -> None:
        """Make claims that nobody picked up due again, and put what dead workers left on record."""
        if time.monotonic() - self._looked_for_lost_at < LOST_SECONDS:
            return
        self._looked_for_lost_at = time.monotonic()
        await claims.take_back(now)
        while lost := await claims.expired(now, BATCH_EVENTS):
            results = (abandoned(e.event_id, e.lease, e.begun_at, now) for e in lost)
            await asyncio.gather(*(self._recorder.record(result) for result in results))

    async def _until_next(self, now: dt.datetime) -> float:
        moment = await claims.next_due(now + dt.timedelta(seconds=AHEAD_SECONDS), self._held)
        looks = [] if moment is None else [moment - dt.timedelta(seconds=AHEAD_SECONDS)]
        looks += [self._ask_again_at(webhook_id) for webhook_id in self._waits]
        # Nobody tells when what takes the places has ended elsewhere.
        asks = not self._alone and self._short_of_places and not all(map(self._is_here, self._under_way))
        longest = ASK_SECONDS if asks else POLL_SECONDS
        return min([max((look - now).total_seconds(), 0.01) for look in looks] + [longest])

    def _ask_again_at(self, webhook_id: UUID) -> dt.datetime:
        """When the limits of a webhook that waits for them are read again, at the latest."""
        wait = self._waits[webhook_id]
        if wait.until is not None:
            return min(wait.until, wait.known_at + dt.timedelta(seconds=LIMITS_SECONDS))
        return wait.known_at + dt.timedelta(seconds=LIMITS_SECONDS if self._alone else FULL_SECONDS)


def in_turn(firsts: Sequence[Due], retries: Sequence[Due], *, retries_first: bool) -> list[Due]:
    """First attempts and retries by turns, so that none of them waits for all of the others."""
    one, other = (retries, firsts) if retries_first else (firsts, retries)
    return [due for due in chain.from_iterable(zip_longest(one, other)) if due is not None]


def admitted(due: Sequence[Due], load: Mapping[UUID, int], free: int, retries: int) -> list[Due]:
    """Which due events get a place, in their order; `load` says how many each webhook has under way.

    No more than `retries` of them are retries. Of suspects only one is under way at a time: if it brings the worker
    down, it does so alone.
    """
    under_way = Counter(load)
    found: list[Due] = []
    suspected = False
    for event in due:
        if under_way[event.webhook_id] >= free or (event.suspect and suspected) or (event.retry and retries <= 0):
            continue
        suspected = suspected or event.suspect
        under_way[event.webhook_id] += 1
        free -= 1
        retries -= event.retry
        found.append(event)
    return found


def batches(due: Sequence[Due]) -> list[list[Due]]:
    """Divide due events into batches: a busy webhook's events travel by themselves, those of small ones together."""
    by_webhook: dict[UUID, list[Due]] = {}
    for event in due:
        by_webhook.setdefault(event.webhook_id, []).append(event)
    found: list[list[Due]] = []
    small: list[Due] = []
    for events in by_webhook.values():
        if len(events) >= BATCH_EVENTS // 2:
            found += [events[start : start + BATCH_EVENTS] for start in range(0, len(events), BATCH_EVENTS)]
        else:
            small += events
    found += [small[start : start + BATCH_EVENTS] for start in range(0, len(small), BATCH_EVENTS)]
    return found
