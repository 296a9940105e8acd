"""The SQLite client: many writers, many processes, cancellation at every moment, and files that cannot be opened."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
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

from ringback.models.database.sqlite import SqliteClient, _statements
from tests.support.patience import PATIENCE_SECONDS

COUNT = "SELECT COUNT(*) AS n FROM t"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[SqliteClient]:
    """A client on a file with the table t(id, value)."""
    connection = {"engine": "ringback.models.sqlite", "credentials": {"file_path": str(tmp_path / "t.db")}}
    apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
    await Tortoise.init(config={"connections": {"default": connection}, "apps": apps}, _enable_global_fallback=True)
    found = cast(SqliteClient, connections.get("default"))
    await found.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, value INTEGER)")
    yield found
    await Tortoise.close_connections()


async def count(db: Any) -> int:
    return int((await db.execute_query_dict(COUNT))[0]["n"])


async def put(db: Any, key: int, value: int = 0) -> None:
    await db.execute_query("INSERT INTO t VALUES (?, ?)", [key, value])


async def free(client: SqliteClient) -> None:
    """Nobody holds the gate, no transaction is open, and the next one works at once."""
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
    for name in ("", ":memory:"):
        with pytest.raises(ConfigurationError, match="needs a file"):
            SqliteClient(name, connection_name="default")


async def test_pragmas_of_both_connections(client: SqliteClient) -> None:
    wanted = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10_000}
    for db, query_only in ((client, 0), (client._reader, 1)):
        await db.execute_query("SELECT 1")
        for name, value in {**wanted, "query_only": query_only}.items():
            async with db.acquire_connection() as connection:
                rows = await connection.execute_fetchall(f"PRAGMA {name}")
            assert tuple(rows[0]) == (value,), name
    assert next(iter(client.pragmas)) == "busy_timeout"


async def test_pragmas_of_ones_own(tmp_path: Path) -> None:
    client = SqliteClient(str(tmp_path / "x.db"), connection_name="x", synchronous="NORMAL", busy_timeout=5)
    assert (client.pragmas["synchronous"], client.pragmas["busy_timeout"]) == ("NORMAL", 5)


async def test_writing_through_the_reader_fails(client: SqliteClient) -> None:
    with pytest.raises(OperationalError, match="readonly"):
        await client._reader.execute_query("DELETE FROM t")


async def test_readers_wait_for_no_writer(client: SqliteClient) -> None:
    async with in_transaction() as tx:
        await put(tx, 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await count(client), await count(tx)) == (0, 1)
    assert await count(client) == 1


async def test_the_gate_is_first_come_first_served(client: SqliteClient) -> None:
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

async def main(path, what):
    # More patient than the program is: a busy machine may stop a process in the middle of its transaction.
    credentials = {"file_path": path, "busy_timeout": 60_000}
    connection = {"engine": "ringback.models.sqlite", "credentials": credentials}
    apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
    await Tortoise.init(config={"connections": {"default": connection}, "apps": apps}, _enable_global_fallback=True)
    await globals()[what]()
    await Tortoise.close_connections()

asyncio.run(main(*sys.argv[1:]))
"""


async def in_processes(number: int, path: str, what: str) -> None:
    """Run a function of the script above in so many processes at once; all must end without a word."""
    command = (sys.executable, "-c", OTHER_PROCESS, path, what)
    workers = [await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE) for _ in range(number)]
    for worker in workers:
        _, errors = await worker.communicate()
        assert (worker.returncode, errors) == (0, b"")


async def test_two_processes_read_then_write(client: SqliteClient) -> None:
    await put(client, 1)
    await in_processes(2, client.filename, "read_then_write")
    assert await client.execute_query_dict("SELECT value FROM t") == [{"value": 300}]


async def test_many_processes_open_a_new_file(tmp_path: Path) -> None:
    await in_processes(4, str(tmp_path / "new.db"), "open_a_new_file")


