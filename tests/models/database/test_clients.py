"""Tests of transactions on both database clients: hooks, rollbacks, and cancellation at any time."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from tortoise import Tortoise, connections
from tortoise.exceptions import IntegrityError, OperationalError, TransactionManagementError
from tortoise.transactions import in_transaction

from ringback.models import postgres_connection, sqlite_connection
from ringback.models.database.sqlite import SqliteClient
from ringback.models.database.transactions import RecordingClient, RecordingTransaction
from ringback.models.database.unit_of_work import find_unit
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.every_database


@pytest.fixture
def server(database_kind: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of the Postgres server, or "" on SQLite."""
    return str(request.getfixturevalue("postgres_server")) if database_kind == "postgres" else ""


@pytest_asyncio.fixture
async def client(server: str, tmp_path: Path) -> AsyncIterator[RecordingClient]:
    """Yield a client on a database with the table t(id, value)."""
    if not server:
        async with open_client(sqlite_connection(tmp_path / "t.db")) as sqlite_client:
            yield sqlite_client
        return
    url = await postgres.create(server)
    async with open_client(postgres_connection(url, pool_size=3)) as postgres_client:
        yield postgres_client
    await postgres.drop(server, url)


@asynccontextmanager
async def open_client(connection: dict[str, Any]) -> AsyncIterator[RecordingClient]:
    apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
    config = {"connections": {"default": connection}, "apps": apps}
    await Tortoise.init(config=config, _enable_global_fallback=True)
    try:
        client = cast(RecordingClient, connections.get("default"))
        await client.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, value INTEGER)")
        yield client
    finally:
        await Tortoise.close_connections()


async def read_ids(db: Any) -> list[int]:
    return [row["id"] for row in await db.execute_query_dict("SELECT id FROM t ORDER BY id")]


async def insert_row(db: Any, key: int, value: int = 0) -> None:
    await db.execute_query(f"INSERT INTO t VALUES ({key}, {value})")


