"""Worker leases: one row per worker process, which the process renews while it lives.

A claimed event names its worker. While a worker's lease is expired, the worker starts and sends nothing. Another worker
may then declare it dead by deleting its row. An event that names a worker without a row is an orphan: its attempt may
lie between sending and recording, so it is recorded as ABANDONED (rule 6 of the design).

On SQLite the worker is alone, and its lease has no end.
"""

import datetime as dt
import math
import os
import socket
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from ringback.models.database import clock
from ringback.models.database.sql import array_parameter, as_uuid, column_in, execute, fetch_rows, is_postgres
from ringback.models.event import Event
from ringback.models.timestamps import parse_timestamp

#: Linux has a clock that goes on while the machine is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def uptime() -> float:
    """Return the seconds since some moment in the past; on Linux, time in which the machine was suspended counts."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class WorkerLease:
    """The id under which a worker claims, and until when it may, by this machine's `uptime`.

    That is never later than the end in the database: it counts from before the statement that renewed the lease.
    """

    def __init__(self, worker_id: UUID, ends_at: float) -> None:
        self.worker_id = worker_id
        self.ends_at = ends_at

    def is_expired(self) -> bool:
        """Tell whether the worker must not start or send anything."""
        return uptime() >= self.ends_at


class Orphan(NamedTuple):
    """An event whose worker died, or was declared dead, between claiming and recording."""

    event_id: UUID
    worker_id: UUID
    attempt_count: int
    claimed_at: dt.datetime


async def register_worker(lease_seconds: float) -> WorkerLease:
    """Insert the row of a new worker. On SQLite it is the only one: rows of former workers are deleted."""
    db = Event._meta.db
    asked_at = uptime()
    now = await clock.now()
    worker_id, host = uuid4(), socket.gethostname()[:255]
    if is_postgres(db):
        alive_until, ends_at = now + dt.timedelta(seconds=lease_seconds), asked_at + lease_seconds
    else:
        await execute(db, "DELETE FROM ringback_worker")
        alive_until, ends_at = None, math.inf
    await execute(db, _REGISTER, worker_id, host, os.getpid(), now, alive_until)
    return WorkerLease(worker_id, ends_at)


async def renew(lease: WorkerLease, lease_seconds: float) -> bool:
    """Extend a lease, also one that has expired; returns False if the worker was declared dead meanwhile."""
    asked_at = uptime()
    alive_until = await clock.now() + dt.timedelta(seconds=lease_seconds)
    if not await execute(Event._meta.db, _RENEW, lease.worker_id, alive_until):
        return False
    lease.ends_at = asked_at + lease_seconds
    return True


async def leave(lease: WorkerLease) -> None:
    """Delete the row of a worker that stops; an event that still names the worker is an orphan at once."""
    await execute(Event._meta.db, "DELETE FROM ringback_worker WHERE id = $1", lease.worker_id)


async def declare_dead() -> int:
    """Delete the rows of all workers whose leases have expired; returns how many there were."""
    return await execute(Event._meta.db, "DELETE FROM ringback_worker WHERE alive_until <= $1", await clock.now())


async def has_peers(lease: WorkerLease) -> bool:
    """Tell whether there are other workers."""
    return bool(
        await fetch_rows(Event._meta.db, "SELECT 1 FROM ringback_worker WHERE id <> $1 LIMIT 1", lease.worker_id)
    )


async def find_orphans(limit: int) -> list[Orphan]:
    """Return events that name a worker without a row."""
    rows = await fetch_rows(Event._meta.db, _ORPHANS, limit)
    now = await clock.now()
    return [
        Orphan(as_uuid(event), as_uuid(worker), count, parse_timestamp(at) or now) for event, worker, count, at in rows
    ]


async def release(lease: WorkerLease, event_ids: Sequence[UUID]) -> None:
    """Give up claimed events for which nothing was sent: they are due again, or stay cancelled."""
    db = Event._meta.db
    statement = f"{_RELEASE} AND {column_in(db, 'id', 2)}"
    await execute(db, statement, lease.worker_id, array_parameter(db, event_ids))


async def release_all_but(lease: WorkerLease, event_ids: Collection[UUID]) -> int:
    """Give up every event that names the worker, except these; returns how many there were.

    The worker does not know of such events: the answer to the COMMIT of a claim, or of a release, was lost.
    """
    db = Event._meta.db
    statement = f"{_RELEASE} AND NOT {column_in(db, 'id', 2)}"
    return await execute(db, statement, lease.worker_id, array_parameter(db, event_ids))


_REGISTER = "INSERT INTO ringback_worker (id, host, pid, started_at, alive_until) VALUES ($1, $2, $3, $4, $5)"
_RENEW = "UPDATE ringback_worker SET alive_until = $2 WHERE id = $1"
_RELEASE = "UPDATE ringback_event SET worker_id = NULL, claimed_at = NULL WHERE worker_id = $1"
#: By the index ringback_event_claimed, which holds only what is in flight.
_ORPHANS = """
SELECT id, worker_id, attempt_count, claimed_at FROM ringback_event
WHERE worker_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ringback_worker WHERE ringback_worker.id = worker_id) LIMIT $1
"""
