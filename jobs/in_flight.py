"""The events that this process has claimed: the deliverer reports on them, and the claimer decides by them."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Set
from typing import NamedTuple
from uuid import UUID

from ringback.jobs.result import Result
from ringback.models.enums import EventStatus
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.queue.grants import LARGE_BYTES, MAX_LARGE_BYTES

#: Most webhooks that are known to be prompt. Those whose attempts ended longest ago are forgotten.
MAX_PROMPT = 5_000


class _LargeBody(NamedTuple):
    """The size of a body, and whether its webhook was known to be prompt at the start."""

    size: int
    is_prompt: bool


class InFlight:
    """Counts of the events in flight, and the signals that wake the claimer when it can claim more."""

    def __init__(self) -> None:
        #: By identity: an event may be claimed again shortly before its release is reported.
        self._events: dict[int, ClaimedEvent] = {}
        self._by_webhook: dict[UUID, int] = {}
        #: The large items and bodies that attempts hold, by the identity of their events.
        self._large_bodies: dict[int, _LargeBody] = {}
        #: Their bytes, of prompt webhooks (True) and of all others (False).
        self._large_bytes = {True: 0, False: 0}
        #: Set when a large body is freed.
        self.body_freed = asyncio.Event()
        self._prompt: OrderedDict[UUID, None] = OrderedDict()
        #: Number of retries in flight.
        self.retries = 0
        #: Number of suspects in flight: events that may be crashing workers.
        self.suspects = 0
        #: Set when the claimer should claim.
        self.wake = asyncio.Event()
        #: Set when a slot becomes free.
        self.slot_freed = asyncio.Event()
        #: Whether every free slot should wake the claimer.
        self.is_short_of_slots = False
        #: Webhooks at their concurrency limits, and when to look at them again, by the monotonic clock. The end of one
        #: of their attempts wakes the claimer.
        self.full_until: dict[UUID, float] = {}
        self._freed_webhooks: set[UUID] = set()
        #: Whether events may name this worker that are not in flight here, because a claim or a release has failed.
        self.may_have_strays = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def event_ids(self) -> Set[UUID]:
        """The ids of the events in flight."""
        return {event.id for event in self._events.values()}

    @property
    def by_webhook(self) -> Mapping[UUID, int]:
        """The number of events in flight of each webhook that has any."""
        return self._by_webhook

    @property
    def prompt(self) -> Collection[UUID]:
        """The webhooks whose last attempt in this process was prompt. The one that ended longest ago comes first."""
        return self._prompt.keys()

    @property
    def in_common_slots(self) -> dict[UUID, int]:
        """The number of events in flight of each webhook that is not known to be prompt."""
        return {webhook_id: events for webhook_id, events in self._by_webhook.items() if webhook_id not in self._prompt}

    def set_prompt(self, webhook_id: UUID, is_prompt: bool) -> None:
        """Remember whether the last attempt of a webhook was prompt."""
        if not is_prompt:
            self._prompt.pop(webhook_id, None)
            return
        self._prompt[webhook_id] = None
        self._prompt.move_to_end(webhook_id)
        if len(self._prompt) > MAX_PROMPT:
            self._prompt.popitem(last=False)

    def hold_body(self, event: ClaimedEvent, size: int) -> bool:
        """Count the item or body of an event. Return False, and count it not, if large ones use all their memory."""
        self.free_body(event)
        if size < LARGE_BYTES:
            return True
        if self.room_for_bodies(is_prompt=event.webhook_id in self._prompt) <= 0:
            return False
        self._count_body(event, size)
        return True

    def free_body(self, event: ClaimedEvent) -> None:
        """Count the item or body of an event no longer."""
        body = self._large_bodies.pop(id(event), None)
        if body is not None:
            self._large_bytes[body.is_prompt] -= body.size
            self.body_freed.set()

    def room_for_bodies(self, *, is_prompt: bool) -> int:
        """Return the bytes of large bodies that prompt webhooks, or all others, may still hold."""
        return MAX_LARGE_BYTES - self._large_bytes[is_prompt]

    def _count_body(self, event: ClaimedEvent, size: int) -> None:
        body = _LargeBody(size=size, is_prompt=event.webhook_id in self._prompt)
        self._large_bodies[id(event)] = body
        self._large_bytes[body.is_prompt] += size

    def start(self, event: ClaimedEvent, item_size: int = 0) -> None:
        """Add a claimed event. The size of its item counts until its body is known."""
        if item_size >= LARGE_BYTES:
            self._count_body(event, item_size)
        self._events[id(event)] = event
        self._by_webhook[event.webhook_id] = self._by_webhook.get(event.webhook_id, 0) + 1
        self.retries += event.status is EventStatus.RETRYING
        self.suspects += event.is_suspect

    def end(self, event: ClaimedEvent) -> None:
        """Remove an event whose attempt has ended, or that was released, and free its slot."""
        webhook_id = event.webhook_id
        del self._events[id(event)]
        remaining = self._by_webhook[webhook_id] - 1
        if remaining:
            self._by_webhook[webhook_id] = remaining
        else:
            del self._by_webhook[webhook_id]
        self.retries -= event.status is EventStatus.RETRYING
        self.suspects -= event.is_suspect
        self._freed_webhooks.add(webhook_id)
        if webhook_id in self.full_until:
            self.wake.set()
        self.free_slot()

    def on_recorded(self, result: Result) -> None:
        """Free the slot and the body of an event whose result is committed."""
        if result.event is not None:
            self.free_body(result.event)
        self.free_slot()

    def was_freed(self, webhook_id: UUID) -> bool:
        """Return whether an event of the webhook has ended since the last `take_freed_webhooks`."""
        return webhook_id in self._freed_webhooks

    def take_freed_webhooks(self) -> set[UUID]:
        """Return the webhooks with events that have ended since the last call."""
        freed, self._freed_webhooks = self._freed_webhooks, set()
        return freed

    def free_slot(self) -> None:
        """Report that an attempt has ended, or that its result is committed; wakes a claimer that is short of slots."""
        self.slot_freed.set()
        if self.is_short_of_slots:
            self.wake.set()
