"""Claims and leases: who delivers which events, by the database's clock and compare-and-set alone.

A claim gives a batch of due events one lease. At an event's moment, just before it is sent, the worker that picked it
up begins it: one statement compares the lease and notes the moment. While attempts are under way the worker renews
their lease. Whoever has lost it can neither begin nor record. A lease that ended after it was begun may lie between
sending and recording, so its event gets an ABANDONED attempt (rule 6 of the design). A claim that nobody began after
PICKUP_SECONDS is taken back (its message was lost): its events are simply due again.

An event's row is written three times for each attempt (claimed, begun, recorded), so Postgres's work is kept small:
beginning touches no column that an index knows of, which leaves all indexes as they are.

A claim takes no more than the limits of each webhook let go (`models.limits`), so nothing that is claimed waits for
another attempt of its webhook to end.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from ringback.models import clock, limits
from ringback.models.event import Event
from ringback.models.limits import Limits
from ringback.models.settings import DEFAULT_MAX_CONCURRENCY
from ringback.models.statements import (
    among,
    execute,
    fetch,
    fetch_rows,
    key_of,
    key_text,
    many,
    moment_of,
    moment_text,
    on_postgres,
)
from ringback.models.states import EventStatus

#: How long a claim's lease is before it is renewed, and how long a batch may wait for a worker before it is taken back,
#: in seconds. No settings: all processes must agree, for a claim says only when it ends.
CLAIM_SECONDS, PICKUP_SECONDS = 45.0, 10.0
#: So many abandoned attempts in a row make an event a suspect: it may be what kills the workers.
SUSPECT_AFTER = 2
#: Events of each webhook and kind in a look at all webhooks in turn, at most.
MOST_EACH = 50
#: The states of events that an attempt may follow.
WAITING = (EventStatus.PENDING, EventStatus.RETRYING)


class Due(NamedTuple):
    """A due event: whose it is, when its attempt is due, whether it may be what kills the workers, whether a retry."""

    event_id: UUID
    webhook_id: UUID
    next_attempt_at: dt.datetime
    suspect: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What is not to be claimed for the moment: all events of some webhooks, suspects, retries."""

    webhook_ids: Collection[UUID] = ()
    suspects: bool = False
    retries: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """Batches with their leases, and the limits, as they are now, of the webhooks that they are of.

    Webhooks for which another process was claiming at that moment are in neither.
    """

    batches: list[tuple[UUID, list[Due]]]
    limits: Mapping[UUID, Limits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expired:
    """An event whose worker began and never recorded; `lease` is still on it."""

    event_id: UUID
    lease: UUID
    begun_at: dt.datetime


NOTHING_HELD = Held()
#: Before the id of every webhook.
FIRST_WEBHOOK = UUID(int=0)


def new_lease() -> UUID:
    """A lease that nobody else has."""
    return uuid4()


async def next_due(after: dt.datetime, held: Held = NOTHING_HELD) -> dt.datetime | None:
    """The moment of the first event that is due after a moment, but for those held; None when none is."""
    db = Event._meta.db
    rows = await fetch(db, _looks(db, held, _NEXT, 2), after, many(db, held.webhook_ids))
    moments = [moment for row in rows if (moment := moment_of(row["due_at"])) is not None]
    return min(moments, default=None)


async def due(until: dt.datetime, limit: int, held: Held = NOTHING_HELD) -> tuple[list[Due], list[Due]]:
    """Events whose attempt is due by `until`: first attempts, and retries.

    The earliest come first, at most `limit` of each kind, so that many of one kind hide none of the other. Leases are
    not taken yet: `claim` takes them and skips what somebody else took meanwhile.
    """
    db = Event._meta.db
    rows = await fetch_rows(db, _looks(db, held, _DUE, 3), until, limit, many(db, held.webhook_ids))
    found = sorted(_due(db, rows), key=lambda due: due.next_attempt_at)
    return [d for d in found if not d.retry], [d for d in found if d.retry]


async def due_by_webhook(
    until: dt.datetime, limit: int, each: int, after: UUID, held: Held = NOTHING_HELD
) -> tuple[list[Due], list[Due], UUID]:
    """The same, webhook by webhook in the order of their ids: of each, `each` events of each kind at most,
    and no more than MOST_EACH.

    However much waits for one webhook, it hides no other. The webhooks are those after `after`; the id returned is
    where to go on the next time, FIRST_WEBHOOK when all were looked at.
    """
    db = Event._meta.db
    look = _BY_WEBHOOK if on_postgres(db) else _BY_WEBHOOK_ON_SQLITE
    values = (until, limit, many(db, held.webhook_ids), each, after)
    found = _due(db, await fetch_rows(db, _looks(db, held, look, 3), *values))
    kinds = [d for d in found if not d.retry], [d for d in found if d.retry]
    reached = min((max(d.webhook_id for d in kind) for kind in kinds if len(kind) == limit), default=FIRST_WEBHOOK)
    return *kinds, reached


def _looks(db: BaseDBAsyncClient, held: Held, look: str, number: int) -> str:
    """One look at the first attempts and one at the retries, so that each walks along an index."""
    kinds = [EventStatus.PENDING] if held.retries else WAITING
    conditions = {
        "waits": "lease IS NULL" + (f" AND abandoned_in_a_row < {SUSPECT_AFTER}" if held.suspects else ""),
        "not_held": f"NOT {among(db, 'webhook_id', number)}",
        "walk_not_held": f"NOT {among(db, 'walk.webhook_id', number)}",
    }
    parts = (f"SELECT * FROM ({look.format(status=status, **conditions)}) {status}" for status in kinds)
    return " UNION ALL ".join(parts)


def _due(db: BaseDBAsyncClient, rows: Iterable[Iterable[Any]]) -> list[Due]:
    retrying = EventStatus.RETRYING.value
    if not on_postgres(db):
        rows = [(key_of(key), key_of(of), dt.datetime.fromisoformat(moment), *rest) for key, of, moment, *rest in rows]
    return [
        Due(key, webhook_id, moment, abandoned >= SUSPECT_AFTER, status == retrying)
        for key, webhook_id, moment, abandoned, status in rows
    ]


async def claim(
    batches: Sequence[Sequence[Due]],
    now: dt.datetime,
    bound: int = DEFAULT_MAX_CONCURRENCY,
    lease_seconds: float = CLAIM_SECONDS,
    ended: Mapping[UUID, UUID] = limits.NOTHING_ENDED,
) -> Claimed:
    """Take a lease of so many seconds for each batch, as far as the limits of its webhooks let go.

    `bound` is how many attempts a webhook may have under way that has no bound of its own; those of `ended`, events
    with their leases, are under way no more, although that is not on record yet. What somebody else took
    meanwhile is left out. An event's next attempt is moved to the moment that its webhook's rate gives it.
    """
    leased = [(new_lease(), batch) for batch in batches if batch]
    ends = now + dt.timedelta(seconds=lease_seconds)
    if on_postgres(Event._meta.db):
        return await _claim_on_postgres(leased, now, bound, ends, ended)
    async with in_transaction() as db:
        found = await limits.read({d.webhook_id for _, batch in leased for d in batch}, bound, ended, db)
        granted, left = _granted((d for _, batch in leased for d in batch), found, now)
        slots = {key: after.last_slot_at for key, after in left.items() if after.last_slot_at is not None}
        given = {key: slot for key, slot in slots.items() if slot != found[key].last_slot_at}
        if given:
            await limits.save_slots(db, given)
        may = [(lease, [granted[d.event_id] for d in batch if d.event_id in granted]) for lease, batch in leased]
        return Claimed(await _take(db, may, ends), left)


async def _claim_on_postgres(
    leased: Sequence[tuple[UUID, Sequence[Due]]],
    now: dt.datetime,
    bound: int,
    ends: dt.datetime,
    ended: Mapping[UUID, UUID],
) -> Claimed:
    """The same by one statement (migration 0015), which waits for nobody: what others are claiming is left out."""
    numbers: dict[UUID, int] = {}
    wanted = [
        (due.event_id, numbers.setdefault(due.webhook_id, len(numbers) + 1), lease, due.next_attempt_at)
        for lease, batch in leased
        for due in batch
    ]
    if not wanted:
        return Claimed([])
    until = now + dt.timedelta(seconds=limits.AHEAD_SECONDS)
    values = [list(numbers), bound, *map(list, zip(*wanted, strict=True)), now, until, ends]
    ((claimed, claimed_at, *left),) = await fetch_rows(
        Event._meta.db, _CLAIM, *values, list(ended), list(ended.values())
    )
    moments = dict(zip(claimed or (), claimed_at or (), strict=True))
    kept = ((lease, [_at(moments[d.event_id], d) for d in batch if d.event_id in moments]) for lease, batch in leased)
    found = zip(numbers, *left, strict=True)
    return Claimed(
        [(lease, batch) for lease, batch in kept if batch],
        {key: Limits(room, step, slot) for key, room, step, slot in found if room is not None},
    )


def _at(moment: dt.datetime, due: Due) -> Due:
    return due if moment == due.next_attempt_at else due._replace(next_attempt_at=moment)


def _granted(
    wanted: Iterable[Due], found: Mapping[UUID, Limits], now: dt.datetime
) -> tuple[dict[UUID, Due], dict[UUID, Limits]]:
    """The events that may go, at their moments, and what the limits are afterwards."""
    by_webhook: dict[UUID, list[Due]] = {key: [] for key in found}
    for due in wanted:
        if due.webhook_id in by_webhook:
            by_webhook[due.webhook_id].append(due)
    granted: dict[UUID, Due] = {}
    left: dict[UUID, Limits] = {}
    for key, events in by_webhook.items():
        given = limits.grant(found[key], [d.next_attempt_at for d in events], now)
        left[key] = given.left
        for due, moment in zip(events, given.moments, strict=False):
            granted[due.event_id] = _at(moment, due)
    return granted, left


async def _take(
    db: BaseDBAsyncClient, leased: Sequence[tuple[UUID, Sequence[Due]]], ends: dt.datetime
) -> list[tuple[UUID, list[Due]]]:
    texts = [(key_text(lease), batch) for lease, batch in leased]
    wanted = {key_text(d.event_id): lease + moment_text(d.next_attempt_at) for lease, batch in texts for d in batch}
    mine = {key_of(key) for (key,) in await fetch_rows(db, _CLAIM_ON_SQLITE, orjson.dumps(wanted).decode(), ends)}
    kept = ((lease, [d for d in batch if d.event_id in mine]) for lease, batch in leased)
    return [(lease, batch) for lease, batch in kept if batch]


#: The condition that an attempt may follow.
WAITS = f"status IN ('{EventStatus.PENDING}', '{EventStatus.RETRYING}')"
_DUE = """
SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
WHERE status = '{status}' AND due_at <= $1 AND {waits} AND {not_held} ORDER BY due_at LIMIT $2
"""
_NEXT = """
SELECT due_at FROM ringback_event
WHERE status = '{status}' AND due_at > $1 AND {waits} AND {not_held} ORDER BY due_at LIMIT 1
"""
#: From the first event of one webhook to the first of the next, by the index of what waits for each: a step each.
_WALK = """
WITH RECURSIVE walk(webhook_id) AS (
    SELECT (
        SELECT webhook_id FROM ringback_event
        WHERE lease IS NULL AND due_at IS NOT NULL AND webhook_id > $5 ORDER BY webhook_id LIMIT 1
    )
    UNION ALL SELECT (
        SELECT event.webhook_id FROM ringback_event event
        WHERE lease IS NULL AND due_at IS NOT NULL AND event.webhook_id > walk.webhook_id
        ORDER BY event.webhook_id LIMIT 1
    ) FROM walk WHERE walk.webhook_id IS NOT NULL
)
"""
# As one of an array and ordered by it, which only the index of what waits for each webhook serves: where Postgres may
# choose, it would rather look for a webhook's events among those that are due, of which most may be others'. Limited by
# a number that it knows when it plans, or it would rather read and sort all that waits for a webhook.
_OF_THE_WALKED = f"""
FROM ringback_event event
WHERE event.webhook_id = ANY(ARRAY[walk.webhook_id]) AND status = '{{status}}' AND due_at <= $1 AND {{waits}}
ORDER BY event.webhook_id, due_at LIMIT {MOST_EACH}
"""
_OF_THE_WALKED_ON_SQLITE = """
FROM ringback_event event
WHERE event.webhook_id = walk.webhook_id AND status = '{status}' AND due_at <= $1 AND {waits} ORDER BY due_at LIMIT $4
"""
_BY_WEBHOOK = f"""
{_WALK} SELECT event.* FROM walk, LATERAL (
    SELECT * FROM (SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status {_OF_THE_WALKED}) found LIMIT $4
) event WHERE walk.webhook_id IS NOT NULL AND {{walk_not_held}} LIMIT $2
"""
_BY_WEBHOOK_ON_SQLITE = f"""
{_WALK} SELECT found.id, found.webhook_id, found.next_attempt_at, found.abandoned_in_a_row, found.status
FROM walk JOIN ringback_event found ON found.id IN (SELECT event.id {_OF_THE_WALKED_ON_SQLITE})
WHERE walk.webhook_id IS NOT NULL AND {{walk_not_held}} LIMIT $2
"""
_CLAIM = "SELECT * FROM ringback_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
#: A value is a lease and, right after it, a moment. The plus keeps SQLite from looking through all events of a status.
_CLAIM_ON_SQLITE = f"""
UPDATE ringback_event SET
    lease = substr(wanted.value, 1, 36), lease_begun_at = NULL, due_at = $2,
    next_attempt_at = substr(wanted.value, 37)
FROM json_each($1) wanted
WHERE ringback_event.id = wanted.key AND +{WAITS} AND lease IS NULL
RETURNING ringback_event.id AS id
"""
_TAKE_BACK = """
UPDATE ringback_event SET lease = NULL, due_at = next_attempt_at
WHERE lease IS NOT NULL AND lease_begun_at IS NULL AND due_at <= $1
"""
_EXPIRED = """
SELECT id, lease, lease_begun_at FROM ringback_event
WHERE lease IS NOT NULL AND lease_begun_at IS NOT NULL AND due_at <= $1 ORDER BY due_at LIMIT $2
"""


async def renew(lease: UUID, event_ids: Sequence[UUID], seconds: float) -> dt.datetime:
    """Keep what was begun under a lease for `seconds` from now; returns when it ends. What has lapsed stays lapsed."""
    now = await clock.now()
    ends = now + dt.timedelta(seconds=seconds)
    mine = Event.filter(id__in=event_ids, lease=lease, lease_begun_at__isnull=False, due_at__gt=now)
    await mine.update(due_at=ends)
    return ends


async def take_back(now: dt.datetime) -> int:
    """Make events due again that were claimed PICKUP_SECONDS ago and that nobody began; returns how many there were."""
    claimed_until = now + dt.timedelta(seconds=CLAIM_SECONDS - PICKUP_SECONDS)
    return await execute(Event._meta.db, _TAKE_BACK, claimed_until)


async def hand_back(lease: UUID, event_ids: Sequence[UUID]) -> None:
    """Give up events for which nothing was sent: they are due again at their moment, or stay cancelled."""
    mine = Event.filter(id__in=event_ids, lease=lease)
    await mine.update(lease=None, lease_begun_at=None, due_at=F("next_attempt_at"))


async def withdraw(lease: UUID, event_ids: Sequence[UUID]) -> None:
    """Undo a claim whose batch may have been picked up all the same: what nobody has begun is due again."""
    mine = Event.filter(id__in=event_ids, lease=lease, lease_begun_at__isnull=True)
    await mine.update(lease=None, due_at=F("next_attempt_at"))


async def still_leased(leases: Mapping[UUID, UUID]) -> set[UUID]:
    """Those of the events that their leases, given by event, still own."""
    db = Event._meta.db
    rows = await fetch(db, f"SELECT id, lease FROM ringback_event WHERE {among(db, 'id', 1)}", many(db, leases))
    found = ((key_of(row["id"]), row["lease"]) for row in rows)
    return {key for key, lease in found if lease is not None and key_of(lease) == leases[key]}


async def expired(now: dt.datetime, limit: int) -> list[Expired]:
    """Events whose lease ended after their worker began."""
    found = []
    for row in await fetch(Event._meta.db, _EXPIRED, now, limit):
        begun_at = moment_of(row["lease_begun_at"])
        assert begun_at is not None, "the statement asks for it"
        found.append(Expired(key_of(row["id"]), key_of(row["lease"]), begun_at))
    return found


async def expire_all() -> int:
    """End every lease now: for a program that knows itself to be the only worker. Returns how many there were."""
    now = await clock.now()
    return await Event.filter(lease__isnull=False).update(due_at=now)
