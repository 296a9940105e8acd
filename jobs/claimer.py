"""Claims due events: one loop in each worker process claims as many as there are free slots, and starts them.

A claim follows when a Dramatiq message says that events are due, when the next known event becomes due, when a slot or
a limit that was in the way is free again, or after a second. So a lost, duplicated or late message costs time, never an
event.
"""

import asyncio
import datetime as dt
import random
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from tortoise.exceptions import BaseORMException

from ringback.jobs.deliverer import Deliverer
from ringback.jobs.in_flight import InFlight
from ringback.jobs.lease_keeper import LeaseKeeper
from ringback.jobs.recorder import Recorder
from ringback.models.background_tasks import end_tasks, wait_for
from ringback.models.database import clock
from ringback.models.database.transactions import finish
from ringback.models.queue import workers
from ringback.models.queue.claims import ClaimedBatch, Delivery, claim, find_next_due
from ringback.models.queue.grants import AHEAD, FIRST_WEBHOOK, ClaimRequest
from ringback.models.queue.workers import WorkerLease

logger = structlog.get_logger("ringback.claimer")

#: Maximum number of seconds between two claims: the cost of a lost message.
POLL_SECONDS = 1.0
#: Minimum number of seconds between two claims while attempts are in flight, so that events gather into larger batches.
GATHER_SECONDS = 0.02
#: Minimum number of seconds of a timed wait before the next claim.
MIN_WAIT_SECONDS = 0.001
#: Largest share of the slots for retries.
RETRIES_SHARE = 0.75
#: For each of this many slots, one is reserved for webhooks that are known to be prompt. Fewer slots have no reserve.
SLOTS_PER_RESERVED = 8
#: Seconds between looks at a webhook at its concurrency limit, if its attempts may end in other workers.
FULL_SECONDS = 0.2
#: Seconds between searches for events of prompt webhooks, while others use all common slots.
PROMPT_SECONDS = 0.2
#: Maximum number of seconds between these searches, while others use the common slots and free them again quickly.
HIDDEN_SECONDS = 0.5
#: Maximum number of seconds between looks at a webhook at its rate limit: the limit may have been raised.
PACED_SECONDS = 0.5
#: Seconds by which a claim precedes the start of its attempts.
EARLY_SECONDS = AHEAD.total_seconds() / 2
#: Seconds until another look at webhooks for which another worker was claiming.
CONTENDED_SECONDS = 0.01
#: Upper limit, in seconds, of the random delay of each of several workers' timers, so that one of them claims.
SPREAD_SECONDS = 0.01
#: Maximum number of seconds for which a message waits for the end of its claim, or for a free slot.
KEEP_MESSAGE_SECONDS = 0.05
#: Minimum number of seconds before a message is passed on: if all workers are full, it circulates among them.
PASS_ON_SECONDS = 0.02
#: Seconds between looks for events that name this worker and are not in flight here.
STRAYS_SECONDS = 5.0
#: Seconds before a failed claim is repeated.
PAUSE_SECONDS = 1.0


