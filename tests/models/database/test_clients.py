"""What both database clients promise of transactions, and that no cancellation leaves anything open."""

import asyncio
import random
from collections.abc import AsyncIterator
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
from ringback.models.database.unit_of_work import unit_of
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.every_database


@pytest.fixture
def server(database_kind: str, request: pytest.FixtureRequest) -> str:
    """The Postgres server, where the test needs one."""
    return str(request.getfixturevalue("postgres_server")) if database_kind == "postgres" else ""


@pytest_asyncio.fixture
async def client(server: str, tmp_path: Path) -> AsyncIterator[RecordingClient]:
    """A client on a database with the table t(id, value)."""
    if not server:
        async with opened(sqlite_connection(tmp_path / "t.db")) as found:
            yield found
        return
    url = await postgres.create(server)
    async with opened(postgres_connection(url, pool_size=3)) as found:
        yield found
    await postgres.drop(server, url)


class opened:  # noqa: N801
    def __init__(self, connection: dict[str, Any]) -> None:
        apps = {"ringback": {"models": ["ringback.models.api_token"], "default_connection": "default"}}
        self.config = {"connections": {"default": connection}, "apps": apps}

    async def __aenter__(self) -> RecordingClient:
        await Tortoise.init(config=self.config, _enable_global_fallback=True)
        found = cast(RecordingClient, connections.get("default"))
        await found.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, value INTEGER)")
        return found

    async def __aexit__(self, *error: object) -> None:
        await Tortoise.close_connections()


async def ids(db: Any) -> list[int]:
    return [row["id"] for row in await db.execute_query_dict("SELECT id FROM t ORDER BY id")]


async def put(db: Any, key: int, value: int = 0) -> None:
    await db.execute_query(f"INSERT INTO t VALUES ({key}, {value})")


async def free(client: RecordingClient) -> None:
    """No gate is held, no connection of the pool is lost, no transaction is open, and the next ones work at once."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        if isinstance(client, SqliteClient):
            assert not client._lock.locked()
            assert client._connection is not None
            assert not client._connection.in_transaction
        else:
            pool = cast(Any, client)._pool
            held = [await pool.acquire() for _ in range(pool.get_max_size())]
            assert [connection.is_in_transaction() for connection in held] == [False] * 3
            for connection in held:
                await pool.release(connection)
        async with in_transaction() as tx:
            assert await tx.execute_query_dict("SELECT 1 AS one") == [{"one": 1}]


async def test_hooks_belong_to_the_outermost_transaction(client: RecordingClient) -> None:
    seen: list[Any] = []
    async with in_transaction() as tx:
        unit = unit_of(tx)
        assert unit is not None

        async def before() -> None:
            await put(tx, 3)
            seen.append(("before", await ids(tx), await ids(client)))

        async with in_transaction() as inner:
            assert unit_of(inner) is unit
            unit.before_commit(before)
            unit.on_commit(lambda: seen.append("after"))
            await put(inner, 1)
        assert seen == []
        with pytest.raises(ZeroDivisionError):
            async with in_transaction() as inner:
                await put(inner, 2)
                raise ZeroDivisionError
    assert seen == [("before", [1, 3], []), "after"]
    assert await ids(client) == [1, 3]


async def test_no_hook_after_a_rollback(client: RecordingClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as tx:
            unit = unit_of(tx)
            assert unit is not None
            unit.on_commit(lambda: pytest.fail("there was no commit"))
            raise ZeroDivisionError
    await free(client)


async def test_400_cancellations(client: RecordingClient) -> None:
    """Clients that disconnect at every moment of a transaction: each is whole or not there, nothing stays open."""
    committed: set[int] = set()

    async def write(number: int) -> None:
        async with in_transaction() as tx:
            await put(tx, 2 * number)
            async with in_transaction() as inner:
                await put(inner, 2 * number + 1)
            unit = unit_of(tx)
            assert unit is not None
            unit.on_commit(lambda: committed.add(number))
            if number % 3 == 0:
                raise ZeroDivisionError

    randomly = random.Random(7)
    ended = {"done": 0, "cancelled": 0, "failed": 0}
    for first in range(0, 400, 4):
        tasks = [asyncio.create_task(write(number)) for number in range(first, first + 4)]
        for task in tasks:
            asyncio.get_running_loop().call_later(randomly.random() * 0.006, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                ended["cancelled"] += 1
            elif isinstance(result, ZeroDivisionError):
                ended["failed"] += 1
            else:
                assert result is None
                ended["done"] += 1
    await free(client)
    assert await ids(client) == sorted(key for number in committed for key in (2 * number, 2 * number + 1))
    assert ended["cancelled"] > 20, ended
    assert sum(ended.values()) == 400


@pytest.mark.parametrize("step", ["BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK TO", "COMMIT", "ROLLBACK"])
async def test_cancelled_within_a_step(client: RecordingClient, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancellation arrives while the database works on exactly this step."""
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
            await put(tx, 1)
            try:
                async with in_transaction() as inner:
                    await put(inner, 2)
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
    task.cancel()  # an impatient one
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    await free(client)
    assert await ids(client) == ([1, 2] if step == "COMMIT" else [])


