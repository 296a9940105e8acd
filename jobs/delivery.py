"""Delivers claimed batches: at its moment each event is begun, rendered, guarded, signed and sent; the recorder writes.

A batch's events are sent concurrently, each at its moment. Just before, those of the same moment are begun by one
statement, which is the lease's compare-and-set and reads what their delivery needs; it also tells whether their
webhooks have changed, so that each attempt uses them as they are then (rule 8 of the design). While attempts are under
way their lease is renewed.
"""

import asyncio
import contextlib
import datetime as dt
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

import structlog
from tortoise.exceptions import BaseORMException

from ringback.jobs.connections import MAX_CONNECTIONS
from ringback.jobs.outcomes import Abandoned, RenderFailed
from ringback.jobs.recorder import Recorder, Result, abandoned
from ringback.jobs.rendering import Rendered, Renderer, sign
from ringback.jobs.requests import OutgoingRequest
from ringback.jobs.sender import Sent
from ringback.models import beginning, claims, clock
from ringback.models.beginning import Begun, Delivery, Waiting
from ringback.models.current import CurrentWebhooks
from ringback.models.errors import ConfigurationError, TemplateError
from ringback.models.inboxes import InboxAddresses
from ringback.models.secrets import SecretBox
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.delivery")

#: How long claimed events wait here for a place before they are handed on to whoever has one, in seconds: attempts that
#: hang may take all that there are here.
HAND_ON_SECONDS = 0.2
#: How long a database that fails is left alone before an event is handed back, in seconds.
PAUSE_SECONDS = 1.0
#: So many attempts are started, then the loop has its turn: answers are read meanwhile, and their connections free.
STARTED_AT_ONCE = 25
#: Events whose moment is so near are sent with those whose moment has come, in seconds.
SAME_MOMENT_SECONDS = 0.005
#: The moment of an event whose moment is not known yet.
_BELIEVED_DUE = dt.datetime.min.replace(tzinfo=dt.UTC)


class Sends(Protocol):
    """Sends a request once and says how that ended."""

    async def send(
        self, request: OutgoingRequest, *, timeout_seconds: float, accepts: Callable[[int], bool], unguarded: bool
    ) -> Sent:
        """Do so; raises nothing that a target, name or endpoint can cause."""


class Prepared(NamedTuple):
    """A request that can be signed and sent; `unguarded` when it goes to an inbox of our own."""

    rendered: Rendered
    secret: str
    unguarded: bool


class _Lease:
    """A batch's claim; `ends` moves on while it is renewed. `begun` are the events whose results are not written."""

    def __init__(self, key: UUID) -> None:
        self.key = key
        self.ends = _BELIEVED_DUE
        #: Set when the first of its events are started.
        self.clock: clock.Clock
        self.begun: set[UUID] = set()
        self._closed = asyncio.Event()

    def took(self, events: Sequence[Begun]) -> None:
        """Events of the claim are under way."""
        if events and not self.begun:
            self.ends = events[0].due_at
        self.begun.update(e.id for e in events)

    def close(self, event_id: UUID) -> None:
        """An event is not under way any more."""
        self.begun.discard(event_id)
        if not self.begun:
            self._closed.set()

    async def closed(self) -> None:
        """Wait until no event is under way."""
        while self.begun:
            self._closed.clear()
            await self._closed.wait()


