"""Tests of the SQLite client: many writers and processes, cancellation at any time, files that cannot be opened."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextvars import copy_context
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from tortoise import Tortoise, connections
from tortoise.exceptions import (
    ConfigurationError,
    DBConnectionError,
    IntegrityError,
    OperationalError,
    TransactionManagementError,
)
from tortoise.transactions import in_transaction

from ringback.models.database.sqlite import SqliteClient, _split_statements
from tests.support.patience import PATIENCE_SECONDS

COUNT = "SELECT COUNT(*) AS n FROM t"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[SqliteClient]:
    """A client on a file with the table t(id, value)."""
    connection = {"engine": "ringback.models.sqlite", "credentials": {"file_path": str(tmp_path / "t.db")}}
    apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
    await Tortoise.init(config={"connections": {"default": connection}, "apps": apps}, _enable_global_fallback=True)
    opened_client = cast(SqliteClient, connections.get("default"))
    await opened_client.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, value INTEGER)")
    yield opened_client
    await Tortoise.close_connections()


async def count_rows(db: Any) -> int:
    return int((await db.execute_query_dict(COUNT))[0]["n"])


async def insert_row(db: Any, key: int, value: int = 0) -> None:
    await db.execute_query("INSERT INTO t VALUES (?, ?)", [key, value])


async def assert_idle(client: SqliteClient) -> None:
    """Assert that the lock is free, no transaction is open, and a new one works at once."""
    assert not client._lock.locked()
    assert client._connection is not None
    assert not client._connection.in_transaction
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with in_transaction() as tx:
            assert (await tx.execute_query_dict("SELECT 1 AS one")) == [{"one": 1}]
    with sqlite3.connect(client.filename, timeout=0, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()


def test_memory_is_refused() -> None:
    for path in ("", ":memory:"):
        with pytest.raises(ConfigurationError, match=rf"^file_path is '{path}', which two connections cannot share"):
            SqliteClient(path, connection_name="default")


async def test_pragmas_of_both_connections(client: SqliteClient) -> None:
    expected = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10_000}
    for db, query_only in ((client, 0), (client._reader, 1)):
        await db.execute_query("SELECT 1")
        for name, value in {**expected, "query_only": query_only}.items():
            async with db.acquire_connection() as connection:
                rows = await connection.execute_fetchall(f"PRAGMA {name}")
            assert tuple(rows[0]) == (value,), name
    assert next(iter(client.pragmas)) == "busy_timeout"


async def test_custom_pragmas_replace_the_defaults(tmp_path: Path) -> None:
    client = SqliteClient(str(tmp_path / "x.db"), connection_name="x", synchronous="NORMAL", busy_timeout=5)
    assert (client.pragmas["synchronous"], client.pragmas["busy_timeout"]) == ("NORMAL", 5)


async def test_writing_through_the_reader_fails(client: SqliteClient) -> None:
    with pytest.raises(OperationalError, match="readonly"):
        await client._reader.execute_query("DELETE FROM t")


async def test_readers_do_not_wait_for_a_writer(client: SqliteClient) -> None:
    async with in_transaction() as tx:
        await insert_row(tx, 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await count_rows(client), await count_rows(tx)) == (0, 1)
    assert await count_rows(client) == 1


async def test_writers_without_a_token_are_served_in_the_order_they_came(client: SqliteClient) -> None:
    order: list[int] = []

    async def write(number: int) -> None:
        async with in_transaction():
            order.append(number)
            await asyncio.sleep(random.random() / 500)

    outside = copy_context()
    async with in_transaction():
        waiting = []
        for number in range(20):
            waiting.append(asyncio.get_running_loop().create_task(write(number), context=outside))
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == list(range(20))


OTHER_PROCESS = """
import asyncio, sys
from tortoise import Tortoise
from tortoise.transactions import in_transaction

