"""The events that this process has claimed, which the deliverer reports on and the claimer goes by."""

import asyncio
from collections.abc import Mapping, Set
from uuid import UUID

from ringback.models.enums import EventStatus
from ringback.models.queue.claims import ClaimedEvent


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
        #: Webhooks whose next attempt may start when one of theirs ends, and until when they are left alone, by the
        #: monotonic clock.
        self.full_until: dict[UUID, float] = {}
        self._freed: set[UUID] = set()
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
        self._freed.add(event.webhook_id)
        if event.webhook_id in self.full_until:
            self.wake.set()
        self.free_slot()

    def was_freed(self, webhook_id: UUID) -> bool:
        """Tell whether an attempt of the webhook has ended since `take_freed`."""
        return webhook_id in self._freed

    def take_freed(self) -> set[UUID]:
        """Return the webhooks of which attempts have ended since the last call."""
        freed, self._freed = self._freed, set()
        return freed

    def free_slot(self) -> None:
        """Wake a claimer that is short of slots: an attempt has ended, or its result is committed."""
        self.slot_freed.set()
        if self.is_short_of_slots:
            self.wake.set()
