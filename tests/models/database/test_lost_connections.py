"""Tests of connections that Postgres ends: workers retry after every error, and no event is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError
from tortoise.transactions import in_transaction

from ringback.models.event import Event
from ringback.models.lead import Lead
from ringback.models.queue import workers
from ringback.models.queue.claims import claim
from ringback.models.queue.grants import ClaimRequest
from ringback.models.queue.workers import register_worker
from ringback.models.settings import Settings
from tests.support import builders
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.on_postgres

#: The errors after which the recorder and the claimer retry.
RETRIED = (DBConnectionError, OperationalError, TransactionManagementError)


async def end_session(db: Any, settings: Settings) -> None:
    """End the session of a transaction, and wait until the pool has released its connection."""
    (row,) = await db.execute_query_dict("SELECT pg_backend_pid() AS pid")
    outside = await asyncpg.connect(settings.database_url)
    try:
        assert await outside.fetchval("SELECT pg_terminate_backend($1)", row["pid"])
    finally:
        await outside.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while repr(db._connection).find("[released]") < 0:
            await asyncio.sleep(0.001)


async def test_a_transaction_that_lost_its_connection_cannot_be_committed(database: Settings) -> None:
    with pytest.raises(DBConnectionError):
        async with in_transaction() as db:
            await end_session(db, database)
    assert await Lead.all().count() == 0


async def test_a_statement_after_the_connection_was_lost(database: Settings) -> None:
    with pytest.raises(DBConnectionError):
        async with in_transaction() as db:
            await end_session(db, database)
            await Lead.all().using_db(db).count()
    assert await Lead.all().count() == 0


async def test_a_savepoint_after_the_connection_was_lost(database: Settings) -> None:
    with pytest.raises(DBConnectionError):
        async with in_transaction() as db, in_transaction():
            await end_session(db, database)
    assert await Lead.all().count() == 0


async def test_an_error_of_the_block_is_not_hidden_by_the_lost_connection(database: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as db:
            await end_session(db, database)
            raise ZeroDivisionError
    assert await Lead.all().count() == 0


@asynccontextmanager
async def ending_sessions(settings: Settings) -> AsyncIterator[None]:
    """End all active sessions every 10 ms while the block runs."""
    outside = await asyncpg.connect(settings.database_url)

    async def end_sessions() -> None:
        while True:
            await outside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
            await asyncio.sleep(0.01)

    task = asyncio.create_task(end_sessions())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await outside.close()


async def test_no_event_is_lost_or_claimed_twice_while_sessions_end(database: Settings) -> None:
    webhook = await builders.webhook(max_concurrency=1_000)
    events = [await builders.event(webhook) for _ in range(60)]
    lease = await register_worker(60)
    request = ClaimRequest(free_slots=4, retry_slots=4, max_concurrency=50)
    claimed: list[UUID] = []
    errors = 0

    async with ending_sessions(database), asyncio.timeout(PATIENCE_SECONDS):
        while errors < 5 and len(claimed) < len(events):
            try:
                claimed += [delivery.event.id for delivery in (await claim(lease.worker_id, request)).deliveries]
            except RETRIED:
                errors += 1
    # A COMMIT whose answer was lost leaves claims that the worker does not know.
    released = await workers.release_all_but(lease, claimed)
    while batch := (await claim(lease.worker_id, request)).deliveries:
        claimed += [delivery.event.id for delivery in batch]

    assert errors >= 1
    assert released <= 2 * errors
    assert sorted(claimed) == sorted(event.id for event in events)
    assert await Event.filter(worker_id=lease.worker_id).count() == len(events)


async def test_a_lease_is_renewed_again_after_its_session_was_ended(database: Settings) -> None:
    lease = await register_worker(60)
    ends_at = lease.ends_at
    renewals = errors = 0

    async with ending_sessions(database), asyncio.timeout(PATIENCE_SECONDS):
        while errors < 3:
            try:
                renewals += await workers.renew(lease, 60)
            except RETRIED:
                errors += 1
    assert await workers.renew(lease, 60)

    assert lease.ends_at > ends_at
