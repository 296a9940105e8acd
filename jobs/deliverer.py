"""Delivers claimed events: renders, signs and sends each in its own task, and gives the result to the recorder.

An event is in flight from its claim until its attempt has ended, or until it is released because nothing was sent.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import structlog
from tortoise.exceptions import BaseORMException

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.http.sender import Sender, SendWithheld
from ringback.jobs.in_flight import InFlight
from ringback.jobs.outcomes import Abandoned, Outcome, RenderFailed
from ringback.jobs.recorder import Recorder
from ringback.jobs.renderer import Renderer, sign, uses_liquid
from ringback.jobs.result import Result
from ringback.models.background_tasks import wait_for
from ringback.models.database import clock
from ringback.models.database.clock import Clock
from ringback.models.errors import ConfigurationError, TemplateError
from ringback.models.queue import workers
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent, Delivery
from ringback.models.queue.webhook_cache import WebhookCache
from ringback.models.queue.workers import WorkerLease
from ringback.models.redaction import DEFAULT, Redaction
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.services.decimal_fields import DecimalFieldsCache
from ringback.models.templates.decimal_fields import NO_DECIMALS, DecimalFields
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.delivery")

#: Seconds between an error of the database and the release of the event that it concerns.
PAUSE_SECONDS = 1.0
_MILLISECOND = dt.timedelta(milliseconds=1)
#: Attempts started before the event loop gets a turn, to read responses and so free connections.
STARTS_PER_TURN = 25


@dataclass(slots=True)
class _Prepared:
    """A request that can be signed and sent. It is `unguarded` if it goes to an inbox of this installation."""

    rendered: OutgoingRequest
    secret: str
    unguarded: bool


@dataclass(slots=True, eq=False)
class _Attempt:
    """One attempt of a claimed event. `started_at` is None as long as the endpoint cannot have seen a request."""

    lease: WorkerLease
    clock: Clock
    #: Whether the attempt was claimed before it is due.
    is_early: bool
    event: ClaimedEvent
    change: ClaimedChange | None
    webhook: Webhook
    decimals: DecimalFields
    started_at: dt.datetime | None = None

    def make_result(
        self,
        outcome: Outcome,
        started_at: dt.datetime,
        duration_ms: int | None,
        request: OutgoingRequest | None = None,
    ) -> Result:
        """Return the result of this attempt, which ended `duration_ms` after its start, or now if that is None.

        The next attempt is scheduled from that end, so time spent after the response does not delay it.
        """
        ended_at = self.clock.now() if duration_ms is None else started_at + duration_ms * _MILLISECOND
        return Result(
            event_id=self.event.id,
            worker_id=self.lease.worker_id,
            attempt_count=self.event.attempt_count,
            outcome=outcome,
            started_at=started_at,
            ended_at=ended_at,
            duration_ms=duration_ms,
            request=request,
            event=self.event,
        )


class Deliverer:
    """Deliveries on the event loop of the sender and the recorder. It removes from `in_flight` what has ended."""

    def __init__(
        self,
        sender: Sender,
        recorder: Recorder,
        in_flight: InFlight,
        secrets: SecretBox,
        inboxes: InboxAddresses,
        *,
        redaction: Redaction = DEFAULT,
    ) -> None:
        self._sender = sender
        self._recorder = recorder
        self._in_flight = in_flight
        self._secrets = secrets
        self._inboxes = inboxes
        self._renderer = Renderer(redaction)
        self._webhooks = WebhookCache()
        self._decimals = DecimalFieldsCache()
        #: Held by the request with a large body that gets memory next, of prompt webhooks (True) and of all others.
        self._large_body_turns = {True: asyncio.Lock(), False: asyncio.Lock()}
        self._tasks: dict[_Attempt, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def start(self, lease: WorkerLease, deliveries: Sequence[Delivery]) -> None:
        """Start the attempts of claimed events. If that fails, those not started are released."""
        started = 0
        try:
            updated_at = {delivery.event.webhook_id: delivery.webhook_updated_at for delivery in deliveries}
            webhooks = await self._webhooks.of(updated_at)
            decimals = await self._decimals.find({w.model for w in webhooks.values() if uses_liquid(w)})
            database_clock = await clock.read_clock()
            now = database_clock.now()
            loop = asyncio.get_running_loop()  # asyncio.create_task looks it up, on Python 3.11 with a system call
            for delivery in deliveries:
                webhook = webhooks[delivery.event.webhook_id]
                attempt = _Attempt(
                    lease=lease,
                    clock=database_clock,
                    is_early=delivery.event.next_attempt_at > now,
                    event=delivery.event,
                    change=delivery.change,
                    webhook=webhook,
                    decimals=decimals.get(webhook.model, NO_DECIMALS),
                )
                self._tasks[attempt] = loop.create_task(self._run(attempt))
                started += 1
                if started % STARTS_PER_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            await self._release(lease, [delivery.event for delivery in deliveries[started:]])

    async def stop(self, hurry: asyncio.Event, seconds: float) -> None:
        """Release events that are not due yet, and let sent requests end within `seconds`, or until `hurry` is set.

        Attempts still running then are cancelled and recorded as ABANDONED.
        """
        self._stopping.set()
        if self._tasks:
            hurried = asyncio.create_task(hurry.wait())
            tasks = list(self._tasks.values())
            ended = asyncio.create_task(asyncio.wait(tasks))
            try:
                await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                hurried.cancel()
                await ended
        self._renderer.close()

    async def _run(self, attempt: _Attempt) -> None:
        """Make one attempt and queue its result, or release its event. Raises nothing but CancelledError."""
        result: Result | None = None
        try:
            if attempt.is_early:
                await self._wait_until_due(attempt)
            if not self._stopping.is_set():
                result = await self._deliver(attempt)
        except asyncio.CancelledError:
            if attempt.started_at is not None:
                result = attempt.make_result(Abandoned(), attempt.started_at, duration_ms=None)
            raise
        except SendWithheld:
            logger.warning(
                "nothing sent: the lease has expired", action="deliver", worker_id=str(attempt.lease.worker_id)
            )
        except Exception as error:
            if attempt.started_at is None and isinstance(error, BaseORMException | OSError):
                # Nothing was sent, and the database may come back, so this does not count as an attempt.
                event_id = str(attempt.event.id)
                logger.warning(
                    "cannot prepare the attempt; trying again", action="deliver", event_id=event_id, reason=str(error)
                )
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                result = self._abandon_after_bug(attempt)
        finally:
            if result is None:
                await self._release(attempt.lease, [attempt.event])
            else:
                self._in_flight.set_prompt(attempt.webhook.id, result.is_prompt)
                self._in_flight.end(attempt.event)
                self._recorder.put(result)
            del self._tasks[attempt]

    async def _wait_until_due(self, attempt: _Attempt) -> None:
        """Wait until an attempt is due, or until the program stops."""
        seconds = (attempt.event.next_attempt_at - attempt.clock.now()).total_seconds()
        await wait_for(self._stopping, seconds)

    async def _deliver(self, attempt: _Attempt) -> Result:
        """Render, sign and send one request; raises SendWithheld if the lease has expired before it is sent.

        A request with a large body is rendered again once there is memory for it.
        """
        prepared = await self._prepare(attempt)
        size = _measure_body(prepared)
        if not self._in_flight.hold_body(attempt.event, size):
            del prepared
            await self._wait_for_memory(attempt, size)
            prepared = await self._prepare(attempt)
        attempt.change = None  # the body is enough from here on
        if attempt.lease.is_expired():
            raise SendWithheld
        started_at = attempt.started_at = attempt.clock.now()
        if isinstance(prepared, RenderFailed):
            return attempt.make_result(prepared, started_at, duration_ms=0)
        timestamp = int(started_at.timestamp())
        request = sign(prepared.rendered, attempt.event, timestamp=timestamp, secret=prepared.secret)
        try:
            sent = await self._sender.send(
                request,
                timeout_seconds=attempt.webhook.timeout_seconds,
                accepts=attempt.webhook.success_policy.accepts,
                unguarded=prepared.unguarded,
                is_withdrawn=attempt.lease.is_expired,
            )
        except SendWithheld:
            attempt.started_at = None
            raise
        return attempt.make_result(sent.outcome, started_at, sent.duration_ms, sent.request)

    async def _wait_for_memory(self, attempt: _Attempt, size: int) -> None:
        """Wait until there is memory for a large body, and hold it. Requests take turns: one at a time waits."""
        is_prompt = attempt.webhook.id in self._in_flight.prompt
        async with self._large_body_turns[is_prompt]:
            while not self._in_flight.hold_body(attempt.event, size):
                self._in_flight.body_freed.clear()
                await self._in_flight.body_freed.wait()

    async def _prepare(self, attempt: _Attempt) -> _Prepared | RenderFailed:
        try:
            rendered = await self._renderer.render(attempt.webhook, attempt.event, attempt.change, attempt.decimals)
            secret = self._secrets.open(attempt.webhook.signing_secret)
        except (TemplateError, ConfigurationError) as error:
            return RenderFailed(str(error))
        target = rendered.template.target
        may_be_inbox = self._inboxes.may_be_here(target.origin.raw_host, target.origin.port)
        unguarded = may_be_inbox and await self._inboxes.is_own(target.text)
        return _Prepared(rendered, secret, unguarded)

    def _abandon_after_bug(self, attempt: _Attempt) -> Result:
        """Return the result of an attempt that a bug of ours has ended; call it where the exception is handled."""
        error_id = uuid4().hex[:12]
        event_id = str(attempt.event.id)
        logger.exception(
            "an attempt failed by an internal error", action="deliver", event_id=event_id, error_id=error_id
        )
        outcome = Abandoned(f"Internal error {error_id}; the endpoint may have received the request.")
        return attempt.make_result(outcome, attempt.started_at or attempt.clock.now(), duration_ms=None)

    async def _release(self, lease: WorkerLease, events: Sequence[ClaimedEvent]) -> None:
        """Release events for which nothing was sent. If that fails, the claimer releases them later."""
        if not events:
            return
        try:
            await workers.release(lease, [event.id for event in events])
        except Exception:
            logger.exception("cannot release events; trying again", action="release", events=len(events))
            self._in_flight.may_have_strays = True
        finally:
            for event in events:
                self._in_flight.free_body(event)
                self._in_flight.end(event)


def _measure_body(prepared: _Prepared | RenderFailed) -> int:
    if isinstance(prepared, RenderFailed):
        return 0
    return len(prepared.rendered.body or b"")