async def read_then_write():
    for _ in range(150):
        async with in_transaction() as tx:
            value = (await tx.execute_query_dict("SELECT value FROM t WHERE id = 1"))[0]["value"]
            await asyncio.sleep(0.0005)
            await tx.execute_query("UPDATE t SET value = ? WHERE id = 1", [value + 1])

async def open_a_new_file():
    async with in_transaction() as tx:
        await tx.execute_query("CREATE TABLE IF NOT EXISTS x (y)")
        await tx.execute_query_dict("SELECT * FROM x")

async def main(path, function):
    # Longer than in production: a busy machine may suspend a process in the middle of its transaction.
    credentials = {"file_path": path, "busy_timeout": 60_000}
    connection = {"engine": "ringback.models.sqlite", "credentials": credentials}
    apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
    await Tortoise.init(config={"connections": {"default": connection}, "apps": apps}, _enable_global_fallback=True)
    await globals()[function]()
    await Tortoise.close_connections()

asyncio.run(main(*sys.argv[1:]))
"""


async def run_in_processes(number: int, path: str, function: str) -> None:
    """Run a function of the script above in several processes at once. Each must exit with 0 and print no errors."""
    command = (sys.executable, "-c", OTHER_PROCESS, path, function)
    workers = [await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE) for _ in range(number)]
    for worker in workers:
        _, errors = await worker.communicate()
        assert (worker.returncode, errors) == (0, b"")


async def test_two_processes_read_then_write(client: SqliteClient) -> None:
    await insert_row(client, 1)
    await run_in_processes(2, client.filename, "read_then_write")

    assert await client.execute_query_dict("SELECT value FROM t") == [{"value": 300}]


async def test_many_processes_open_a_new_file(tmp_path: Path) -> None:
    await run_in_processes(4, str(tmp_path / "new.db"), "open_a_new_file")


async def test_a_writer_waits_for_one_of_another_process(client: SqliteClient) -> None:
    other = sqlite3.connect(client.filename, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    async with in_transaction() as tx:
        await insert_row(tx, 1)
    timer.join()
    other.close()

    assert await count_rows(client) == 1


async def test_a_writer_that_holds_the_lock_too_long_is_an_error(client: SqliteClient) -> None:
    await client.execute_query("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(client.filename, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(TransactionManagementError, match="database is locked"):
            async with in_transaction():
                pass
        with pytest.raises(OperationalError, match="database is locked"):
            await insert_row(client, 1)
        assert not client._lock.locked()
    other.execute("COMMIT")
    other.close()
    await assert_idle(client)


async def test_without_a_tortoise_context_no_transaction_starts(tmp_path: Path) -> None:
    client = SqliteClient(str(tmp_path / "x.db"), connection_name="x")
    with pytest.raises(RuntimeError, match="No TortoiseContext"):
        await client._in_transaction().__aenter__()

    assert (client._lock.locked(), client._connection) == (False, None)


async def test_a_transaction_that_sqlite_rolled_back_refuses_statements(client: SqliteClient) -> None:
    """After some errors SQLite rolls back by itself. Later statements must not be committed one by one."""
    await insert_row(client, 1)
    with pytest.raises(TransactionManagementError, match="rolled this transaction back by itself"):
        async with in_transaction() as tx:
            await insert_row(tx, 2)
            with pytest.raises(IntegrityError):
                await tx.execute_query("INSERT OR ROLLBACK INTO t VALUES (1, 1)")
            with pytest.raises(TransactionManagementError, match="rolled this transaction back by itself"):
                await insert_row(tx, 3)
    assert await count_rows(client) == 1
    with pytest.raises(IntegrityError):
        async with in_transaction(), in_transaction() as inner:
            await inner.execute_query("INSERT OR ROLLBACK INTO t VALUES (1, 1)")
    await assert_idle(client)


async def test_a_transaction_left_open_by_hand_is_rolled_back(client: SqliteClient) -> None:
    await client.execute_query("BEGIN")
    await insert_row(client, 1)
    async with in_transaction() as tx:
        await insert_row(tx, 2)
    assert await client.execute_query_dict("SELECT id FROM t") == [{"id": 2}]
    await assert_idle(client)


async def test_a_cancellation_while_a_transaction_left_open_is_rolled_back(client: SqliteClient) -> None:
    connection = client._connection
    assert connection is not None
    await connection.create_function("pause", 0, lambda: time.sleep(0.05))
    await client.execute_query("BEGIN")
    await insert_row(client, 1)

    async def write() -> None:
        async with in_transaction():
            pytest.fail("entered")

    # The rollback waits for this statement in the thread of the connection.
    pausing = asyncio.create_task(connection.execute_fetchall("SELECT pause()"))
    await asyncio.sleep(0)
    writing = asyncio.create_task(write(), context=copy_context())
    await asyncio.sleep(0)
    writing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await writing
    await pausing
    assert await count_rows(client) == 0
    await assert_idle(client)


async def test_a_script_inside_a_transaction_stays_inside(client: SqliteClient) -> None:
    script = """
        INSERT INTO t VALUES (1, 1); -- a remark; with a semicolon
        CREATE TABLE note (text TEXT DEFAULT ';'); /* another; one */
        CREATE TRIGGER tr AFTER INSERT ON note BEGIN DELETE FROM t; END;
        INSERT INTO note VALUES ('a;b')
    """
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as tx:
            await tx.execute_script(script)
            assert await tx.execute_query_dict("SELECT text FROM note") == [{"text": "a;b"}]
            raise ZeroDivisionError
    assert await count_rows(client) == 0
    async with in_transaction() as tx:
        await tx.execute_script(script)
    assert await client.execute_query_dict("SELECT name FROM sqlite_master WHERE name IN ('note', 'tr')") != []


def test_statements_of_a_script() -> None:
    assert list(_split_statements("a; b ;; \n;")) == ["a;", " b ;"]
    assert list(_split_statements("SELECT ';'")) == ["SELECT ';';"]
    assert list(_split_statements("")) == []


@pytest.mark.parametrize("kind", ["not a database", "a folder", "no folder", "truncated"])
async def test_files_that_cannot_be_opened(client: SqliteClient, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.db"
    if kind == "not a database":
        path.write_bytes(b"This is not a database." * 100)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "no folder":
        path = tmp_path / "nowhere" / "x.db"
    else:
        path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 500)
    broken = SqliteClient(str(path), connection_name="x")
    before = blocking_threads()
    for _ in range(3):
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(DBConnectionError, match="^cannot open "):
                await broken.execute_query("SELECT 1")
            with pytest.raises(DBConnectionError, match="^cannot open "):
                await broken.execute_query("DELETE FROM t")
            with pytest.raises(DBConnectionError, match="^cannot open "):
                async with broken._in_transaction():
                    pass
        assert not broken._lock.locked()
    await broken.close()
    await wait_for_threads(before)


def blocking_threads() -> set[threading.Thread]:
    """Return the threads that keep the process from ending."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


async def wait_for_threads(before: set[threading.Thread]) -> None:
    """Wait until all threads that started since have ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while blocking_threads() - before:
            await asyncio.sleep(0.01)


async def test_cancelling_while_a_connection_opens_leaves_no_thread(client: SqliteClient, tmp_path: Path) -> None:
    before = blocking_threads()
    for number in range(30):
        other = SqliteClient(str(tmp_path / "other.db"), connection_name="other")
        statement = "SELECT 1" if number % 2 else "CREATE TABLE IF NOT EXISTS x (y)"
        task = asyncio.create_task(other.execute_query(statement))
        await asyncio.sleep(number / 10_000)
        task.cancel()
        await asyncio.wait([task])
        assert not other._lock.locked()
        assert not other._reader._lock.locked()
        await other.close()
    await wait_for_threads(before)