async def test_any_error_that_leaves_the_block_rolls_back(client: RecordingClient) -> None:
    for error in (TransactionManagementError("x"), ZeroDivisionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            async with in_transaction() as tx:
                await put(tx, 1)
                raise error
        assert await ids(client) == []
    await free(client)


async def test_a_failed_savepoint_rolls_back_whatever_the_error(client: RecordingClient) -> None:
    async with in_transaction() as tx:
        await put(tx, 1)
        for error in (TransactionManagementError("x"), ZeroDivisionError()):
            with pytest.raises(type(error)):
                async with in_transaction() as inner:
                    await put(inner, 2)
                    raise error
        with pytest.raises(IntegrityError):
            async with in_transaction() as inner:
                await put(inner, 1)
    assert await ids(client) == [1]


async def test_a_commit_that_the_database_refuses(client: RecordingClient) -> None:
    await client.execute_script("CREATE TABLE child (t INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
    woken: list[int] = []
    with pytest.raises(IntegrityError, match="(?i)foreign key"):
        async with in_transaction() as tx:
            await put(tx, 1)
            await tx.execute_query("INSERT INTO child VALUES (99)")
            unit = unit_of(tx)
            assert unit is not None
            unit.on_commit(lambda: woken.append(1))
    assert (await ids(client), woken) == ([], [])
    await free(client)


async def test_execute_many_is_all_or_nothing(client: RecordingClient) -> None:
    marks = "?, ?" if isinstance(client, SqliteClient) else "$1, $2"
    with pytest.raises(IntegrityError):
        await client.execute_many(f"INSERT INTO t VALUES ({marks})", [[1, 0], [2, 0], [1, 0]])
    assert await ids(client) == []
    await client.execute_many(f"INSERT INTO t VALUES ({marks})", [[1, 0], [2, 0]])
    assert await ids(client) == [1, 2]
    async with in_transaction() as tx:
        with pytest.raises(IntegrityError):
            await tx.execute_many(f"INSERT INTO t VALUES ({marks})", [[3, 0], [3, 0]])
        await tx.rollback()
    assert await ids(client) == [1, 2]
    await free(client)


async def test_a_task_that_outlives_its_transaction(client: RecordingClient) -> None:
    """It inherits the connection, which by then belongs to somebody else."""
    go = asyncio.Event()

    async def late(db: Any) -> None:
        await go.wait()
        await put(db, 9)

    async def late_transaction() -> None:
        await go.wait()
        async with in_transaction():
            pytest.fail("entered")

    async with in_transaction() as tx:
        tasks = [asyncio.create_task(late(tx)), asyncio.create_task(late_transaction())]
        async with in_transaction() as inner:
            tasks.append(asyncio.create_task(late(inner)))
        with pytest.raises(TransactionManagementError, match="this transaction has ended"):
            await put(inner, 9)
    go.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, TransactionManagementError)
        assert str(result).startswith("this transaction has ended")
    assert await ids(client) == []
    await free(client)


async def test_a_connection_taken_before_the_transaction(client: RecordingClient) -> None:
    async with in_transaction():
        with pytest.raises(TransactionManagementError, match="a transaction is open here"):
            async with client._in_transaction():
                pytest.fail("entered")
    await free(client)


async def test_statements_cancelled_outside_of_transactions(client: RecordingClient) -> None:
    async def write(number: int) -> None:
        await put(client, number)
        await ids(client)

    for number in range(100):
        task = asyncio.create_task(write(number))
        await asyncio.sleep(random.random() / 1000)
        task.cancel()
        await asyncio.wait([task])
    await free(client)


async def test_errors_are_those_of_tortoise(client: RecordingClient) -> None:
    await put(client, 1)
    with pytest.raises(IntegrityError):
        await put(client, 1)
    for statement in ("SELECT * FROM nowhere", "SELECT FROM WHERE"):
        with pytest.raises(OperationalError):
            await client.execute_query(statement)
    await free(client)


async def test_transactions_of_many_tasks(client: RecordingClient) -> None:
    async def write(number: int) -> None:
        async with in_transaction() as tx:
            await put(tx, number)

    await asyncio.gather(*(asyncio.create_task(write(n), context=copy_context()) for n in range(40)))
    assert await ids(client) == list(range(40))
    await free(client)
