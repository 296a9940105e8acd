"""The claimer: one loop in each worker process that claims as many due events as there are free slots, and starts them.

Four things lead to the next claim: a Dramatiq message says that events are due, the next event that the claimer knows
of becomes due, a slot or a limit that was in the way is free again, or a second has passed. So a message that is lost,
doubled or late costs time, and never an event.
"""

import asyncio
import datetime as dt
import random
import time
from collections.abc import Mapping
from uuid import UUID

import structlog
from tortoise.exceptions import BaseORMException

from ringback.jobs.deliverer import Deliverer
from ringback.jobs.in_flight import InFlight
from ringback.jobs.lease_keeper import LeaseKeeper
from ringback.jobs.recorder import Recorder
from ringback.models.database import clock
from ringback.models.queue import workers
from ringback.models.queue.claims import ClaimedBatch, claim, next_due
from ringback.models.queue.grants import AHEAD, FIRST_WEBHOOK, ClaimRequest
from ringback.models.queue.workers import WorkerLease

logger = structlog.get_logger("ringback.claimer")

#: Seconds between two looks at the most: what a lost message costs.
POLL_SECONDS = 1.0
#: Seconds between two claims at the least while attempts are in flight: a few events make a poor batch.
GATHER_SECONDS = 0.02
#: The part of the slots that retries may take all together.
RETRIES_SHARE = 0.75
#: Seconds after which a full webhook is looked at again: its attempts may end in other workers.
FULL_SECONDS = 0.2
#: Seconds after which a webhook at its rate limit is looked at again: somebody may have raised the limit.
PACED_SECONDS = 0.5
#: Seconds before the start of an attempt at which its claim begins.
EARLY_SECONDS = AHEAD.total_seconds() / 2
#: Seconds after which a webhook is looked at again for which another worker was claiming.
CONTENDED_SECONDS = 0.01
#: Seconds by which the timers of several workers are spread, at random: the first one claims.
SPREAD_SECONDS = 0.01
#: Seconds for which a worker without a free slot keeps a message before it passes it on, and for which every worker
#: keeps one at the least: when all are full, the message goes round among them.
KEEP_MESSAGE_SECONDS, PASS_ON_SECONDS = 0.05, 0.02
#: Seconds between two looks for events that name this worker and that it does not know.
STRAYS_SECONDS = 5.0
#: Seconds for which a failing database is left alone between two tries.
PAUSE_SECONDS = 1.0


