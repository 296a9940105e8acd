"""The events that this process has claimed: the deliverer reports on them, and the claimer decides by them."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Set
from uuid import UUID

from ringback.models.enums import EventStatus
from ringback.models.queue.claims import ClaimedEvent

#: Most webhooks that are known to be prompt. Those whose attempts ended longest ago are forgotten.
MAX_PROMPT = 5_000


class InFlight:
    """Counts of the events in flight, and the signals that wake the claimer when it can claim more."""

    def __init__(self) -> None:
        #: By identity: an event may be claimed again shortly before its release is reported.
        self._events: dict[int, ClaimedEvent] = {}
        self._by_webhook: dict[UUID, int] = {}
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

    def start(self, event: ClaimedEvent) -> None:
        """Add a claimed event."""
        self._events[id(event)] = event
        self._by_webhook[event.webhook_id] = self._by_webhook.get(event.webhook_id, 0) + 1
        self.retries += event.status is EventStatus.RETRYING
        self.suspects += event.is_suspect

    def end(self, event: ClaimedEvent) -> None:
        """Remove an event whose attempt has ended, or that was released, and free its slot."""
        del self._events[id(event)]
        remaining = self._by_webhook[event.webhook_id] - 1
        if remaining:
            self._by_webhook[event.webhook_id] = remaining
        else:
            del self._by_webhook[event.webhook_id]
        self.retries -= event.status is EventStatus.RETRYING
        self.suspects -= event.is_suspect
        self._freed_webhooks.add(event.webhook_id)
        if event.webhook_id in self.full_until:
            self.wake.set()
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
