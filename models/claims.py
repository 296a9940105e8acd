"""Claims and leases: who delivers which events, by the database's clock and compare-and-set alone.

A claim gives a batch of due events one lease, short enough that a lost message is soon found again. At an event's
moment, just before it is sent, the worker that picked it up begins it: one statement compares the lease and makes it a
longer one, which the worker renews while it lives. Whoever has lost its lease can neither begin nor record. A lease
that ended after it was begun may lie between sending and recording, so its event gets an ABANDONED attempt (rule 6 of
the design); one that was never begun is simply claimed again.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from tortoise.expressions import F, Q
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from ringback.models import clock
from ringback.models.event import Event
from ringback.models.reading import load_by_id
from ringback.models.statements import fetch, on_postgres
from ringback.models.states import EventStatus

#: How long a claimed batch may wait for a worker before it is claimed again, in seconds.
PICKUP_SECONDS = 10.0
#: So many abandoned attempts in a row make an event a suspect: it may be what kills the workers.
SUSPECT_AFTER = 2
#: The states of events that an attempt may follow.
WAITING = (EventStatus.PENDING, EventStatus.RETRYING)


@dataclass(frozen=True, slots=True)
class Due:
    """A due event: whose it is, when its attempt is due, and whether it may be what kills the workers."""

    event_id: UUID
    webhook_id: UUID
    next_attempt_at: dt.datetime
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What is not to be claimed for the moment: all events of some webhooks, and suspects."""

    webhook_ids: Collection[UUID] = ()
    suspects: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """An event whose worker began and never recorded; `lease` is still on it."""

    event_id: UUID
    lease: UUID
    begun_at: dt.datetime


NOTHING_HELD = Held()


def new_lease() -> UUID:
    """A lease that nobody else has."""
    return uuid4()


async def next_due(held: Held = NOTHING_HELD) -> dt.datetime | None:
    """The moment at which the next event, but for those held, must be looked at; None when none waits."""
    waiting = _without(held, Event.filter(due_at__isnull=False))
    # The first() of a flat list is one value.
    return await waiting.order_by("due_at").first().values_list("due_at", flat=True)  # type: ignore[return-value]


async def due(until: dt.datetime, now: dt.datetime, limit: int, held: Held = NOTHING_HELD) -> list[Due]:
    """Events whose attempt is due by `until`, or whose pickup lease has ended; the earliest first.

    Leases are not taken yet: `claim` takes them and skips what somebody else took meanwhile.
    """
    rows = await (
        _without(held, Event.filter(_free(now), due_at__lte=until))
        .order_by("due_at")
        .limit(limit)
        .values("id", "webhook_id", "next_attempt_at", "abandoned_in_a_row", "status")
    )
    # Looked at here: a database that believes few to be waiting would find them by their state, and sort them all.
    return [
        Due(row["id"], row["webhook_id"], row["next_attempt_at"], row["abandoned_in_a_row"] >= SUSPECT_AFTER)
        for row in rows
        if row["status"] in WAITING
    ]


async def claim(batches: Sequence[Sequence[Due]], now: dt.datetime) -> list[tuple[UUID, list[Due]]]:
    """Take a lease for each batch; events that somebody else took meanwhile are left out of the answer."""
    ends = now + dt.timedelta(seconds=PICKUP_SECONDS)
    if on_postgres(Event._meta.db):
        return await _claim_at_once(batches, now, ends)
    claimed: list[tuple[UUID, list[Due]]] = []
    async with in_transaction() as db:
        for batch in batches:
            lease = new_lease()
            ids = [d.event_id for d in batch]
            taken = Event.filter(_free(now), id__in=ids, status__in=WAITING).using_db(db)
            if await taken.update(lease=lease, lease_begun_at=None, due_at=ends) == len(ids):
                mine = set(ids)
            else:
                mine = set(await Event.filter(id__in=ids, lease=lease).using_db(db).values_list("id", flat=True))  # type: ignore[arg-type]
            if mine:
                claimed.append((lease, [d for d in batch if d.event_id in mine]))
    return claimed


async def _claim_at_once(
    batches: Sequence[Sequence[Due]], now: dt.datetime, ends: dt.datetime
) -> list[tuple[UUID, list[Due]]]:
    """One statement, which waits for nobody: what another process is claiming at the moment is skipped."""
    leased = [(new_lease(), batch) for batch in batches]
    ids = [d.event_id for _, batch in leased for d in batch]
    leases = [lease for lease, batch in leased for _ in batch]
    rows = await fetch(Event._meta.db, _CLAIM, ids, leases, now, ends)
    mine = {row["id"] for row in rows}
    taken = ((lease, [d for d in batch if d.event_id in mine]) for lease, batch in leased)
    return [(lease, batch) for lease, batch in taken if batch]