async def assert_idle(client: RecordingClient) -> None:
    """Assert that no lock is held, the pool is complete, no transaction is open, and a new one works at once."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        if isinstance(client, SqliteClient):
            assert not client._lock.locked()
            assert client._connection is not None
            assert not client._connection.in_transaction
        else:
            pool = cast(Any, client)._pool
            pooled = [await pool.acquire() for _ in range(pool.get_max_size())]
            assert [connection.is_in_transaction() for connection in pooled] == [False] * 3
            for connection in pooled:
                await pool.release(connection)
        async with in_transaction() as tx:
            assert await tx.execute_query_dict("SELECT 1 AS one") == [{"one": 1}]


async def test_hooks_belong_to_the_outermost_transaction(client: RecordingClient) -> None:
    calls: list[Any] = []
    async with in_transaction() as tx:
        unit = find_unit(tx)
        assert unit is not None

        async def before() -> None:
            await insert_row(tx, 3)
            calls.append(("before", await read_ids(tx), await read_ids(client)))

        async with in_transaction() as inner:
            assert find_unit(inner) is unit
            unit.before_commit(before)
            unit.on_commit(lambda: calls.append("after"))
            await insert_row(inner, 1)
        assert calls == []
        with pytest.raises(ZeroDivisionError):
            async with in_transaction() as inner:
                await insert_row(inner, 2)
                raise ZeroDivisionError
    assert calls == [("before", [1, 3], []), "after"]
    assert await read_ids(client) == [1, 3]


async def test_no_hook_after_a_rollback(client: RecordingClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as tx:
            unit = find_unit(tx)
            assert unit is not None
            unit.on_commit(lambda: pytest.fail("there was no commit"))
            raise ZeroDivisionError
    await assert_idle(client)


@pytest.mark.measures_cpu
async def test_400_cancellations_at_random_times(client: RecordingClient) -> None:
    """A transaction cancelled at a random time is committed whole or not at all, and leaves nothing open."""
    committed: set[int] = set()

    async def write(number: int) -> None:
        async with in_transaction() as tx:
            await insert_row(tx, 2 * number)
            async with in_transaction() as inner:
                await insert_row(inner, 2 * number + 1)
            unit = find_unit(tx)
            assert unit is not None
            unit.on_commit(lambda: committed.add(number))
            if number % 3 == 0:
                raise ZeroDivisionError

    randomly = random.Random(7)
    counts = {"done": 0, "cancelled": 0, "failed": 0}
    for first in range(0, 400, 4):
        tasks = [asyncio.create_task(write(number)) for number in range(first, first + 4)]
        for task in tasks:
            asyncio.get_running_loop().call_later(randomly.random() * 0.006, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                counts["cancelled"] += 1
            elif isinstance(result, ZeroDivisionError):
                counts["failed"] += 1
            else:
                assert result is None
                counts["done"] += 1
    await assert_idle(client)
    assert await read_ids(client) == sorted(key for number in committed for key in (2 * number, 2 * number + 1))
    assert counts["cancelled"] > 20, counts
    assert sum(counts.values()) == 400


@pytest.mark.parametrize("step", ["BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK TO", "COMMIT", "ROLLBACK"])
async def test_a_cancellation_waits_for_the_step_to_end(
    client: RecordingClient, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation arrives while the database executes exactly this statement."""
    owner = client.transaction_class
    reached, go = asyncio.Event(), asyncio.Event()
    original = owner._step

    async def slow(self: RecordingTransaction, statement: str) -> None:
        await original(self, statement)
        if statement.startswith(step) and (step != "ROLLBACK" or statement == step):
            reached.set()
            await go.wait()

    monkeypatch.setattr(owner, "_step", slow)

    async def write() -> None:
        async with in_transaction() as tx:
            await insert_row(tx, 1)
            try:
                async with in_transaction() as inner:
                    await insert_row(inner, 2)
                    if step == "ROLLBACK TO":
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            if step == "ROLLBACK":
                raise ZeroDivisionError

    task = asyncio.create_task(write())
    await asyncio.wait_for(reached.wait(), PATIENCE_SECONDS)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    await assert_idle(client)
    assert await read_ids(client) == ([1, 2] if step == "COMMIT" else [])


