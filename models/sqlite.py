"""Tortoise's SQLite client, made fit for many writers.

What differs from Tortoise's own, and why:

- Transactions BEGIN IMMEDIATE: a deferred one that reads, then writes, fails with "database is locked" as soon as a
  second process does the same.
- Writers queue in one FIFO gate instead of meeting on SQLite's busy timeout, which is unfair and slow.
- Reads outside of transactions have a connection of their own, so that in WAL mode they wait for no writer.
- Entering and leaving a transaction survive cancellation, every failed block is rolled back, and a connection that
  outlives its transaction (a task started inside one inherits it, or SQLite gave it up on a full disk) refuses to work
  instead of writing elsewhere.
- Scripts inside a transaction stay inside it; Python's `executescript()` commits first.
- Comparisons that ignore case (`icontains` and its like are UPPER(…) LIKE UPPER(…)) know all letters, not ASCII alone.
- `synchronous=FULL`: what was acknowledged survives a power cut.

Use it as a Tortoise engine: `{"engine": "ringback.models.sqlite", "credentials": {"file_path": "…"}}`. It needs a
file; a database in memory cannot be read by a second connection.
"""

import asyncio
import sqlite3
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar, cast

import aiosqlite
from tortoise.backends.base.client import (
    BaseDBAsyncClient,
    ConnectionWrapper,
    NestedTransactionContext,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.backends.sqlite import client as tortoise_sqlite
from tortoise.connection import ConnectionToken, get_connections
from tortoise.context import get_current_context
from tortoise.exceptions import (
    ConfigurationError,
    DBConnectionError,
    IntegrityError,
    OperationalError,
    TransactionManagementError,
)

from ringback.models.transactions import ENDED, RecordingClient, UnitOfWork, finish

T = TypeVar("T")
Rows = list[dict[str, Any]]
#: How many rows a statement touched, and the rows it gave.
Counted = tuple[int, Sequence[dict[str, Any]]]

#: How long a writer of another process is waited for, in milliseconds.
BUSY_TIMEOUT_MS = 10_000


class SqliteClient(RecordingClient, tortoise_sqlite.SqliteClient):
    """One database file: a writing connection behind the gate, and a reading one."""

    def __init__(self, file_path: str, **kwargs: Any) -> None:
        if file_path in ("", ":memory:"):
            raise ConfigurationError(
                "ringback.models.sqlite needs a file; :memory: cannot be shared by two connections"
            )
        # First of all: setting the others may have to wait for another process already.
        kwargs = {"busy_timeout": BUSY_TIMEOUT_MS, "synchronous": "FULL", **kwargs}
        super().__init__(file_path, **kwargs)
        self._reader = _Reader(self)

    async def create_connection(self, with_db: bool) -> None:
        """Open the writing connection; the reading one opens when it is first needed."""
        if self._connection is None:
            await finish(self._open())

    async def _open(self) -> None:
        # Within the step that survives cancellation: a connection that nobody knew would keep its thread for ever.
        self._connection = await _connected(self.filename, self.pragmas)
        await self._post_connect()

    async def close(self) -> None:
        """Close both connections."""
        try:
            await self._reader.close()
        finally:
            await super().close()

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """The writing connection for one statement, behind the gate."""
        self._check_outside()
        return _Connection(self._lock, self)

    async def execute_query(self, query: str, values: list[Any] | None = None) -> Counted:
        """Run one statement; a SELECT goes to the reading connection."""
        if _is_select(query):
            return cast(Counted, await self._reader.execute_query(query, values))
        return cast(Counted, await super().execute_query(query, values))

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> Rows:
        """Run one statement; a SELECT goes to the reading connection."""
        if _is_select(query):
            return cast(Rows, await self._reader.execute_query_dict(query, values))
        return cast(Rows, await super().execute_query_dict(query, values))

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        """Run one statement for many rows, all or nothing."""
        async with self._in_transaction() as tx:
            await cast(SqliteTransaction, tx).execute_many(query, values)

    def _in_transaction(self) -> TransactionContext:
        self._check_outside()
        return _WriteTransaction(SqliteTransaction(self, UnitOfWork()), self._lock)

    def _check_outside(self) -> None:
        """Refuse to wait for a gate that the caller's own transaction holds: that would be for ever."""
        context = get_current_context()
        inner = context and context.connections._get_storage().get(self.connection_name)
        if isinstance(inner, SqliteTransaction) and inner.client is self and not inner._finalized:
            raise TransactionManagementError(
                "a transaction is open here; use its connection, not one that was taken before it"
            )


class _Reader(tortoise_sqlite.SqliteClient):
    """The reading connection: always the last committed state."""

    def __init__(self, client: SqliteClient) -> None:
        super().__init__(client.filename, connection_name=client.connection_name)
        self.pragmas = {**client.pragmas, "query_only": "ON"}

    async def create_connection(self, with_db: bool) -> None:
        if self._connection is None:
            await finish(self._open())

    async def _open(self) -> None:
        self._connection = await _connected(self.filename, self.pragmas)

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        return _Connection(self._lock, self)


class _Connection(ConnectionWrapper[Any]):
    """A connection for one statement; one that cannot be opened keeps no lock."""

    async def __aenter__(self) -> Any:
        await self._lock.acquire()
        try:
            await self.ensure_connection()
        except BaseException:
            self._lock.release()
            raise
        return self.connection


class SqliteTransaction(tortoise_sqlite.SqliteTransactionWrapper):
    """The connection inside a transaction or savepoint; `unit` is shared by all of its levels, `outer` is the next."""

    def __init__(self, connection: "SqliteClient | SqliteTransaction", unit: UnitOfWork) -> None:
        super().__init__(connection)
        self.unit = unit
        self.outer = connection if isinstance(connection, SqliteTransaction) else None
        self.client: SqliteClient = connection.client if isinstance(connection, SqliteTransaction) else connection

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """The connection for one statement; refused when the transaction has ended."""
        self.check_open()
        return super().acquire_connection()

    def check_open(self) -> None:
        """Raises TransactionManagementError when the transaction has ended, on whatever level and by whomever."""
        level: SqliteTransaction | None = self
        while level is not None:
            if level._finalized:
                raise TransactionManagementError(ENDED)
            level = level.outer
        if not self._connection.in_transaction:
            raise TransactionManagementError(
                "SQLite has rolled this transaction back by itself, after an error such as a full disk"
            )

    async def execute_script(self, query: str) -> None:
        """Run the statements of a script one by one, inside the transaction."""
        for statement in _statements(query):
            await self.execute_query(statement)

    async def begin(self) -> None:
        """Take SQLite's write lock at once."""
        if self._connection.in_transaction:  # a rollback must have failed
            await self._connection.rollback()
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise TransactionManagementError(error) from error

    async def commit(self) -> None:
        """Run the steps before the commit, COMMIT, then run the steps after it.

        A savepoint is released instead: only the outermost COMMIT is real.
        """
        self.check_open()
        if self.outer is not None:
            await self.release_savepoint()
            self._finalized = True
            return
        await self.unit.run_before_commit()
        self.check_open()
        try:
            await finish(_translated(super().commit()))
        finally:
            if self._finalized:
                self.unit.run_on_commit()

    async def rollback(self) -> None:
        """Undo everything since BEGIN, or since the savepoint."""
        if self.outer is not None:
            await self.savepoint_rollback()
            self._finalized = True
            return
        await finish(_translated(super().rollback()))

    async def savepoint(self) -> None:
        """Begin a savepoint."""
        self.check_open()
        await finish(_translated(super().savepoint()))

    async def release_savepoint(self) -> None:
        """Keep what was written since the savepoint, as far as the outermost transaction is."""
        self.check_open()
        await finish(_translated(super().release_savepoint()))

    async def savepoint_rollback(self) -> None:
        """Undo everything since the savepoint."""
        self.check_open()
        await finish(_translated(super().savepoint_rollback()))

    def _in_transaction(self) -> TransactionContext:
        self.check_open()
        return _Savepoint(SqliteTransaction(self, self.unit))


class _WriteTransaction(TransactionContext):
    """Through the gate, BEGIN, the block, COMMIT or ROLLBACK, out of the gate: whatever is cancelled when."""

    def __init__(self, tx: SqliteTransaction, gate: asyncio.Lock) -> None:
        self.client = tx
        self.connection_name = tx.connection_name
        self._gate = gate
        self._token: ConnectionToken | None = None

    async def __aenter__(self) -> TransactionalDBClient:
        tx = cast(SqliteTransaction, self.client)
        connections = get_connections()  # raises without a Tortoise context, when there is nothing to undo yet
        await self._gate.acquire()
        try:
            await finish(self._open(tx))
        except BaseException:
            try:
                if tx._connection is not None and tx._connection.in_transaction:
                    await tx.rollback()
            finally:
                self._gate.release()
            raise
        self._token = connections.set(self.connection_name, tx)
        return tx

    async def _open(self, tx: SqliteTransaction) -> None:
        await tx.client.create_connection(with_db=True)
        tx._connection = cast(aiosqlite.Connection, tx.client._connection)
        await tx.begin()

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        tx = cast(SqliteTransaction, self.client)
        try:
            if not tx._finalized:
                await self._leave(tx, failed=exc_type is not None)
        finally:
            if self._token is not None:
                get_connections().reset(self._token)
            self._gate.release()

    async def _leave(self, tx: SqliteTransaction, *, failed: bool) -> None:
        if failed:
            await tx.rollback()
            return
        try:
            await tx.commit()
        except BaseException:
            if not tx._finalized:
                await tx.rollback()
            raise


class _Savepoint(NestedTransactionContext):
    """A transaction within a transaction; a failed one is always rolled back to where it began."""

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        level = cast(SqliteTransaction, self.client)
        if level._finalized:
            return
        if exc_type is None:
            await level.release_savepoint()
        elif level._connection.in_transaction:
            await level.savepoint_rollback()


async def _connected(path: str, pragmas: dict[str, Any]) -> aiosqlite.Connection:
    """An open connection; raises DBConnectionError when the file cannot be opened or is no database."""
    connection: aiosqlite.Connection | None = None
    try:
        connection = await aiosqlite.connect(path, isolation_level=None)
        connection._conn.row_factory = sqlite3.Row
        await connection.create_function("UPPER", 1, _upper, deterministic=True)
        for pragma, value in pragmas.items():
            await connection.execute_fetchall(f"PRAGMA {pragma}={value}")
    except BaseException as error:
        if connection is not None:
            await connection.close()
        if isinstance(error, sqlite3.Error):
            raise DBConnectionError(f"cannot open {path}: {error}") from error
        raise
    return connection


async def _translated(step: Coroutine[Any, Any, T]) -> T:
    """The step, with sqlite3's errors as Tortoise's."""
    try:
        return await step
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error
    except sqlite3.OperationalError as error:
        raise OperationalError(error) from error


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            if statement.strip("; \t\r\n"):
                yield statement
            statement = ""
    if statement.strip("; \t\r\n"):
        yield statement


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _is_select(query: str) -> bool:
    return query.lstrip()[:6].upper() == "SELECT"


def get_client_class(db_info: dict[str, Any]) -> type[BaseDBAsyncClient]:
    """Tortoise's way to find the client of an engine."""
    return SqliteClient
