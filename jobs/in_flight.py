"""The events that this process has claimed, which the deliverer reports on and the claimer goes by."""

import asyncio
from collections.abc import Mapping, Set
from uuid import UUID

from ringback.models.queue.claims import ClaimedEvent
from ringback.models.states import EventStatus


class InFlight:
    """Counts the attempts in flight, and wakes the claimer when one ends that it waits for."""

    def __init__(self) -> None:
        #: By identity: an event may be claimed again a moment before its release is reported.
        self._events: dict[int, ClaimedEvent] = {}
        self._by_webhook: dict[UUID, int] = {}
        #: How many of them are retries, and how many may be what kills the workers.
        self.retries = self.suspects = 0
        #: Set when the claimer should look again.
        self.wake = asyncio.Event()
        #: Set when an attempt ends: its slot is free.
        self.slot_freed = asyncio.Event()
        #: Whether the claimer wants to know of every slot that becomes free.
        self.is_short_of_slots = False
        #: Webhooks whose next attempt may start when one of theirs is recorded, and until when they are left alone, by
        #: the monotonic clock.
        self.full_until: dict[UUID, float] = {}
        self._recorded: set[UUID] = set()
        #: Whether events may name this worker that it does not know: a claim or a release has failed.
        self.may_have_strays = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def event_ids(self) -> Set[UUID]:
        """The events in flight."""
        return {event.id for event in self._events.values()}

    @property
    def by_webhook(self) -> Mapping[UUID, int]:
        """How many events of each webhook are in flight."""
        return self._by_webhook

    def start(self, event: ClaimedEvent) -> None:
        """Note that a claimed event is in flight."""
        self._events[id(event)] = event
        self._by_webhook[event.webhook_id] = self._by_webhook.get(event.webhook_id, 0) + 1
        self.retries += event.status is EventStatus.RETRYING
        self.suspects += event.is_suspect

    def end(self, event: ClaimedEvent) -> None:
        """Note that its attempt has ended, or that it was released."""
        del self._events[id(event)]
        left = self._by_webhook[event.webhook_id] - 1
        if left:
            self._by_webhook[event.webhook_id] = left
        else:
            del self._by_webhook[event.webhook_id]
        self.retries -= event.status is EventStatus.RETRYING
        self.suspects -= event.is_suspect
        self._free_slot()

    def record(self, event: ClaimedEvent) -> None:
        """Note that its result is committed: the limit of its webhook counts it no more."""
        self._recorded.add(event.webhook_id)
        if event.webhook_id in self.full_until:
            self.wake.set()
        self._free_slot()  # results that wait to be recorded take slots, too

    def was_recorded(self, webhook_id: UUID) -> bool:
        """Tell whether a result of the webhook was committed since `take_recorded`."""
        return webhook_id in self._recorded

    def take_recorded(self) -> set[UUID]:
        """Return the webhooks of which results were committed since the last call."""
        recorded, self._recorded = self._recorded, set()
        return recorded

    def _free_slot(self) -> None:
        self.slot_freed.set()
        if self.is_short_of_slots:
            self.wake.set()