class Deliverer:
    """Delivers batches on the loop that its sender and recorder belong to.

    `finished` is told of each event that is no longer under way here, however that came, and `recorded` of its webhook
    when a result is on record; `places` events are under way at a time. `hand_on` gives events of a claim, which nobody
    has begun, to whichever process has places; without it there is no other.
    """

    def __init__(
        self,
        sender: Sends,
        recorder: Recorder,
        secrets: SecretBox,
        inboxes: InboxAddresses,
        *,
        lease_seconds: float,
        finished: Callable[[UUID], None] = lambda event_id: None,
        recorded: Callable[[UUID], None] = lambda webhook_id: None,
        hand_on: Callable[[UUID, Sequence[UUID]], Awaitable[None]] | None = None,
        places: int = MAX_CONNECTIONS,
    ) -> None:
        self._sender = sender
        self._recorder = recorder
        self._secrets = secrets
        self._inboxes = inboxes
        self._lease_seconds = lease_seconds
        self._tell_finished = finished
        self._tell_recorded = recorded
        self._give = hand_on
        self._places = places
        #: The events that were picked up, and those of them whose attempts are under way.
        self._here: set[UUID] = set()
        self._placed: set[UUID] = set()
        self._room = asyncio.Event()
        self._renderer = Renderer()
        self._stopping = asyncio.Event()
        self._batches: set[asyncio.Task[None]] = set()
        self._webhooks = CurrentWebhooks()

    async def take(self, lease: UUID, event_ids: Sequence[UUID]) -> None:
        """Pick up a claimed batch; returns as soon as its attempts wait for their moments in a task of their own.

        Whoever hands batches over is so free for the next one, and a slow endpoint holds up only itself. While all
        places are taken it waits, so that other processes pick up what comes; what waits for long is handed on to them.
        """
        try:
            while not await self._gets_room(self._here):
                if self._stopping.is_set():
                    await claims.hand_back(lease, event_ids)
                    self._forget(event_ids)
                    return
                if await self._handed_on(lease, event_ids):
                    return
        except BaseException:
            self._forget(event_ids)
            raise
        self._here.update(event_ids)
        batch = asyncio.create_task(self._deliver(_Lease(lease), event_ids))
        self._batches.add(batch)
        batch.add_done_callback(self._batches.discard)

    async def stop(self, hurry: asyncio.Event, seconds: float) -> None:
        """End: hand back what waits for its moment, and let what is under way end, until `seconds` passed or `hurry`.

        What is then still under way is broken off and recorded as abandoned.
        """
        self._stopping.set()
        self._room.set()
        if self._batches:
            hurried = asyncio.create_task(hurry.wait())
            ended = asyncio.create_task(asyncio.wait(self._batches))
            await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for batch in self._batches:
                batch.cancel()
            await ended
            hurried.cancel()
        self._renderer.close()

    def has_room(self) -> bool:
        """Whether another batch is welcome; of a large one some events may have to wait here for a place."""
        return len(self._here) < self._places and not self._stopping.is_set()

    def is_here(self, event_id: UUID) -> bool:
        """Whether an event was picked up, and is still under way."""
        return event_id in self._here

    async def _gets_room(self, taken: Collection[UUID]) -> bool:
        """Wait for a place; False when the program stops before there is one, or others shall have what waits."""
        if len(taken) >= self._places:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._give is None else HAND_ON_SECONDS):
                    while len(taken) >= self._places and not self._stopping.is_set():
                        self._room.clear()
                        await self._room.wait()
        return len(taken) < self._places and not self._stopping.is_set()

    async def _handed_on(self, lease: UUID, event_ids: Sequence[UUID]) -> bool:
        """Whether events that found no place here were given to others."""
        assert self._give is not None, "without others there is no end to waiting"
        # First of all: this process may pick them up again at once. For the dispatcher they are under way, still.
        here = self._here.intersection(event_ids)
        self._here -= here
        self._room.set()
        try:
            await self._give(lease, event_ids)
        except Exception as error:
            logger.warning("cannot hand on; waiting here", action="hand on", events=len(event_ids), reason=str(error))
            self._here |= here
            return False
        return True

    def _finished(self, event_id: UUID) -> None:
        self._here.discard(event_id)
        self._placed.discard(event_id)
        self._room.set()
        self._tell_finished(event_id)

    async def _deliver(self, lease: _Lease, event_ids: Sequence[UUID]) -> None:
        # Nearly always they are due when they are picked up; a moment is asked for only when one turns out not to be.
        waiting = deque(Waiting(_BELIEVED_DUE, event_id) for event_id in event_ids)
        renewal = asyncio.create_task(self._renew(lease))
        try:
            async with asyncio.TaskGroup() as attempts:
                while waiting and await self._reaches(waiting[0].due_at):
                    if await self._gets_room(self._placed):
                        soon = await clock.now() + dt.timedelta(seconds=SAME_MOMENT_SECONDS)
                        group = _due_by(soon, waiting, self._places - len(self._placed))
                        begun, later = await self._begin(lease, group, soon)
                        waiting = deque(sorted([*waiting, *later])) if later else waiting
                        await self._start(lease, attempts, begun)
                    elif not self._stopping.is_set() and await self._handed_on(
                        lease.key, [w.event_id for w in waiting]
                    ):
                        waiting.clear()
                await self._hand_back(lease, [w.event_id for w in waiting])
                waiting.clear()
            await lease.closed()
        finally:
            renewal.cancel()
            self._forget([w.event_id for w in waiting])

    async def _start(
        self, lease: _Lease, attempts: asyncio.TaskGroup, begun: Sequence[tuple[Delivery, Webhook]]
    ) -> None:
        """Start the attempts of a group, a few at a time."""
        started = 0
        try:
            lease.clock = await clock.running()
            for delivery, webhook in begun:
                started += 1
                attempts.create_task(self._attempt(lease, delivery, webhook))
                if started % STARTED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            rest = [d.event.id for d, _ in begun[started:]]
            await self._hand_back(lease, rest)
            lease.begun -= set(rest)
            raise

    async def _reaches(self, moment: dt.datetime) -> bool:
        """Wait for a moment; False when the program stops before it has come."""
        seconds = (moment - await clock.now()).total_seconds()
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
        return not self._stopping.is_set()

    async def _begin(
        self, lease: _Lease, event_ids: Sequence[UUID], soon: dt.datetime
    ) -> tuple[list[tuple[Delivery, Webhook]], list[Waiting]]:
        """Begin the events that are due by a moment; returns those that may be sent, and those that are due later."""
        self._placed.update(event_ids)
        try:
            begun = await beginning.begin(lease.key, event_ids, soon)
            lease.took([d.event for d in begun])
            webhooks = await self._webhooks.of({d.event.webhook_id: d.webhook_updated_at for d in begun})
            missed = set(event_ids).difference(d.event.id for d in begun) if len(begun) < len(event_ids) else ()
            later = await beginning.waiting(lease.key, list(missed)) if missed else []
        except Exception:
            logger.exception("cannot begin; handing back", action="begin", events=len(event_ids))
            await asyncio.sleep(PAUSE_SECONDS)
            await self._hand_back(lease, event_ids)
            lease.begun -= set(event_ids)
            return [], []
        self._placed.difference_update(missed)
        self._forget(set(missed) - {w.event_id for w in later})
        return [(d, webhooks[d.event.webhook_id]) for d in begun], later

    async def _renew(self, lease: _Lease) -> None:
        while True:
            await asyncio.sleep(min(self._lease_seconds, claims.CLAIM_SECONDS) / 3)
            try:
                if lease.begun and await clock.now() < lease.ends:
                    lease.ends = await claims.renew(lease.key, list(lease.begun), self._lease_seconds)
            except Exception:
                logger.exception("cannot renew a lease; trying again", action="renew", lease=str(lease.key))

    async def _attempt(self, lease: _Lease, delivery: Delivery, webhook: Webhook) -> None:
        """Make one attempt and have it recorded; raises nothing but its cancellation."""
        event = delivery.event
        result: Result | None = None
        started_at: dt.datetime | None = None  # set when the endpoint may learn of it
        try:
            prepared = await self._prepare(delivery, webhook)
            now = lease.clock.now()
            if now >= lease.ends:
                logger.warning("lease lost before sending", action="deliver", lease=str(lease.key))
            else:
                started_at = now
                result = await self._send(lease, event, webhook, prepared, now)
        except asyncio.CancelledError:
            if started_at is None:
                await self._hand_back(lease, [event.id])
            else:
                await self._recorder.record(abandoned(event.id, lease.key, started_at, lease.clock.now()))
            raise
        except Exception as error:
            if started_at is None and isinstance(error, BaseORMException | OSError):
                # Nothing was sent, and what is away may come back: no attempt, and no step towards failing the event.
                logger.warning(
                    "cannot prepare; trying again", action="deliver", event_id=str(event.id), reason=str(error)
                )
                await asyncio.sleep(PAUSE_SECONDS)
                await self._hand_back(lease, [event.id])
            else:
                result = self._failed_within(lease, event, started_at)
        finally:
            self._finished(event.id)
            if result is None:
                lease.close(event.id)
            else:
                self._recorder.put(result, partial(self._recorded, lease, event))

    def _recorded(self, lease: _Lease, event: Begun) -> None:
        lease.close(event.id)
        self._tell_recorded(event.webhook_id)

    def _failed_within(self, lease: _Lease, event: Begun, started_at: dt.datetime | None) -> Result:
        """The result of an attempt that a defect of ours ended; to be called where the error is handled."""
        error_id = uuid4().hex[:12]
        logger.exception("an attempt failed within", action="deliver", event_id=str(event.id), error_id=error_id)
        outcome = Abandoned(f"Internal error {error_id}; the endpoint may have received the request.")
        now = lease.clock.now()
        return Result(event.id, lease.key, outcome, started_at=started_at or now, ended_at=now, duration_ms=None)

    async def _prepare(self, delivery: Delivery, webhook: Webhook) -> Prepared | RenderFailed:
        try:
            rendered = await self._renderer.render(webhook, delivery.event, delivery.change)
            secret = self._secrets.open(webhook.signing_secret)
        except (TemplateError, ConfigurationError) as error:
            return RenderFailed(str(error))
        unguarded = self._inboxes.token(rendered.url) is not None and await self._inboxes.is_own(rendered.url)
        return Prepared(rendered, secret, unguarded)

    async def _send(
        self, lease: _Lease, event: Begun, webhook: Webhook, prepared: Prepared | RenderFailed, started_at: dt.datetime
    ) -> Result:
        if isinstance(prepared, RenderFailed):
            return Result(event.id, lease.key, prepared, started_at=started_at, ended_at=started_at, duration_ms=0)
        request = sign(prepared.rendered, event, timestamp=int(started_at.timestamp()), secrets=(prepared.secret,))
        sent = await self._sender.send(
            request,
            timeout_seconds=webhook.timeout_seconds,
            accepts=webhook.success_policy.accepts,
            unguarded=prepared.unguarded,
        )
        return Result(
            event.id,
            lease.key,
            sent.outcome,
            started_at,
            # Not the clock: what was waited for after the answer is no part of the attempt that the next one follows.
            ended_at=started_at + dt.timedelta(milliseconds=sent.duration_ms),
            duration_ms=sent.duration_ms,
            request=request,
            headers_sent=sent.headers,
            begun=event,
        )

    async def _hand_back(self, lease: _Lease, event_ids: Sequence[UUID]) -> None:
        if not event_ids:
            return
        try:
            await claims.hand_back(lease.key, event_ids)
        except Exception:
            logger.exception("cannot hand back; the lease will bring these back", action="stop", events=len(event_ids))
        finally:
            self._forget(event_ids)

    def _forget(self, event_ids: Collection[UUID]) -> None:
        for event_id in event_ids:
            self._finished(event_id)


def _due_by(soon: dt.datetime, waiting: deque[Waiting], most: int) -> list[UUID]:
    """Take events whose moment has come, or is so near that a check of their own is not worth it; one at least."""
    group = [waiting.popleft().event_id]
    while waiting and len(group) < most and waiting[0].due_at <= soon:
        group.append(waiting.popleft().event_id)
    return group
