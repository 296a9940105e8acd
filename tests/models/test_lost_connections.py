"""Postgres ends a connection inside a transaction: the error is one of those after which the recorder tries again."""

import asyncio
from typing import Any

import asyncpg
import pytest
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError
from tortoise.transactions import in_transaction

from ringback.models.lead import Lead
from ringback.models.settings import Settings
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.on_postgres

#: What the recorder and the dispatcher wait for and try again after.
RETRIED = (DBConnectionError, OperationalError, TransactionManagementError)


async def end_session_of(db: Any, settings: Settings) -> None:
    """End the session of a transaction, and wait until its pool has taken the connection back."""
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
    with pytest.raises(RETRIED):
        async with in_transaction() as db:
            await end_session_of(db, database)
    assert await Lead.all().count() == 0


async def test_a_statement_after_the_connection_was_lost(database: Settings) -> None:
    with pytest.raises(RETRIED):
        async with in_transaction() as db:
            await end_session_of(db, database)
            await Lead.all().using_db(db).count()
    assert await Lead.all().count() == 0


async def test_a_savepoint_after_the_connection_was_lost(database: Settings) -> None:
    with pytest.raises(RETRIED):
        async with in_transaction() as db, in_transaction():
            await end_session_of(db, database)
    assert await Lead.all().count() == 0


async def test_an_error_of_the_block_is_not_hidden_by_the_lost_connection(database: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as db:
            await end_session_of(db, database)
            raise ZeroDivisionError
    assert await Lead.all().count() == 0