class Claimer:
    """Claims for one worker process; `run` it as a task until `stop`.

    `slots` is how many attempts the process has in flight at the same time, `max_concurrency` the bound of webhooks
    that have none of their own. `can_pass_on` says that messages sent from here reach other workers.
    """

    def __init__(
        self,
        deliverer: Deliverer,
        recorder: Recorder,
        in_flight: InFlight,
        keeper: LeaseKeeper,
        *,
        slots: int,
        max_concurrency: int,
        can_pass_on: bool = False,
    ) -> None:
        self._deliverer = deliverer
        self._recorder = recorder
        self._in_flight = in_flight
        self._keeper = keeper
        self._slots = slots
        self._max_concurrency = max_concurrency
        self._can_pass_on = can_pass_on
        self._turns = _Turns()
        #: Webhooks at their rate limit, and until when they are left alone, by the monotonic clock.
        self._paced_until: dict[UUID, float] = {}
        self._strays_looked_for_at = time.monotonic()
        self._left_behind = False
        self._claimed = asyncio.Event()
        #: Whether the broker announces each message before it hands it over.
        self._are_messages_announced = False
        self._is_stopping = False

    async def run(self) -> None:
        """Claim until `stop`; a database that is away is waited for."""
        while not self._is_stopping:
            self._in_flight.wake.clear()
            began = time.monotonic()
            try:
                seconds = await self._claim_once()
            except Exception as error:
                is_away = isinstance(error, BaseORMException | OSError)
                logger.warning(
                    "cannot claim",
                    action="claim",
                    reason=str(error),
                    again_in_seconds=PAUSE_SECONDS,
                    exc_info=not is_away,
                )
                self._in_flight.may_have_strays = True
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._claimed.set()
            if len(self._in_flight):
                await asyncio.sleep(max(began + GATHER_SECONDS - time.monotonic(), 0))
            await _wait(self._in_flight.wake, seconds)

    def stop(self) -> None:
        """Claim no more; `run` ends when it has started what it has claimed."""
        self._is_stopping = True
        self._in_flight.wake.set()

    def expect_message(self) -> None:
        """Claim, because a message waits at the broker: the claim runs while the message is fetched."""
        self._are_messages_announced = True
        self._claim_soon()

    async def accept_message(self) -> bool:
        """Take the message that events are due; returns False if it should go on to another worker.

        A worker without a free slot waits a moment for one. The message is kept until the claim has ended: Dramatiq's
        thread, which has it acknowledged then, would take the claim's time.
        """
        has_peers = self._can_pass_on and self._keeper.has_peers
        if has_peers and self._free_slots() <= 0:
            self._in_flight.slot_freed.clear()
            if not await _wait(self._in_flight.slot_freed, KEEP_MESSAGE_SECONDS):
                return False
            self._claim_soon()
        elif not self._are_messages_announced:
            self._claim_soon()
        await _wait(self._claimed, KEEP_MESSAGE_SECONDS)
        if not has_peers or not (self._left_behind or self._is_stopping):
            return True
        await asyncio.sleep(PASS_ON_SECONDS)
        return False

    def _claim_soon(self) -> None:
        self._claimed.clear()
        self._in_flight.wake.set()

    def _free_slots(self) -> int:
        """Return the slots that are free; no more than as many results may wait to be recorded."""
        return self._slots - max(len(self._in_flight), len(self._recorder))

    async def _claim_once(self) -> float:
        """Claim and start what is due; returns the seconds until the next look, at the latest."""
        lease = self._keeper.lease
        free_slots = self._free_slots()
        self._in_flight.is_short_of_slots = self._left_behind = free_slots <= 0
        if free_slots <= 0 or lease.is_expired():
            return POLL_SECONDS
        await self._release_strays(lease)
        request = self._request(free_slots)
        batch = await claim(lease.worker_id, request)
        self._turns.note(request, batch)
        self._left_behind = batch.left_behind
        self._in_flight.is_short_of_slots |= batch.left_behind
        self._hold(batch.at_limit, await clock.now())
        for delivery in batch.deliveries:
            self._in_flight.start(delivery.event)
        await self._deliverer.start(lease, batch.deliveries)
        await asyncio.sleep(0)  # the attempts first
        return await self._seconds_until_next(request, batch)

    def _request(self, free_slots: int) -> ClaimRequest:
        """Return what there is room for."""
        in_flight = self._in_flight
        now = time.monotonic()
        for webhook_id in in_flight.take_freed():
            in_flight.full_until.pop(webhook_id, None)
        for until in (in_flight.full_until, self._paced_until):
            for webhook_id in [key for key, moment in until.items() if moment <= now]:
                del until[webhook_id]
        crowded = {key for key, events in in_flight.by_webhook.items() if events >= free_slots}
        retry_slots = max(int(self._slots * RETRIES_SHARE), 1) - in_flight.retries
        in_flight.is_short_of_slots = bool(crowded) or retry_slots <= 0 or in_flight.suspects > 0
        return ClaimRequest(
            free_slots=free_slots,
            retry_slots=retry_slots,
            in_flight=in_flight.by_webhook,
            unrecorded=self._recorder.unrecorded,
            may_take_suspect=not in_flight.suspects,
            retries_first=self._turns.retries_first,
            on_hold=crowded | in_flight.full_until.keys() | self._paced_until.keys(),
            max_concurrency=self._max_concurrency,
            after_webhook=self._turns.after_webhook,
        )

    def _hold(self, at_limit: Mapping[UUID, dt.datetime | None], now: dt.datetime) -> None:
        """Leave webhooks alone until their limits allow more, or may have been raised."""
        present = time.monotonic()
        for webhook_id, slot in at_limit.items():
            if slot is not None:
                seconds = (slot - now).total_seconds() - EARLY_SECONDS
                self._paced_until[webhook_id] = present + min(max(seconds, 0), PACED_SECONDS)
            elif self._in_flight.was_freed(webhook_id):  # after its attempts had been counted
                self._in_flight.wake.set()
            else:
                self._in_flight.full_until[webhook_id] = present + FULL_SECONDS

    async def _seconds_until_next(self, request: ClaimRequest, batch: ClaimedBatch) -> float:
        if batch.more_due or (batch.contended and not batch.deliveries):
            return 0.0 if batch.deliveries else CONTENDED_SECONDS
        if request.after_webhook is not None and batch.after_webhook == FIRST_WEBHOOK:
            return 0.0  # all webhooks had their turn, and the look at the earliest events follows
        present = time.monotonic()
        waits = [until - present for until in (*self._in_flight.full_until.values(), *self._paced_until.values())]
        if batch.contended:
            waits.append(CONTENDED_SECONDS)
        next_due_at = await next_due(request.on_hold, batch.looked_until)
        if next_due_at is not None:
            spread = random.uniform(0, SPREAD_SECONDS) if self._keeper.has_peers else 0.0  # noqa: S311 - no secret
            waits.append((next_due_at - await clock.now()).total_seconds() - EARLY_SECONDS + spread)
        return max(min([*waits, POLL_SECONDS]), 0.001)

    async def _release_strays(self, lease: WorkerLease) -> None:
        """Release events that name this worker and that it does not know: a COMMIT of a claim was not answered."""
        now = time.monotonic()
        if not self._in_flight.may_have_strays and now - self._strays_looked_for_at < STRAYS_SECONDS:
            return
        known = self._in_flight.event_ids | self._recorder.unrecorded
        released = await workers.release_all_but(lease, known)
        if released:
            logger.warning("claims released whose COMMIT was not answered", action="claim", events=released)
        self._strays_looked_for_at = now
        self._in_flight.may_have_strays = False


class _Turns:
    """Whose turn it is: retries or first attempts, and of webhooks, when backlogs hide others."""

    def __init__(self) -> None:
        self.retries_first = False
        self._is_clogged = False
        self._next_webhook = FIRST_WEBHOOK

    @property
    def after_webhook(self) -> UUID | None:
        """Where to go on with a look at each webhook in turn; None for the ordinary look at the earliest events."""
        return self._next_webhook if self._is_clogged else None

    def note(self, request: ClaimRequest, batch: ClaimedBatch) -> None:
        """Take turns. A look that was full of events which could not be claimed may hide others."""
        self.retries_first = not self.retries_first
        if request.after_webhook is not None:
            self._next_webhook = batch.after_webhook
        self._is_clogged = batch.more_due and 2 * len(batch.deliveries) < batch.seen


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so many seconds; returns whether it came."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