class Claimer:
    """The claims of one worker process; `run` it as a task until `stop`.

    `slots` is the number of attempts that the process has in flight at once, `max_concurrency` the limit of webhooks
    without one of their own. `can_pass_on` says that messages sent from here reach other workers.
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
        self._common_slots = slots - slots // SLOTS_PER_RESERVED
        self._max_concurrency = max_concurrency
        self._can_pass_on = can_pass_on
        self._turns = _Turns()
        #: When to search for prompt webhooks although others have common slots, by the monotonic clock.
        self._prompt_search_at = time.monotonic() + HIDDEN_SECONDS
        #: Webhooks at their rate limits, and when to look at them again, by the monotonic clock.
        self._paced_until: dict[UUID, float] = {}
        self._strays_checked_at = time.monotonic()
        #: Whether the last claim left due events to other workers, for lack of slots.
        self._left_behind = False
        self._claimed = asyncio.Event()
        #: Starts the attempts of the last claim, while the next claim waits for the database.
        self._starting: asyncio.Task[None] | None = None
        #: Whether the broker announces each message before it delivers it.
        self._are_messages_announced = False
        self._is_stopping = False

    async def run(self) -> None:
        """Claim until `stop`, and start what is claimed. Errors are logged, and the claim is repeated."""
        try:
            await self._claim_until_stopped()
            await self._wait_until_started()
        finally:
            if self._starting is not None:
                await finish(end_tasks(self._starting))

    async def _claim_until_stopped(self) -> None:
        while not self._is_stopping:
            self._in_flight.wake.clear()
            started = time.monotonic()
            try:
                seconds = await self._claim_once()
            except Exception as error:
                await self._pause_after("cannot claim events; trying again", error)
                continue
            self._claimed.set()
            if len(self._in_flight):
                await asyncio.sleep(max(started + GATHER_SECONDS - time.monotonic(), 0))
            await wait_for(self._in_flight.wake, seconds)

    def stop(self) -> None:
        """Stop claiming. `run` ends once all claimed events are started."""
        self._is_stopping = True
        self._in_flight.wake.set()

    async def expect_message(self) -> None:
        """Claim because the broker has a message. The message is fetched afterwards: threads slow the claim down."""
        self._are_messages_announced = True
        self._claim_soon()
        await wait_for(self._claimed, KEEP_MESSAGE_SECONDS)

    async def accept_message(self) -> bool:
        """Claim because events are due; returns False if the message should go on to another worker.

        A worker without a free slot waits briefly for one. The message is kept until the claim has ended.
        """
        has_peers = self._can_pass_on and self._keeper.has_peers
        if has_peers and self._free_slots() <= 0:
            self._in_flight.slot_freed.clear()
            if not await wait_for(self._in_flight.slot_freed, KEEP_MESSAGE_SECONDS):
                return False
            self._claim_soon()
        elif not self._are_messages_announced:
            self._claim_soon()
        await wait_for(self._claimed, KEEP_MESSAGE_SECONDS)
        if not has_peers or not (self._left_behind or self._is_stopping):
            return True
        await asyncio.sleep(PASS_ON_SECONDS)
        return False

    def _claim_soon(self) -> None:
        self._claimed.clear()
        self._in_flight.wake.set()

    def _free_slots(self) -> int:
        """Return the number of free slots. Results that wait to be recorded take slots too, so that few wait."""
        return self._slots - max(len(self._in_flight), len(self._recorder))

    async def _claim_once(self) -> float:
        """Claim and start due events; returns the seconds until the next claim, if nothing wakes the claimer before."""
        lease = self._keeper.lease
        free_slots = self._free_slots()
        self._in_flight.is_short_of_slots = self._left_behind = free_slots <= 0
        if free_slots <= 0 or lease.is_expired():
            return POLL_SECONDS
        if self._in_flight.may_have_strays:
            await self._wait_until_started()  # if the start has failed, this worker claims no more during its pause
        await self._release_strays(lease)
        request = self._make_request(free_slots)
        batch = await claim(lease.worker_id, request)
        self._turns.advance(request, batch)
        if request.only_prompt:
            self._prompt_search_at = time.monotonic() + HIDDEN_SECONDS
        self._left_behind = batch.left_behind or request.only_prompt
        self._in_flight.is_short_of_slots |= batch.left_behind
        now = await clock.now()
        await self._wait_until_started()
        # No await from here on: if the wait is cancelled, the events are not in flight, and the end of the lease
        # releases them.
        self._put_on_hold(batch.at_limit, now)
        for delivery in batch.deliveries:
            self._in_flight.start(delivery.event, delivery.item_size)
        self._starting = asyncio.create_task(self._start(lease, batch.deliveries))
        await asyncio.sleep(0)  # let the start begin before the next statement
        return await self._seconds_until_next(request, batch)

    async def _start(self, lease: WorkerLease, deliveries: Sequence[Delivery]) -> None:
        try:
            await self._deliverer.start(lease, deliveries)
        except Exception as error:
            await self._pause_after("cannot start attempts; trying again", error)
            self._in_flight.wake.set()

    async def _wait_until_started(self) -> None:
        """Wait until the attempts of the last claim are started, or released after an error."""
        if self._starting is not None:
            await self._starting

    async def _pause_after(self, message: str, error: Exception) -> None:
        """Log an error, and wait before the next try."""
        is_bug = not isinstance(error, BaseORMException | OSError)
        logger.warning(message, action="claim", reason=str(error), again_in_seconds=PAUSE_SECONDS, exc_info=is_bug)
        self._in_flight.may_have_strays = True
        await asyncio.sleep(PAUSE_SECONDS)

    async def _release_strays(self, lease: WorkerLease) -> None:
        """Release events that name this worker and are not in flight here: their claim's COMMIT got no answer."""
        now = time.monotonic()
        if not self._in_flight.may_have_strays and now - self._strays_checked_at < STRAYS_SECONDS:
            return
        expected = self._in_flight.event_ids | self._recorder.unrecorded
        self._in_flight.may_have_strays = False  # a start that fails from here on sets it again
        released = await workers.release_all_but(lease, expected)
        if released:
            logger.warning("released claims whose COMMIT got no answer", action="claim", events=released)
        self._strays_checked_at = now

    def _make_request(self, free_slots: int) -> ClaimRequest:
        """Return the request for as many events as there is room for."""
        in_flight = self._in_flight
        for webhook_id in in_flight.take_freed_webhooks():
            in_flight.full_until.pop(webhook_id, None)
        now = time.monotonic()
        _remove_expired(in_flight.full_until, now)
        _remove_expired(self._paced_until, now)
        in_common_slots = in_flight.in_common_slots
        common_slots = self._common_slots - sum(in_common_slots.values())
        crowded = _list_crowded(in_flight.by_webhook, free_slots) | _list_crowded(in_common_slots, common_slots)
        retry_slots = max(int(self._slots * RETRIES_SHARE), 1) - in_flight.retries
        lacks_slots = retry_slots <= 0 or common_slots <= 0
        # A backlog may refill common slots as fast as they are used. Its events hide those of prompt webhooks too.
        may_search = 2 * common_slots < free_slots or now >= self._prompt_search_at
        in_flight.is_short_of_slots = bool(crowded) or lacks_slots or in_flight.suspects > 0
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
            prompt=in_flight.prompt,
            common_slots=common_slots,
            only_prompt=common_slots <= 0 or (self._turns.may_hide_prompt and may_search),
            prompt_bytes=in_flight.room_for_bodies(is_prompt=True),
            common_bytes=in_flight.room_for_bodies(is_prompt=False),
        )

    def _put_on_hold(self, at_limit: Mapping[UUID, dt.datetime | None], now: dt.datetime) -> None:
        """Skip webhooks until their limits allow more, or may have been raised."""
        monotonic_now = time.monotonic()
        for webhook_id, next_slot_at in at_limit.items():
            if next_slot_at is not None:
                seconds = (next_slot_at - now).total_seconds() - EARLY_SECONDS
                self._paced_until[webhook_id] = monotonic_now + min(max(seconds, 0), PACED_SECONDS)
            elif self._in_flight.was_freed(webhook_id):  # since the claim counted its attempts
                self._in_flight.wake.set()
            else:
                # Without other workers its attempts end here, which wakes the claimer. A look at a long backlog finds
                # nothing for other webhooks.
                seconds = FULL_SECONDS if self._keeper.has_peers else POLL_SECONDS
                self._in_flight.full_until[webhook_id] = monotonic_now + seconds

    async def _seconds_until_next(self, request: ClaimRequest, batch: ClaimedBatch) -> float:
        if batch.more_due or (batch.contended and not batch.deliveries):
            if batch.deliveries:
                return 0.0
            return CONTENDED_SECONDS
        if request.only_prompt:
            if batch.deliveries or request.has_common_slots:
                return 0.0
            return PROMPT_SECONDS
        if request.after_webhook is not None and batch.after_webhook == FIRST_WEBHOOK:
            return 0.0  # all webhooks had their turn; the earliest events are next
        waits = [POLL_SECONDS]
        now = time.monotonic()
        for held_until in (self._in_flight.full_until, self._paced_until):
            waits += [until - now for until in held_until.values()]
        if batch.contended:
            waits.append(CONTENDED_SECONDS)
        next_due_at = await find_next_due(request.on_hold, batch.looked_until)
        if next_due_at is not None:
            waits.append(await self._seconds_before(next_due_at))
        return max(min(waits), MIN_WAIT_SECONDS)

    async def _seconds_before(self, due_at: dt.datetime) -> float:
        """Return the seconds until the claim of an event that is due at this time."""
        seconds = (due_at - await clock.now()).total_seconds() - EARLY_SECONDS
        if self._keeper.has_peers:
            seconds += random.uniform(0, SPREAD_SECONDS)  # noqa: S311 - not a secret
        return seconds


