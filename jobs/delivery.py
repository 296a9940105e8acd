"""Delivers a claimed batch: begin, load once, then for each event render, guard, sign, send; the recorder writes.

Events of a batch are sent concurrently, each at its moment. Before each send the lease is checked in the database, for
all events of that moment at once; while the batch is worked on, the lease is renewed.
"""

import asyncio
import contextlib
import datetime as dt
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from ringback.jobs.outcomes import Outcome, RenderFailed
from ringback.jobs.recorder import Recorder, Result
from ringback.jobs.rendering import Rendered, render, sign
from ringback.jobs.sender import OutgoingRequest, Sender
from ringback.models import claims, clock
from ringback.models.errors import ConfigurationError, TemplateError
from ringback.models.event import Change, Event
from ringback.models.inboxes import InboxAddresses
from ringback.models.secrets import SecretBox
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.delivery")

#: Events whose moment is so near are sent with those whose moment has come, in seconds.
SAME_MOMENT_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event with all that its attempt needs."""

    event: Event
    webhook: Webhook
    change: Change | None


class Deliverer:
    """Delivers batches on the loop that its sender and recorder belong to."""

    def __init__(
        self, sender: Sender, recorder: Recorder, secrets: SecretBox, inboxes: InboxAddresses, lease_seconds: float
    ) -> None:
        self._sender = sender
        self._recorder = recorder
        self._secrets = secrets
        self._inboxes = inboxes
        self._lease_seconds = lease_seconds

    async def deliver(self, lease: UUID, event_ids: Sequence[UUID]) -> None:
        """Make the attempts of a claimed batch; returns when all of them are recorded or given up."""
        deliveries = await self._load(await claims.begin(lease, event_ids, self._lease_seconds))
        if not deliveries:
            return
        renewal = asyncio.create_task(self._renew(lease))
        try:
            await self._send_all(lease, deliveries)
        finally:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal

    async def _load(self, events: Sequence[Event]) -> list[Delivery]:
        webhooks = {w.id: w for w in await Webhook.filter(id__in={e.webhook_id for e in events})}
        change_ids = {e.change_id for e in events if e.change_id is not None}
        changes = {c.id: c for c in await Change.filter(id__in=change_ids)} if change_ids else {}
        return [Delivery(e, webhooks[e.webhook_id], changes.get(e.change_id)) for e in events]

    async def _renew(self, lease: UUID) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await claims.renew(lease, self._lease_seconds)
            except Exception:
                logger.exception("cannot renew a lease; trying again", action="renew", lease=str(lease))

    async def _send_all(self, lease: UUID, deliveries: Sequence[Delivery]) -> None:
        waiting = deque(sorted(deliveries, key=_due))
        try:
            async with asyncio.TaskGroup() as attempts:
                while waiting:
                    await asyncio.sleep((_due(waiting[0]) - await clock.now()).total_seconds())
                    group = _due_now(waiting, await clock.now())
                    owned = await claims.owned(lease, [d.event.id for d in group])
                    for delivery in group:
                        if delivery.event.id in owned:
                            attempts.create_task(self._attempt(lease, delivery))
        finally:
            if waiting:  # stopped before their moment: somebody else may have them at once
                await claims.hand_back(lease, [d.event.id for d in waiting])

    async def _attempt(self, lease: UUID, delivery: Delivery) -> None:
        started_at = await clock.now()
        request: OutgoingRequest | None = None
        headers_sent = None
        duration_ms = 0
        try:
            rendered = render(delivery.webhook, delivery.event, delivery.change)
            request = self._signed(delivery, rendered, started_at)
        except (TemplateError, ConfigurationError) as error:
            outcome: Outcome = RenderFailed(str(error))
        else:
            sent = await self._sender.send(
                request,
                timeout_seconds=delivery.webhook.timeout_seconds,
                accepts=delivery.webhook.success_policy.accepts,
                unguarded=await self._inboxes.is_own(rendered.url),
            )
            outcome, headers_sent, duration_ms = sent.outcome, sent.headers, sent.duration_ms
        await self._recorder.record(
            Result(
                event_id=delivery.event.id,
                lease=lease,
                outcome=outcome,
                started_at=started_at,
                ended_at=await clock.now(),
                duration_ms=duration_ms,
                request=request,
                headers_sent=headers_sent,
            )
        )

    def _signed(self, delivery: Delivery, rendered: Rendered, now: dt.datetime) -> OutgoingRequest:
        secret = self._secrets.open(delivery.webhook.signing_secret)
        return sign(rendered, delivery.event, timestamp=int(now.timestamp()), secrets=[secret])


def _due_now(waiting: deque[Delivery], now: dt.datetime) -> list[Delivery]:
    """Take the deliveries whose moment has come, or is so near that a check of their own is not worth it."""
    soon = now + dt.timedelta(seconds=SAME_MOMENT_SECONDS)
    group = [waiting.popleft()]
    while waiting and _due(waiting[0]) <= soon:
        group.append(waiting.popleft())
    return group


def _due(delivery: Delivery) -> dt.datetime:
    due = delivery.event.next_attempt_at
    assert due is not None, "a waiting event has a moment"
    return due