async def test_any_error_that_leaves_the_block_rolls_back(client: RecordingClient) -> None:
    for error in (TransactionManagementError("x"), ZeroDivisionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            async with in_transaction() as tx:
                await insert_row(tx, 1)
                raise error
        assert await read_ids(client) == []
    await assert_idle(client)


async def test_any_error_rolls_a_savepoint_back(client: RecordingClient) -> None:
    async with in_transaction() as tx:
        await insert_row(tx, 1)
        for error in (TransactionManagementError("x"), ZeroDivisionError()):
            with pytest.raises(type(error)):
                async with in_transaction() as inner:
                    await insert_row(inner, 2)
                    raise error
        with pytest.raises(IntegrityError):
            async with in_transaction() as inner:
                await insert_row(inner, 1)
    assert await read_ids(client) == [1]


async def test_a_refused_commit_calls_no_hook(client: RecordingClient) -> None:
    await client.execute_script("CREATE TABLE child (t INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
    after_commit: list[int] = []
    with pytest.raises(IntegrityError, match="(?i)foreign key"):
        async with in_transaction() as tx:
            await insert_row(tx, 1)
            await tx.execute_query("INSERT INTO child VALUES (99)")
            unit = find_unit(tx)
            assert unit is not None
            unit.on_commit(lambda: after_commit.append(1))
    assert (await read_ids(client), after_commit) == ([], [])
    await assert_idle(client)


async def test_a_commit_of_a_failed_transaction_calls_no_hook(client: RecordingClient) -> None:
    """Postgres answers COMMIT with ROLLBACK if a statement has failed. SQLite undoes only that statement."""
    after_commit: list[int] = []

    async def write() -> None:
        async with in_transaction() as tx:
            unit = find_unit(tx)
            assert unit is not None
            unit.on_commit(lambda: after_commit.append(1))
            await insert_row(tx, 1)
            with pytest.raises(IntegrityError):
                await insert_row(tx, 1)

    if isinstance(client, SqliteClient):
        await write()
    else:
        with pytest.raises(TransactionManagementError, match="a statement of this transaction failed"):
            await write()

    assert await read_ids(client) == after_commit
    await assert_idle(client)


async def test_a_generator_closed_in_another_context_releases_its_transaction(client: RecordingClient) -> None:
    """So asyncio closes a generator that its consumer has abandoned."""

    async def stream() -> AsyncGenerator[int, None]:
        async with in_transaction() as tx:
            await insert_row(tx, 1)
            yield 1

    async def read_row(rows: AsyncGenerator[int, None]) -> None:
        assert await anext(rows) == 1

    rows = stream()
    await asyncio.create_task(read_row(rows))
    with pytest.raises(ValueError, match="different Context"):
        await rows.aclose()

    assert await read_ids(client) == []
    await assert_idle(client)


async def test_execute_many_is_all_or_nothing(client: RecordingClient) -> None:
    placeholders = "?, ?" if isinstance(client, SqliteClient) else "$1, $2"
    with pytest.raises(IntegrityError):
        await client.execute_many(f"INSERT INTO t VALUES ({placeholders})", [[1, 0], [2, 0], [1, 0]])
    assert await read_ids(client) == []
    await client.execute_many(f"INSERT INTO t VALUES ({placeholders})", [[1, 0], [2, 0]])
    assert await read_ids(client) == [1, 2]
    async with in_transaction() as tx:
        with pytest.raises(IntegrityError):
            await tx.execute_many(f"INSERT INTO t VALUES ({placeholders})", [[3, 0], [3, 0]])
        await tx.rollback()
    assert await read_ids(client) == [1, 2]
    await assert_idle(client)


async def test_a_task_that_outlives_its_transaction_is_refused(client: RecordingClient) -> None:
    """The task inherits the connection, which another transaction may use by then."""
    go = asyncio.Event()

    async def late(db: Any) -> None:
        await go.wait()
        await insert_row(db, 9)

    async def late_transaction() -> None:
        await go.wait()
        async with in_transaction():
            pytest.fail("entered")

    async with in_transaction() as tx:
        tasks = [asyncio.create_task(late(tx)), asyncio.create_task(late_transaction())]
        async with in_transaction() as inner:
            tasks.append(asyncio.create_task(late(inner)))
        with pytest.raises(TransactionManagementError, match="this transaction has ended"):
            await insert_row(inner, 9)
    go.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, TransactionManagementError)
        assert str(result).startswith("this transaction has ended")
    assert await read_ids(client) == []
    await assert_idle(client)


async def test_a_connection_obtained_before_the_transaction_is_refused(client: RecordingClient) -> None:
    async with in_transaction():
        with pytest.raises(TransactionManagementError, match="a transaction is open here"):
            async with client._in_transaction():
                pytest.fail("entered")
    await assert_idle(client)


async def test_cancelled_statements_outside_of_transactions_leave_nothing_open(client: RecordingClient) -> None:
    async def write(number: int) -> None:
        await insert_row(client, number)
        await read_ids(client)

    for number in range(100):
        task = asyncio.create_task(write(number))
        await asyncio.sleep(random.random() / 1000)
        task.cancel()
        await asyncio.wait([task])
    await assert_idle(client)


async def test_errors_are_tortoise_errors(client: RecordingClient) -> None:
    await insert_row(client, 1)
    with pytest.raises(IntegrityError):
        await insert_row(client, 1)
    for statement in ("SELECT * FROM nowhere", "SELECT FROM WHERE"):
        with pytest.raises(OperationalError):
            await client.execute_query(statement)
    await assert_idle(client)


async def test_transactions_of_many_tasks_all_commit(client: RecordingClient) -> None:
    async def write(number: int) -> None:
        async with in_transaction() as tx:
            await insert_row(tx, number)

    await asyncio.gather(*(asyncio.create_task(write(n), context=copy_context()) for n in range(40)))
    assert await read_ids(client) == list(range(40))
    await assert_idle(client)