async def test_a_writer_of_another_process_is_waited_for(client: SqliteClient) -> None:
    other = sqlite3.connect(client.filename, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    async with in_transaction() as tx:
        await put(tx, 1)
    timer.join()
    other.close()
    assert await count(client) == 1


async def test_a_writer_that_stays_too_long(client: SqliteClient) -> None:
    await client.execute_query("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(client.filename, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(TransactionManagementError, match="database is locked"):
            async with in_transaction():
                pass
        with pytest.raises(OperationalError, match="database is locked"):
            await put(client, 1)
        assert not client._lock.locked()
    other.execute("COMMIT")
    other.close()
    await free(client)


async def test_without_a_tortoise_context_nothing_begins(tmp_path: Path) -> None:
    client = SqliteClient(str(tmp_path / "x.db"), connection_name="x")
    with pytest.raises(RuntimeError, match="No TortoiseContext"):
        await client._in_transaction().__aenter__()
    assert (client._lock.locked(), client._connection) == (False, None)


async def test_a_transaction_that_sqlite_gave_up(client: SqliteClient) -> None:
    """After some errors SQLite rolls back by itself; what follows must not be written one by one."""
    await put(client, 1)
    with pytest.raises(TransactionManagementError, match="rolled this transaction back by itself"):
        async with in_transaction() as tx:
            await put(tx, 2)
            with pytest.raises(IntegrityError):
                await tx.execute_query("INSERT OR ROLLBACK INTO t VALUES (1, 1)")
            with pytest.raises(TransactionManagementError, match="rolled this transaction back by itself"):
                await put(tx, 3)
    assert await count(client) == 1
    with pytest.raises(IntegrityError):
        async with in_transaction(), in_transaction() as inner:
            await inner.execute_query("INSERT OR ROLLBACK INTO t VALUES (1, 1)")
    await free(client)


async def test_a_transaction_left_open_by_hand(client: SqliteClient) -> None:
    await client.execute_query("BEGIN")
    await put(client, 1)
    async with in_transaction() as tx:
        await put(tx, 2)
    assert await client.execute_query_dict("SELECT id FROM t") == [{"id": 2}]
    await free(client)


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
    assert await count(client) == 0
    async with in_transaction() as tx:
        await tx.execute_script(script)
    assert await client.execute_query_dict("SELECT name FROM sqlite_master WHERE name IN ('note', 'tr')") != []


def test_statements_of_a_script() -> None:
    assert list(_statements("a; b ;; \n;")) == ["a;", " b ;"]
    assert list(_statements("SELECT ';'")) == ["SELECT ';';"]
    assert list(_statements("")) == []


@pytest.mark.parametrize("kind", ["no database", "a folder", "no folder", "cut off"])
async def test_files_that_cannot_be_opened(client: SqliteClient, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.db"
    if kind == "no database":
        path.write_bytes(b"hello, I am no database" * 100)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "no folder":
        path = tmp_path / "nowhere" / "x.db"
    else:
        path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 500)
    broken = SqliteClient(str(path), connection_name="x")
    before = threads()
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
    await threads_ended(before)


def threads() -> set[threading.Thread]:
    """The threads that keep a program from ending."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


async def threads_ended(before: set[threading.Thread]) -> None:
    """Wait until no more threads than before are left."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while threads() - before:
            await asyncio.sleep(0.01)


async def test_cancelled_while_a_connection_opens(client: SqliteClient, tmp_path: Path) -> None:
    before = threads()
    for number in range(30):
        other = SqliteClient(str(tmp_path / "other.db"), connection_name="other")
        step = (
            other.execute_query("SELECT 1") if number % 2 else other.execute_query("CREATE TABLE IF NOT EXISTS x (y)")
        )
        task = asyncio.create_task(step)
        await asyncio.sleep(number / 10_000)
        task.cancel()
        await asyncio.wait([task])
        assert not other._lock.locked()
        assert not other._reader._lock.locked()
        await other.close()
    await threads_ended(before)
