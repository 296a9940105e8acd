"""Worker leases: each worker process has one row, and renews its lease while it lives.

A claimed event names its worker. While a worker's lease is expired, the worker starts and sends nothing. Another worker
may then declare it dead by deleting its row. An event that names a worker without a row is an orphan: its request may
have been sent but not recorded, so its attempt is recorded as ABANDONED (rule 6 in docs/architecture.md).

On SQLite there is only one worker, whose lease never ends.
"""

import datetime as dt
import math
import os
import socket
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from ringback.models.database import clock
from ringback.models.database.sql import array_parameter, as_uuid, execute, fetch_rows, is_postgres
from ringback.models.event import Event
from ringback.models.timestamps import parse_timestamp


class WorkerLease:
    """The id under which a worker claims, and the uptime (`clock.read_uptime`) at which its lease ends.

    The lease counts from before the statement that renewed it, so it never ends later here than in the database.
    """

    def __init__(self, worker_id: UUID, ends_at: float) -> None:
        self.worker_id = worker_id
        self.ends_at = ends_at

    def is_expired(self) -> bool:
        """Return whether the lease has ended, so that the worker must not start or send anything."""
        return clock.read_uptime() >= self.ends_at


class Orphan(NamedTuple):
    """An event whose worker died or was declared dead after claiming it and before recording a result."""

    event_id: UUID
    worker_id: UUID
    attempt_count: int
    claimed_at: dt.datetime


async def register_worker(lease_seconds: float) -> WorkerLease:
    """Insert the row of a new worker. On SQLite this deletes the rows of former workers."""
    db = Event._meta.db
    asked_at = clock.read_uptime()
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
    """Extend a lease, even an expired one. Return False if the worker was declared dead meanwhile."""
    asked_at = clock.read_uptime()
    alive_until = await clock.now() + dt.timedelta(seconds=lease_seconds)
    if not await execute(Event._meta.db, _RENEW, lease.worker_id, alive_until):
        return False
    lease.ends_at = asked_at + lease_seconds
    return True


async def leave(lease: WorkerLease) -> None:
    """Delete the row of a worker that stops. Events that still name the worker become orphans at once."""
    await execute(Event._meta.db, _LEAVE, lease.worker_id)


async def declare_dead() -> int:
    """Delete the rows of all workers whose leases have expired, and return their number."""
    return await execute(Event._meta.db, _DECLARE_DEAD, await clock.now())


async def has_peers(lease: WorkerLease) -> bool:
    """Return whether there are other workers."""
    return bool(await fetch_rows(Event._meta.db, _FIND_PEER, lease.worker_id))


async def find_orphans(limit: int) -> list[Orphan]:
    """Return at most `limit` events that name a worker without a row."""
    rows = await fetch_rows(Event._meta.db, _FIND_ORPHANS, limit)
    now = await clock.now()
    orphans = []
    for event_id, worker_id, attempt_count, claimed_at in rows:
        orphans.append(
            Orphan(
                event_id=as_uuid(event_id),
                worker_id=as_uuid(worker_id),
                attempt_count=attempt_count,
                claimed_at=parse_timestamp(claimed_at) or now,
            )
        )
    return orphans


async def release(lease: WorkerLease, event_ids: Sequence[UUID]) -> None:
    """Release claimed events for which nothing was sent: they are due again, or stay cancelled."""
    db = Event._meta.db
    statement = _RELEASE if is_postgres(db) else _RELEASE_ON_SQLITE
    await execute(db, statement, lease.worker_id, array_parameter(db, event_ids))


async def release_all_but(lease: WorkerLease, event_ids: Collection[UUID]) -> int:
    """Release every event that names the worker, except these, and return the number of released events.

    A worker has such unknown events after it lost the connection during the COMMIT of a claim or of a release.
    """
    db = Event._meta.db
    statement = _RELEASE_ALL_BUT if is_postgres(db) else _RELEASE_ALL_BUT_ON_SQLITE
    return await execute(db, statement, lease.worker_id, array_parameter(db, event_ids))


_REGISTER = "INSERT INTO ringback_worker (id, host, pid, started_at, alive_until) VALUES ($1, $2, $3, $4, $5)"
_RENEW = "UPDATE ringback_worker SET alive_until = $2 WHERE id = $1"
_LEAVE = "DELETE FROM ringback_worker WHERE id = $1"
_DECLARE_DEAD = "DELETE FROM ringback_worker WHERE alive_until <= $1"
_FIND_PEER = "SELECT 1 FROM ringback_worker WHERE id <> $1 LIMIT 1"
#: Events that name a worker without a row, by the index ringback_event_claimed, which holds only events in flight.
_FIND_ORPHANS = """
SELECT id, worker_id, attempt_count, claimed_at FROM ringback_event
WHERE worker_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ringback_worker WHERE ringback_worker.id = worker_id) LIMIT $1
"""
#: Release some events of a worker, by their keys.
_RELEASE = """
UPDATE ringback_event SET worker_id = NULL, claimed_at = NULL WHERE worker_id = $1 AND id = ANY($2::uuid[])
"""
_RELEASE_ON_SQLITE = """
UPDATE ringback_event SET worker_id = NULL, claimed_at = NULL
WHERE worker_id = $1 AND id IN (SELECT value FROM json_each($2))
"""
#: Release all events of a worker except some, by the index ringback_event_claimed.
_RELEASE_ALL_BUT = """
UPDATE ringback_event SET worker_id = NULL, claimed_at = NULL WHERE worker_id = $1 AND NOT id = ANY($2::uuid[])
"""
_RELEASE_ALL_BUT_ON_SQLITE = """
UPDATE ringback_event SET worker_id = NULL, claimed_at = NULL
WHERE worker_id = $1 AND NOT id IN (SELECT value FROM json_each($2))
"""
