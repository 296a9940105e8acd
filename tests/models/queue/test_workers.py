"""Tests of worker leases: renewing them, declaring workers dead, and the events that dead workers leave behind."""

import asyncio
import datetime as dt
import math
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextvars import copy_context
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from tortoise.transactions import in_transaction

from ringback.models import bootstrap
from ringback.models.database import clock
from ringback.models.enums import EventStatus
from ringback.models.event import Event
from ringback.models.queue import workers
from ringback.models.queue.workers import Orphan, WorkerLease, declare_dead, find_orphans, register_worker, renew
from ringback.models.settings import Settings
from ringback.models.worker import Worker
from tests.support import builders

MINUTE = dt.timedelta(seconds=60)


@pytest_asyncio.fixture
async def sqlite_file(chosen: Settings, migrated: Path) -> AsyncIterator[None]:
    """Open a migrated SQLite database."""
    shutil.copytree(migrated, chosen.data_dir)
    async with bootstrap.open_database(chosen):
        yield


async def expire(lease: WorkerLease, *, seconds_ago: float = 0.1) -> None:
    """End a lease in the database and in its worker."""
    ended_at = await clock.now() - dt.timedelta(seconds=seconds_ago)
    assert await Worker.filter(id=lease.worker_id).update(alive_until=ended_at) == 1
    lease.ends_at = clock.read_uptime() - seconds_ago


async def seconds_left_in_database(lease: WorkerLease) -> float:
    alive_until = (await Worker.get(id=lease.worker_id)).alive_until
    assert alive_until is not None
    return (alive_until - await clock.now()).total_seconds()


async def worker_ids() -> set[object]:
    return {worker.id for worker in await Worker.all()}


# Registering and leaving.


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_worker_registers_its_host_process_and_start() -> None:
    asked_at = await clock.now()

    lease = await register_worker(60)

    (worker,) = await Worker.all()
    assert worker.id == lease.worker_id
    assert (worker.host, worker.pid) == (socket.gethostname(), os.getpid())
    assert asked_at <= worker.started_at <= await clock.now()
    assert not lease.is_expired()


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_a_lease_lasts_as_long_as_asked_by_the_database_clock() -> None:
    lease = await register_worker(60)

    worker = await Worker.get(id=lease.worker_id)
    assert worker.alive_until == worker.started_at + MINUTE
    (row,) = await Event._meta.db.execute_query_dict("SELECT clock_timestamp() AS now")
    assert abs(worker.started_at - row["now"]) < dt.timedelta(seconds=5)


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_workers_are_registered_beside_each_other() -> None:
    first, second = await register_worker(60), await register_worker(60)

    assert first.worker_id != second.worker_id
    assert await worker_ids() == {first.worker_id, second.worker_id}


@pytest.mark.usefixtures("sqlite_file")
async def test_the_only_worker_of_a_file_replaces_former_ones() -> None:
    former = await register_worker(60)
    event = await builders.event(await builders.webhook())
    await builders.claim(event, lease=former)

    lease = await register_worker(60)

    assert await worker_ids() == {lease.worker_id}
    assert [orphan.worker_id for orphan in await find_orphans(10)] == [former.worker_id]


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_worker_that_leaves_deletes_only_its_row() -> None:
    lease = await register_worker(60)
    other = await Worker.create(id=uuid4(), host="elsewhere", pid=1, started_at=await clock.now())

    await workers.leave(lease)
    await workers.leave(lease)

    assert await worker_ids() == {other.id}


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_worker_has_peers_while_another_row_exists() -> None:
    lease = await register_worker(60)

    alone = await workers.has_peers(lease)
    other = await Worker.create(id=uuid4(), host="elsewhere", pid=1, started_at=await clock.now())
    beside_another = await workers.has_peers(lease)
    await other.delete()

    assert not alone
    assert beside_another
    assert not await workers.has_peers(lease)


# The end of a lease.


def test_a_lease_expires_when_its_end_is_reached() -> None:
    now = clock.read_uptime()

    assert WorkerLease(uuid4(), now).is_expired()
    assert not WorkerLease(uuid4(), now + 60).is_expired()