_WAITS = f"status IN ('{EventStatus.PENDING}', '{EventStatus.RETRYING}')"
# LATERAL: each event is looked up by its key, whatever Postgres believes of how many wait; right after a burst it knows
# only of few, and would rather read all that wait.
_CLAIM = f"""
WITH free AS (
    SELECT found.id, wanted.lease FROM unnest($1::uuid[], $2::uuid[]) wanted(id, lease), LATERAL (
        SELECT event.id FROM ringback_event event
        WHERE event.id = wanted.id AND {_WAITS}
        AND (event.lease IS NULL OR (event.due_at <= $3 AND event.lease_begun_at IS NULL))
        FOR UPDATE SKIP LOCKED
    ) found
)
UPDATE ringback_event event SET lease = free.lease, lease_begun_at = NULL, due_at = $4
FROM free WHERE event.id = free.id RETURNING event.id
"""
_BEGIN = f"""
WITH mine AS (
    SELECT found.id FROM (SELECT id FROM unnest($1::uuid[]) id ORDER BY id) wanted, LATERAL (
        SELECT event.id FROM ringback_event event
        WHERE event.id = wanted.id AND lease = $2 AND lease_begun_at IS NULL AND {_WAITS}
        FOR UPDATE
    ) found
)
UPDATE ringback_event event SET lease_begun_at = $3, due_at = $4 FROM mine WHERE event.id = mine.id RETURNING event.id
"""


async def picked_up(lease: UUID, event_ids: Sequence[UUID]) -> list[Event]:
    """The events of a claimed batch that the lease still owns; the earliest due first."""
    found = await load_by_id(Event._meta.db, Event, list(event_ids))
    mine = (e for e in found.values() if e.lease == lease and e.lease_begun_at is None and e.status in WAITING)
    return sorted(mine, key=lambda event: (event.next_attempt_at, event.id))


async def begin(lease: UUID, event_ids: Sequence[UUID], seconds: float) -> tuple[set[UUID], dt.datetime]:
    """Make a claim the worker's own for `seconds`, just before sending.

    Returns the events that the lease still owned, which alone may be sent, and when the lease ends.
    """
    if on_postgres(Event._meta.db):
        now = await clock.now()
        ends = now + dt.timedelta(seconds=seconds)
        rows = await fetch(Event._meta.db, _BEGIN, list(event_ids), lease, now, ends)
        return {row["id"] for row in rows}, ends
    async with in_transaction() as db:
        now = await clock.now(db)
        ends = now + dt.timedelta(seconds=seconds)
        claimed = Event.filter(id__in=event_ids, lease=lease, lease_begun_at__isnull=True, status__in=WAITING)
        if await claimed.using_db(db).update(lease_begun_at=now, due_at=ends) == len(event_ids):
            return set(event_ids), ends
        begun = Event.filter(id__in=event_ids, lease=lease, lease_begun_at=now).using_db(db)
        return set(await begun.values_list("id", flat=True)), ends  # type: ignore[arg-type]


async def renew(lease: UUID, seconds: float) -> dt.datetime:
    """Keep what was begun under a lease for `seconds` from now; returns when it ends. What has lapsed stays lapsed."""
    now = await clock.now()
    ends = now + dt.timedelta(seconds=seconds)
    await Event.filter(lease=lease, lease_begun_at__isnull=False, due_at__gt=now).update(due_at=ends)
    return ends


async def hand_back(lease: UUID, event_ids: Sequence[UUID]) -> None:
    """Give up events for which nothing was sent: they are due again at their moment, or stay cancelled."""
    mine = Event.filter(id__in=event_ids, lease=lease)
    await mine.update(lease=None, lease_begun_at=None, due_at=F("next_attempt_at"))


async def still_leased(event_ids: Collection[UUID], leases: Collection[UUID]) -> set[UUID]:
    """Those of the events that one of these leases still owns."""
    owned = Event.filter(id__in=event_ids, lease__in=leases)
    return set(await owned.values_list("id", flat=True))  # type: ignore[arg-type]


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


def _free(now: dt.datetime) -> Q:
    """Claimed by nobody, or by somebody who never began."""
    return Q(lease__isnull=True) | Q(due_at__lte=now, lease_begun_at__isnull=True)


def _without(held: Held, events: QuerySet[Event]) -> QuerySet[Event]:
    if held.webhook_ids:
        events = events.filter(webhook_id__not_in=list(held.webhook_ids))
    if held.suspects:
        events = events.filter(abandoned_in_a_row__lt=SUSPECT_AFTER)
    return events
