"""Postgres rolls back a transaction that sends no statement for long, so that its locks do not last."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tortoise import Tortoise, connections
from tortoise.exceptions import DBConnectionError
from tortoise.transactions import in_transaction

from ringback.models import bootstrap, postgres_connection
from ringback.models.settings import Settings
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.on_postgres

LIMIT = "SELECT current_setting('idle_in_transaction_session_timeout') AS value"


@asynccontextmanager
async def opened(url: str, seconds: int, **options: Any) -> AsyncIterator[Any]:
    connection = postgres_connection(url, idle_transaction_seconds=seconds, **options)
    apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
    config = {"connections": {"default": connection}, "apps": apps}
    await Tortoise.init(config=config, _enable_global_fallback=True)
    try:
        yield connections.get("default")
    finally:
        await Tortoise.close_connections()


async def read_limit(client: Any) -> str:
    (row,) = await client.execute_query_dict(LIMIT)
    return str(row["value"])


async def test_a_transaction_without_statements_is_rolled_back_and_frees_its_locks(postgres_server: str) -> None:
    url = await postgres.create(postgres_server)
    async with opened(url, 1) as client:
        await client.execute_script("CREATE TABLE t (value INTEGER)")
        await client.execute_query("INSERT INTO t VALUES (1)")
        other = await asyncpg.connect(url)

        with pytest.raises(DBConnectionError):
            async with in_transaction("default") as tx:
                await tx.execute_query("UPDATE t SET value = 2")
                assert await other.execute("UPDATE t SET value = 3", timeout=PATIENCE_SECONDS) == "UPDATE 1"
                await tx.execute_query("UPDATE t SET value = 4")

        assert await other.fetchval("SELECT value FROM t") == 3
        await asyncio.wait_for(client.execute_query("UPDATE t SET value = 5"), PATIENCE_SECONDS)
        await other.close()
    await postgres.drop(postgres_server, url)


@pytest.mark.parametrize(
    ("options", "seconds", "limit"),
    [
        ("", 0, "0"),
        ("", 30, "30s"),
        ("options=-c%20idle_in_transaction_session_timeout%3D5s", 30, "5s"),
        ("options=-c%20idle_in_transaction_session_timeout%3D0", 30, "0"),
    ],
)
async def test_a_limit_of_the_url_comes_first(options: str, seconds: int, limit: str, postgres_server: str) -> None:
    url = await postgres.create(postgres_server)
    async with opened(f"{url}{'&' if '?' in url else '?'}{options}", seconds) as client:
        assert await read_limit(client) == limit
    await postgres.drop(postgres_server, url)


async def test_the_start_of_sessions_that_an_application_gives_comes_in_addition(postgres_server: str) -> None:
    async def start(connection: Any) -> None:
        await connection.execute("SET application_name = 'mine'")

    url = await postgres.create(postgres_server)
    async with opened(url, 30, init=start) as client:
        (row,) = await client.execute_query_dict("SELECT current_setting('application_name') AS name")
        assert row["name"] == "mine"
        assert await read_limit(client) == "30s"
    await postgres.drop(postgres_server, url)


async def test_the_transactions_of_an_application_are_not_limited(database: Settings) -> None:
    assert await read_limit(connections.get(bootstrap.CONNECTION)) == "0"
    limited = bootstrap.select_database(database, idle_transaction_seconds=30)
    assert limited.connection()["credentials"]["idle_transaction_seconds"] == 30
