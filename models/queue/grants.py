"""Decides which due events a worker may claim, and when each of their attempts starts. Pure: no clock, no database.

Five rules limit a claim.

- **Fair shares.** A webhook may have as many events in flight in a worker as the worker has free slots. So a single
  webhook gets half of the slots, each of ten webhooks gets an eleventh, and some slots are always left for one more
  ("dynamic thresholds", Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). First attempts and
  retries take turns. Only one suspect, an event that may be what kills the workers, is in flight at a time.
- **A reserve for prompt webhooks.** Webhooks that are known to answer promptly may use all slots. All others have fair
  shares of the common slots only. So webhooks whose endpoints hang do not delay prompt ones, however many they are.
- **Memory.** Large items start while there is room for them: `rooms`, which the statement that starts attempts compares
  with the items. Prompt webhooks have room of their own.
- **Concurrency.** The attempts of a webhook that are in flight in all workers together do not exceed its limit.
- **Rate.** Each attempt gets its own slot, one interval after the previous slot: the generic cell rate algorithm
  (ITU-T I.371, annex A) without a burst. The webhook's row stores the last slot rather than the next one, so that a
  changed rate applies from the next slot on. Unused slots are lost.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from uuid import UUID

#: Attempts are claimed this long before they start, so that the time of the claim does not delay them.
AHEAD = dt.timedelta(seconds=0.05)
#: Bytes of an item or body from which on it is large. Small ones of all slots take at most 16 MB.
LARGE_BYTES = 16 * 1024
#: Bytes of large items and bodies that a worker holds for attempts of prompt webhooks, and as many for all others. The
#: last one may exceed them.
MAX_LARGE_BYTES = 16 * 1024 * 1024
#: Sorts before the id of every webhook.
FIRST_WEBHOOK = UUID(int=0)


@dataclass(slots=True)
class Candidate:
    """A due event. A suspect may be what kills the workers."""

    event_id: UUID
    webhook_id: UUID
    due_at: dt.datetime
    is_suspect: bool = False
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """The capacity of a worker, and the events that it wants."""

    #: Number of events that the worker can start now.
    free_slots: int
    #: How many of the slots may be used for retries.
    retry_slots: int
    #: The concurrency limit of webhooks that set none.
    max_concurrency: int
    #: Number of events that the worker has in flight, by webhook.
    in_flight: Mapping[UUID, int] = field(default_factory=dict)
    #: Events whose attempts have ended in the worker and whose results are not committed yet. They do not count against
    #: limits.
    unrecorded: Collection[UUID] = ()
    may_take_suspect: bool = True
    retries_first: bool = False
    #: Webhooks that the worker knows to be at a limit.
    on_hold: Collection[UUID] = ()
    #: Search webhook by webhook, starting after this one. None: search for the earliest events of all webhooks.
    after_webhook: UUID | None = None
    #: Webhooks that are known to answer promptly.
    prompt: Collection[UUID] = ()
    #: How many of the slots may be used for other webhooks. None: all.
    common_slots: int | None = None
    #: Search for events of prompt webhooks only.
    only_prompt: bool = False
    #: Bytes of large items that may start, for prompt webhooks and for all others.
    prompt_bytes: int = MAX_LARGE_BYTES
    common_bytes: int = MAX_LARGE_BYTES

    @property
    def has_common_slots(self) -> bool:
        """Whether any event may start, and not only those of prompt webhooks."""
        return self.common_slots is None or self.common_slots > 0


@dataclass(slots=True)
class WebhookLimit:
    """The remaining limits of a webhook: `free` more attempts, each `interval` after the last slot."""

    free: int
    interval: dt.timedelta | None = None
    last_slot_at: dt.datetime | None = None

    def next_start(self, due_at: dt.datetime, now: dt.datetime) -> dt.datetime:
        """Return when an attempt that is due at `due_at` may start."""
        if self.interval is None:
            return due_at
        if self.last_slot_at is None:
            return max(due_at, now)
        return max(due_at, now, self.last_slot_at + self.interval)


@dataclass(slots=True)
class Grants:
    """The events that may start, and what remains due."""

    #: Start times by event.
    starts: dict[UUID, dt.datetime] = field(default_factory=dict)
    #: For each of these events, the bytes of large items that may start with it.
    rooms: list[int] = field(default_factory=list)
    #: Webhooks with more due events than their limits allow, with the time of the next slot, or None if one of their
    #: attempts must end first.
    at_limit: dict[UUID, dt.datetime | None] = field(default_factory=dict)
    #: Whether events are left because the worker lacks slots or shares. Another worker may take them.
    left_behind: bool = False
    #: Whether some of these events lack one of the common slots.
    lacks_common_slots: bool = False
    #: The last slot granted to each webhook with a rate.
    slots: dict[UUID, dt.datetime] = field(default_factory=dict)


def take_turns(firsts: Sequence[Candidate], retries: Sequence[Candidate], *, retries_first: bool) -> list[Candidate]:
    """Return first attempts and retries in turn, so that neither kind waits for all of the other."""
    pairs = zip_longest(retries, firsts) if retries_first else zip_longest(firsts, retries)
    return [candidate for candidate in chain.from_iterable(pairs) if candidate is not None]


def grant(
    candidates: Iterable[Candidate], limits: Mapping[UUID, WebhookLimit], request: ClaimRequest, now: dt.datetime
) -> Grants:
    """Decide which candidates start, in their order, and reduce `limits` accordingly.

    A webhook without an entry in `limits` is skipped, because another worker is claiming for it.
    """
    grants = Grants()
    in_flight = Counter(request.in_flight)
    free_slots = request.free_slots
    retry_slots = request.retry_slots
    common_slots = free_slots
    if request.common_slots is not None:
        common_slots = request.common_slots
    may_take_suspect = request.may_take_suspect
    for candidate in candidates:
        webhook_id = candidate.webhook_id
        limit = limits.get(webhook_id)
        if limit is None or webhook_id in grants.at_limit:
            continue
        is_prompt = webhook_id in request.prompt
        usable_slots = free_slots
        if not is_prompt:
            usable_slots = min(free_slots, common_slots)
        lacks_share = in_flight[webhook_id] >= usable_slots
        lacks_retry_slot = candidate.is_retry and retry_slots <= 0
        must_wait_for_suspect = candidate.is_suspect and not may_take_suspect
        if lacks_share or lacks_retry_slot or must_wait_for_suspect:
            grants.left_behind = True
            grants.lacks_common_slots |= not is_prompt and common_slots <= 0
            continue
        if limit.free <= 0:
            grants.at_limit[webhook_id] = None
            continue
        starts_at = limit.next_start(candidate.due_at, now)
        if starts_at > now + AHEAD:
            grants.at_limit[webhook_id] = starts_at
            continue
        limit.free -= 1
        if limit.interval is not None:
            limit.last_slot_at = grants.slots[webhook_id] = starts_at
        grants.starts[candidate.event_id] = starts_at
        grants.rooms.append(request.prompt_bytes if is_prompt else request.common_bytes)
        in_flight[webhook_id] += 1
        free_slots -= 1
        retry_slots -= candidate.is_retry
        common_slots -= not is_prompt
        may_take_suspect = may_take_suspect and not candidate.is_suspect
    return grants
