"""What a webhook's limits let go: a bound on the attempts under way, and a rate. They hold across all workers.

Who claims events for a webhook locks its row, counts what is leased and takes what is left, so two workers never share
the same room; on Postgres a function of the database does all of that (migration 0015), and grants as `grant` does.
Leases that wait for their moment count as well as those being sent: the bound errs to fewer. Those of attempts that the
claiming process has seen end, and has not recorded yet, do not count.

The rate is the generic cell rate algorithm (ITU-T I.371, annex A) without a burst: each attempt is given a slot, which
is the former one and an interval, by the database's clock. The row keeps the last slot, not the next, so a limit that
is changed counts from the next slot on. Slots are given as far ahead as claims look, each event waits for its own, and
a slot that nobody used is lost.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.event import Event
from ringback.models.statements import among, fetch, key_of, key_text, many, moment_of, moment_text, on_postgres

#: How far ahead of its moment an event is claimed, in seconds; the worker awaits the rest.
AHEAD_SECONDS = 0.5
#: So much of that must be free of slots before a webhook is looked at again, in seconds: so that several go at once.
FREE_SECONDS = AHEAD_SECONDS / 2
NOTHING_ENDED: Mapping[UUID, UUID] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """`room` more attempts may be under way; each is at least `interval` later than the last one's slot."""

    room: int
    interval: dt.timedelta | None = None
    last_slot_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The moments of the first events that wanted to go, and what the limits are afterwards."""

    moments: list[dt.datetime]
    left: Limits


def grant(limits: Limits, wanted: Sequence[dt.datetime], now: dt.datetime) -> Granted:
    """Which of the attempts that are due at these moments may go, and when; those left out come last."""
    until = now + dt.timedelta(seconds=AHEAD_SECONDS)
    moments: list[dt.datetime] = []
    last = limits.last_slot_at
    for due in wanted[: max(limits.room, 0)]:
        moment = due
        if limits.interval is not None:
            moment = max(due, now) if last is None else max(due, now, last + limits.interval)
            if moment > until:
                break
            last = moment
        moments.append(moment)
    return Granted(moments, Limits(limits.room - len(moments), limits.interval, last))


def is_full(limits: Limits) -> bool:
    """Whether nothing may go before an attempt under way has ended."""
    return limits.room <= 0


def free_at(limits: Limits, now: dt.datetime) -> dt.datetime:
    """The moment at which the rate lets more go than is worth a claim."""
    if limits.interval is None or limits.last_slot_at is None:
        return now
    return limits.last_slot_at + limits.interval - dt.timedelta(seconds=FREE_SECONDS)


async def read(
    webhook_ids: Collection[UUID],
    bound: int,
    ended: Mapping[UUID, UUID] = NOTHING_ENDED,
    db: BaseDBAsyncClient | None = None,
) -> dict[UUID, Limits]:
    """The limits of these webhooks; `bound` is that of webhooks without one of their own.

    Attempts that have `ended` (events with their leases) are under way no more, although that is not on record yet.
    """
    db = db or Event._meta.db
    keys = many(db, webhook_ids)
    rows = await fetch(db, f"{_LIMITS} WHERE {among(db, 'id', 1)}", keys)
    values = (list(ended), list(ended.values())) if on_postgres(db) else (_pairs(ended),)
    counts = await fetch(db, _under_way(db), keys, *values)
    under_way = {key_of(row["webhook_id"]): row["events"] for row in counts}
    limits = ((key_of(row["id"]), row) for row in rows)
    return {key: _limits(row, under_way.get(key, 0), bound) for key, row in limits}


async def save_slots(db: BaseDBAsyncClient, slots: Mapping[UUID, dt.datetime]) -> None:
    """Keep the last slot that was given to each of these webhooks, on SQLite: a claim on Postgres does so itself."""
    values = [[moment_text(slot), key_text(key)] for key, slot in slots.items()]
    await db.execute_many("UPDATE ringback_webhook SET last_slot_at = ? WHERE id = ?", values)


_LIMITS = "SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook"


def _under_way(db: BaseDBAsyncClient) -> str:
    pairs = "unnest($2::uuid[], $3::uuid[])" if on_postgres(db) else "json_each($2)"
    chosen = "*" if on_postgres(db) else "key, value"
    return f"""
SELECT webhook_id, count(*) AS events FROM ringback_event
WHERE lease IS NOT NULL AND {among(db, "webhook_id", 1)} AND (id, lease) NOT IN (SELECT {chosen} FROM {pairs})
GROUP BY webhook_id
"""


def _pairs(ended: Mapping[UUID, UUID]) -> str:
    return orjson.dumps({key_text(key): key_text(lease) for key, lease in ended.items()}).decode()


def _limits(row: Mapping[str, Any], under_way: int, bound: int) -> Limits:
    most = bound if row["max_concurrency"] is None else row["max_concurrency"]
    rate = row["rate_limit_per_second"]
    interval = None if rate is None else dt.timedelta(seconds=1 / rate)
    return Limits(most - under_way, interval, moment_of(row["last_slot_at"]))
