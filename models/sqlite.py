"""Tortoise's SQLite client, made fit for many writers.

What differs from Tortoise's own, and why:

- Transactions BEGIN IMMEDIATE: a deferred one that reads, then writes, fails with "database is locked" as soon as a
  second process does the same.
- Writers queue in one FIFO gate instead of meeting on SQLite's busy timeout, which is unfair and slow.
- Reads outside of transactions have a connection of their own, so that in WAL mode they wait for no writer.
- Entering and leaving a transaction survive cancellation, every failed block is rolled back, and a connection that
  outlives its transaction (a task started inside one inherits it) refuses to work instead of writing elsewhere.
- `synchronous=FULL`: what was acknowledged survives a power cut.

Use it as a Tortoise engine: `{"engine": "ringback.models.sqlite", "credentials": {"file_path": "…"}}`. It needs a
file; a database in memory cannot be read by a second connection.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import aiosqlite
from ringback.models.transactions import UnitOfWork, finish
from tortoise.backends.base.client import (
    BaseDBAsyncClient,
    ConnectionWrapper,
    NestedTransactionContext,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.backends.sqlite import client as tortoise_sqlite
from tortoise.connection import ConnectionToken, get_connections
from tortoise.exceptions import ConfigurationError, TransactionManagementError

#: How long a writer of another process is waited for, in milliseconds.
BUSY_TIMEOUT_MS = 10_000


class SqliteClient(tortoise_sqlite.SqliteClient):
    """One database file: a writing connection behind the gate, and a reading one."""

    def __init__(self, file_path: str, **kwargs: Any) -> None:
        if file_path in ("", ":memory:"):
            raise ConfigurationError(
                "ringback.models.sqlite needs a file; :memory: cannot be shared by two connections"
            )
        kwargs.setdefault("busy_timeout", BUSY_TIMEOUT_MS)
        kwargs.setdefault("synchronous", "FULL")
        super().__init__(file_path, **kwargs)
        self._reader = _Reader(self)

    async def create_connection(self, with_db: bool) -> None:
        """Open the writing connection; the reading one opens when it is first needed."""
        if self._connection is None:
            self._connection = await _connect(self.filename, self.pragmas)
            await self._post_connect()

    async def close(self) -> None:
        """Close both connections."""
        await self._reader.close()
        await super().close()

    async def execute_query(self, query: str, values: list[Any] | None = None) -> tuple[int, Sequence[dict[str, Any]]]:
        """Run one statement; a SELECT goes to the reading connection."""
        if _is_select(query):
            return await self._reader.execute_query(query, values)
        return await super().execute_query(query, values)

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
        """Run one statement; a SELECT goes to the reading connection."""
        if _is_select(query):
            return await self._reader.execute_query_dict(query, values)
        return await super().execute_query_dict(query, values)

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        """Run one statement for many rows, all or nothing."""
        async with self._in_transaction() as tx:
            await cast(SqliteTransaction, tx).execute_many(query, values)

    def _in_transaction(self) -> TransactionContext:
        return _WriteTransaction(SqliteTransaction(self, UnitOfWork()), self._lock)


class _Reader(tortoise_sqlite.SqliteClient):
    """The reading connection: always the last committed state."""

    def __init__(self, client: SqliteClient) -> None:
        super().__init__(client.filename, connection_name=client.connection_name)
        self.pragmas = {**client.pragmas, "query_only": "ON"}

    async def create_connection(self, with_db: bool) -> None:
        if self._connection is None:
            self._connection = await _connect(self.filename, self.pragmas)


class SqliteTransaction(tortoise_sqlite.SqliteTransactionWrapper):
    """The connection inside a transaction (or savepoint); `unit` is shared by all of its levels."""

    def __init__(self, connection: tortoise_sqlite.SqliteClient, unit: UnitOfWork) -> None:
        super().__init__(connection)
        self.unit = unit
        self.outer = connection if isinstance(connection, SqliteTransaction) else None

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """The connection for one statement; refused when the transaction has ended."""
        self._check_open()
        return super().acquire_connection()

    def _check_open(self) -> None:
        level: SqliteTransaction | None = self
        while level is not None:
            if level._finalized:
                raise TransactionManagementError(
                    "this transaction has ended; a task that outlives a transaction must not be started inside it"
                )
            level = level.outer

    async def begin(self) -> None:
        """Take SQLite's write lock at once."""
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise TransactionManagementError(error) from error

    async def commit(self) -> None:
        """Run the steps before the commit, COMMIT, then run the steps after it."""
        if self._finalized:
            raise TransactionManagementError("Transaction already finalised")
        await self.unit.run_before_commit()
        try:
            await finish(super().commit())
        finally:
            if self._finalized:
                self.unit.run_on_commit()

    async def rollback(self) -> None:
        """Undo everything since BEGIN."""
        await finish(super().rollback())

    def _in_transaction(self) -> TransactionContext:
        self._check_open()
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
        self._token = get_connections().set(self.connection_name, tx)
        return tx

    async def _open(self, tx: SqliteTransaction) -> None:
        await tx._parent.create_connection(with_db=True)
        tx._connection = tx._parent._connection
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

    async def __aenter__(self) -> TransactionalDBClient:
        await finish(self.client.savepoint())
        return self.client

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        if self.client._finalized:
            return
        leave = self.client.savepoint_rollback if exc_type else self.client.release_savepoint
        await finish(leave())


async def _connect(path: str, pragmas: dict[str, Any]) -> aiosqlite.Connection:
    connection = await finish(_opened(path))
    connection._conn.row_factory = sqlite3.Row
    for pragma, value in pragmas.items():
        await connection.execute_fetchall(f"PRAGMA {pragma}={value}")
    return connection


async def _opened(path: str) -> aiosqlite.Connection:
    return await aiosqlite.connect(path, isolation_level=None)


def _is_select(query: str) -> bool:
    return query.lstrip()[:6].upper() == "SELECT"


def get_client_class(db_info: dict[str, Any]) -> type[BaseDBAsyncClient]:
    """Tortoise's way to find the client of an engine."""
    return SqliteClient