@pytest.mark.usefixtures("sqlite_file")
async def test_the_lease_of_the_only_worker_of_a_file_never_ends() -> None:
    lease = await register_worker(60)

    assert lease.ends_at == math.inf
    assert (await Worker.get()).alive_until is None
    assert await declare_dead() == 0


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_a_lease_starts_before_the_statement_that_registers_it() -> None:
    asked_at = clock.read_uptime()

    lease = await register_worker(60)

    left_in_database = await seconds_left_in_database(lease)
    assert asked_at + 60 <= lease.ends_at <= clock.read_uptime() + left_in_database


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_a_slow_renewal_ends_no_later_than_in_the_database() -> None:
    lease = await register_worker(60)
    outside = copy_context()

    async with in_transaction() as tx:
        await tx.execute_query("SELECT 1 FROM ringback_worker WHERE id = $1 FOR UPDATE", [lease.worker_id])
        renewing = asyncio.create_task(renew(lease, 60), context=outside)
        await asyncio.sleep(0.5)
    assert await renewing

    left_in_database = await seconds_left_in_database(lease)
    assert lease.ends_at <= clock.read_uptime() + left_in_database


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_a_renewal_after_the_machine_was_suspended_extends_the_lease_in_the_database_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = await register_worker(60)
    asked_at = await clock.now()
    uptime = clock.read_uptime

    # The server's clock cannot be moved, so it is not read again.
    monkeypatch.setattr(clock, "READING_SECONDS", math.inf)
    monkeypatch.setattr(clock, "read_uptime", lambda: uptime() + 3_600)
    assert await renew(lease, 60)

    alive_until = (await Worker.get(id=lease.worker_id)).alive_until
    assert alive_until is not None
    assert alive_until >= asked_at + dt.timedelta(seconds=3_600) + MINUTE
    assert not lease.is_expired()


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_renewing_extends_one_lease_from_now_on() -> None:
    lease, other = await register_worker(10), await register_worker(10)
    untouched = await Worker.get(id=other.worker_id)
    started_at = (await Worker.get(id=lease.worker_id)).started_at
    asked_at = await clock.now()

    assert await renew(lease, 60)

    worker = await Worker.get(id=lease.worker_id)
    assert worker.alive_until is not None
    assert asked_at + MINUTE <= worker.alive_until <= await clock.now() + MINUTE
    assert worker.started_at == started_at
    assert (await Worker.get(id=other.worker_id)).alive_until == untouched.alive_until


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_an_expired_worker_renews_its_lease_unless_it_was_declared_dead() -> None:
    lease = await register_worker(60)
    await expire(lease, seconds_ago=3_600)
    event = await builders.event(await builders.webhook())
    await builders.claim(event, lease=lease)

    assert lease.is_expired()
    assert await renew(lease, 60)

    assert not lease.is_expired()
    assert await declare_dead() == 0
    assert await find_orphans(10) == []
    assert await worker_ids() == {lease.worker_id}


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_worker_that_was_declared_dead_cannot_renew() -> None:
    lease = await register_worker(60)
    await expire(lease)
    ends_at = lease.ends_at
    assert await declare_dead() == 1

    assert not await renew(lease, 60)

    assert lease.ends_at == ends_at
    assert lease.is_expired()
    assert await worker_ids() == set()


@pytest.mark.on_postgres
@pytest.mark.usefixtures("database")
async def test_only_expired_workers_are_declared_dead() -> None:
    alive, barely, dead, long_dead = [await register_worker(60) for _ in range(4)]
    await Worker.filter(id=barely.worker_id).update(alive_until=await builders.later(2))
    await expire(dead)
    await expire(long_dead, seconds_ago=86_400)

    declared = await declare_dead()

    assert declared == 2
    assert await worker_ids() == {alive.worker_id, barely.worker_id}
    assert await declare_dead() == 0


# Orphans.


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_events_of_a_dead_worker_are_orphans() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook, status=EventStatus.RETRYING, attempt_count=3)
    lease = await builders.claim(event)
    claimed_at = (await builders.stored(event)).claimed_at
    assert await find_orphans(10) == []

    await builders.die(lease)

    assert claimed_at is not None
    assert await find_orphans(10) == [Orphan(event.id, lease.worker_id, attempt_count=3, claimed_at=claimed_at)]
    stored = await builders.stored(event)
    assert (stored.worker_id, stored.status, stored.attempt_count) == (lease.worker_id, EventStatus.RETRYING, 3)


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_an_event_cancelled_in_flight_is_an_orphan_too() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)

    await builders.die(lease)

    assert [orphan.event_id for orphan in await find_orphans(10)] == [event.id]


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_events_that_wait_or_have_a_living_worker_are_no_orphans() -> None:
    webhook = await builders.webhook()
    await builders.event(webhook)
    await builders.event(webhook, due_in=100, status=EventStatus.RETRYING, attempt_count=1)
    await builders.event(webhook, status=EventStatus.FAILED, next_attempt_at=None)
    expired = await builders.claim(await builders.event(webhook))
    await expire(expired)

    assert await find_orphans(10) == []


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_events_of_a_worker_that_left_are_orphans_at_once() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)

    await workers.leave(lease)

    assert [orphan.event_id for orphan in await find_orphans(10)] == [event.id]


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_no_more_orphans_are_returned_than_asked_for() -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(5)]
    await builders.die(await builders.claim(*events))

    assert len(await find_orphans(3)) == 3
    assert {orphan.event_id for orphan in await find_orphans(9)} == {event.id for event in events}


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_an_orphan_without_a_claim_time_counts_as_claimed_now() -> None:
    event = await builders.event(await builders.webhook())
    await Event.filter(id=event.id).update(worker_id=uuid4())
    asked_at = await clock.now()

    (orphan,) = await find_orphans(10)

    assert asked_at <= orphan.claimed_at <= await clock.now()