class _Turns:
    """The order of claims: retries or first attempts first, and webhooks in turn when backlogs hide others."""

    def __init__(self) -> None:
        self.retries_first = False
        #: Whether events of prompt webhooks may be hidden, since the last search for them.
        self.may_hide_prompt = False
        self._is_clogged = False
        self._next_webhook = FIRST_WEBHOOK

    @property
    def after_webhook(self) -> UUID | None:
        """The webhook after which a look at each webhook in turn goes on; None to look at the earliest events."""
        if self._is_clogged:
            return self._next_webhook
        return None

    def advance(self, request: ClaimRequest, batch: ClaimedBatch) -> None:
        """Plan the next claim. A look full of events that could not be claimed may hide others."""
        if request.only_prompt:
            self.may_hide_prompt = False
            return
        self.may_hide_prompt = batch.more_due and (self.may_hide_prompt or batch.lacks_common_slots)
        self.retries_first = not self.retries_first
        if request.after_webhook is not None:
            self._next_webhook = batch.after_webhook
        self._is_clogged = batch.more_due and 2 * len(batch.deliveries) < batch.seen


def _list_crowded(in_flight: Mapping[UUID, int], free_slots: int) -> set[UUID]:
    """Return the webhooks that have their fair share of the slots in flight."""
    return {webhook_id for webhook_id, events in in_flight.items() if events >= free_slots}


def _remove_expired(held_until: dict[UUID, float], now: float) -> None:
    for webhook_id in [webhook_id for webhook_id, until in held_until.items() if until <= now]:
        del held_until[webhook_id]
