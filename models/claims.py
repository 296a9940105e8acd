"""Claims and leases: who delivers which events, by the database's clock and compare-and-set alone.

A claim gives a batch of due events one lease, short enough that a lost message is soon found again. The worker that
picks the batch up begins it: it compares the lease and sets a longer one, which it renews while it lives. Whoever has
lost its lease can neither send nor record. A lease that ended after it was begun may lie between sending and recording,
so its event gets an ABANDONED attempt (rule 6 of the design).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from ringback.models import clock
from ringback.models.event import Event
from ringback.models.states import EventStatus
from tortoise.expressions import Q
from tortoise.transactions import in_transaction

#: How long a claimed batch may wait for a worker before it is claimed again, in seconds.
PICKUP_SECONDS = 10.0
_WAITING = (EventStatus.PENDING, EventStatus.RETRYING)


@dataclass(frozen=True, slots=True)
class Due:
    """A claimed event: whose it is and when its attempt is due."""

    event_id: UUID
    webhook_id: UUID
    next_attempt_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Expired:
    """An event whose worker began and never recorded; `lease` is still on it."""

    event_id: UUID
    lease: UUID
    begun_at: dt.datetime


def new_lease() -> UUID:
    """A lease that nobody else has."""
    return uuid4()


async def next_due() -> dt.datetime | None:
    """The moment at which the next event must be looked at; None when none waits."""
    first = await Event.filter(due_at__isnull=False).order_by("due_at").first().values_list("due_at", flat=True)
    return first  # type: ignore[return-value]  # first() of a flat list is one value


async def due(until: dt.datetime, now: dt.datetime, limit: int) -> list[Due]:
    """Events whose attempt is due by `until`, or whose pickup lease has ended; the earliest first.

    Leases are not taken yet: `claim` takes them and skips what somebody else took meanwhile.
    """
    rows = await (
        Event.filter(due_at__lte=until, status__in=_WAITING)
        .filter(Q(lease__isnull=True) | Q(due_at__lte=now, lease_begun_at__isnull=True))
        .order_by("due_at")
        .limit(limit)
        .values("id", "webhook_id", "next_attempt_at")
    )
    return [Due(row["id"], row["webhook_id"], row["next_attempt_at"]) for row in rows]


async def claim(batches: Sequence[Sequence[Due]], now: dt.datetime) -> list[tuple[UUID, list[Due]]]:
    """Take a lease for each batch; events that somebody else took meanwhile are left out of the answer."""
    claimed: list[tuple[UUID, list[Due]]] = []
    ends = now + dt.timedelta(seconds=PICKUP_SECONDS)
    async with in_transaction() as db:
        for batch in batches:
            lease = new_lease()
            ids = [d.event_id for d in batch]
            free = Q(lease__isnull=True) | Q(due_at__lte=now, lease_begun_at__isnull=True)
            taken = Event.filter(free, id__in=ids, status__in=_WAITING).using_db(db)
            if await taken.update(lease=lease, lease_begun_at=None, due_at=ends) == len(ids):
                mine = set(ids)
            else:
                mine = set(await Event.filter(id__in=ids, lease=lease).using_db(db).values_list("id", flat=True))  # type: ignore[arg-type]
            if mine:
                claimed.append((lease, [d for d in batch if d.event_id in mine]))
    return claimed


async def begin(lease: UUID, event_ids: Sequence[UUID], seconds: float) -> list[Event]:
    """Begin the work on a claimed batch: the events that the lease still owns, now for `seconds`.

    Events that were cancelled meanwhile are let go.
    """
    async with in_transaction() as db:
        now = await clock.now(db)
        owned = Event.filter(id__in=event_ids, lease=lease, lease_begun_at__isnull=True).using_db(db)
        ends = now + dt.timedelta(seconds=seconds)
        await owned.filter(status__in=_WAITING).update(lease_begun_at=now, due_at=ends)
        await owned.exclude(status__in=_WAITING).update(lease=None, due_at=None)
        return await Event.filter(id__in=event_ids, lease=lease).using_db(db).order_by("next_attempt_at", "id")


async def renew(lease: UUID, seconds: float) -> None:
    """Keep the events of a lease for `seconds` from now."""
    ends = await clock.now() + dt.timedelta(seconds=seconds)
    await Event.filter(lease=lease, lease_begun_at__isnull=False).update(due_at=ends)


async def owned(lease: UUID, event_ids: Sequence[UUID]) -> set[UUID]:
    """Which of the events the lease still owns and may send now."""
    now = await clock.now()
    rows = Event.filter(id__in=event_ids, lease=lease, due_at__gt=now, status__in=_WAITING)
    return set(await rows.values_list("id", flat=True))  # type: ignore[arg-type]


async def hand_back(lease: UUID, event_ids: Sequence[UUID]) -> None:
    """Give up events that were begun but not sent: they are due again at once, or stay cancelled."""
    async with in_transaction() as db:
        mine = Event.filter(id__in=event_ids, lease=lease).using_db(db)
        await mine.exclude(status__in=_WAITING).update(lease=None, lease_begun_at=None, due_at=None)
        now = await clock.now(db)
        await mine.filter(status__in=_WAITING).update(lease=None, lease_begun_at=None, due_at=now)


async def expired(now: dt.datetime, limit: int) -> list[Expired]:
    """Events whose lease ended after their worker began."""
    rows = await (
        Event.filter(due_at__lte=now, lease__isnull=False, lease_begun_at__isnull=False)
        .order_by("due_at")
        .limit(limit)
        .values("id", "lease", "lease_begun_at")
    )
    return [Expired(row["id"], row["lease"], row["lease_begun_at"]) for row in rows]


async def expire_all() -> int:
    """End every lease now: for a program that knows itself to be the only worker. Returns how many there were."""
    now = await clock.now()
    return await Event.filter(lease__isnull=False).update(due_at=now)
