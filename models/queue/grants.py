"""Decides which due events a worker may claim, and when each of their attempts starts. Pure: no clock, no database.

Three rules limit a claim.

- **Fair shares.** A webhook may have as many events in flight in a worker as the worker has free slots. A webhook alone
  gets half of the slots, with nine others a tenth, and one more always finds room ("dynamic thresholds", Choudhury and
  Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). First attempts and retries take turns, and of events that may
  be what kills the workers only one is in flight at a time.
- **Concurrency.** A webhook has no more attempts in flight, in all workers together, than its bound.
- **Rate.** Each attempt gets a slot of its own, one interval after the previous slot: the generic cell rate algorithm
  (ITU-T I.371, annex A) without a burst. The webhook's row keeps the last slot and not the next one, so a changed rate
  counts from the next slot on. A slot that nobody uses is lost.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import NamedTuple
from uuid import UUID

#: How far ahead of its start an attempt is claimed; the worker sleeps the rest, so that no claim stands in its way.
AHEAD = dt.timedelta(seconds=0.05)
#: Before the id of every webhook.
FIRST_WEBHOOK = UUID(int=0)


class Candidate(NamedTuple):
    """A due event. A suspect is one that may be what kills the workers."""

    event_id: UUID
    webhook_id: UUID
    due_at: dt.datetime
    is_suspect: bool = False
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a worker has room for. `in_flight` counts the events that it has in flight, by webhook."""

    #: Events that the worker can start now, and how many of them may be retries.
    free_slots: int
    retry_slots: int
    in_flight: Mapping[UUID, int] = field(default_factory=dict)
    #: Events whose attempts have ended in the worker and whose results are not committed yet: no bound counts them.
    unrecorded: Collection[UUID] = ()
    may_take_suspect: bool = True
    retries_first: bool = False
    #: Webhooks that are known to be at a limit.
    on_hold: Collection[UUID] = ()
    #: The bound of webhooks that have none of their own.
    max_concurrency: int = 50
    #: Look at each webhook in turn, after this one, and not at the earliest events; None is the ordinary look.
    after_webhook: UUID | None = None


@dataclass(slots=True)
class WebhookLimit:
    """What the limits of a webhook still allow: `free` more attempts, each `interval` after the last slot."""

    free: int
    interval: dt.timedelta | None = None
    last_slot_at: dt.datetime | None = None

    def next_start(self, due_at: dt.datetime, now: dt.datetime) -> dt.datetime:
        """Return when an attempt that is due at `due_at` may start."""
        if self.interval is None:
            return due_at
        earliest = max(due_at, now)
        return earliest if self.last_slot_at is None else max(earliest, self.last_slot_at + self.interval)


@dataclass(slots=True)
class Grants:
    """The events that may start, with their times; the webhooks that have more to send than their limits allow.

    A webhook at a limit has the time of its next slot, or None if one of its attempts must end first. `left_behind`
    says that the worker's own slots and shares were too few, so another worker may take the rest.
    """

    starts: dict[UUID, dt.datetime] = field(default_factory=dict)
    at_limit: dict[UUID, dt.datetime | None] = field(default_factory=dict)
    left_behind: bool = False
    #: The new last slot of each webhook with a rate.
    slots: dict[UUID, dt.datetime] = field(default_factory=dict)


def take_turns(firsts: Sequence[Candidate], retries: Sequence[Candidate], *, retries_first: bool) -> list[Candidate]:
    """Return first attempts and retries in turn, so that neither kind waits for all of the other."""
    one, other = (retries, firsts) if retries_first else (firsts, retries)
    return [candidate for candidate in chain.from_iterable(zip_longest(one, other)) if candidate is not None]


def grant(
    candidates: Iterable[Candidate], limits: Mapping[UUID, WebhookLimit], request: ClaimRequest, now: dt.datetime
) -> Grants:
    """Decide which candidates start, in their order; `limits` are used up.

    Events of a webhook without an entry in `limits` are left out: another worker is claiming for that webhook.
    """
    grants = Grants()
    in_flight = Counter(request.in_flight)
    free_slots, retry_slots, may_take_suspect = request.free_slots, request.retry_slots, request.may_take_suspect
    for candidate in candidates:
        webhook_id = candidate.webhook_id
        limit = limits.get(webhook_id)
        if limit is None or webhook_id in grants.at_limit:
            continue
        is_crowded = in_flight[webhook_id] >= free_slots
        if is_crowded or (candidate.is_retry and retry_slots <= 0) or (candidate.is_suspect and not may_take_suspect):
            grants.left_behind = True
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
        in_flight[webhook_id] += 1
        free_slots -= 1
        retry_slots -= candidate.is_retry
        may_take_suspect = may_take_suspect and not candidate.is_suspect
    return grants
