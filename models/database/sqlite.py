"""Tortoise's SQLite client, made fit for many writers.

What differs from Tortoise's own, and why:

- Transactions BEGIN IMMEDIATE: a deferred one that reads, then writes, fails with "database is locked" as soon as a
  second process does the same.
- Writers queue in one FIFO gate instead of meeting on SQLite's busy timeout, which is unfair and slow.
- Reads outside of transactions have a connection of their own, so that in WAL mode they wait for no writer.
- Transactions are those of `models.database.transactions`; one that SQLite gave up by itself refuses to work too.
- Scripts inside a transaction stay inside it; Python's `executescript()` commits first.
- Comparisons that ignore case (`icontains` and its like are UPPER(…) LIKE UPPER(…)) know all letters, not ASCII alone.
- `synchronous=FULL`: what was acknowledged survives a power cut.

Use it as a Tortoise engine: `{"engine": "ringback.models.sqlite", "credentials": {"file_path": "…"}}`. It needs a
file; a database in memory cannot be read by a second connection.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any, cast

import aiosqlite
from tortoise.backends.base.client import ConnectionWrapper
from tortoise.backends.sqlite import client as tortoise_sqlite
from tortoise.exceptions import (
    ConfigurationError,
    DBConnectionError,
    OperationalError,
    TransactionManagementError,
)

from ringback.models.database.transactions import (
    Counted,
    RecordingClient,
    RecordingTransaction,
    Rows,
    finish,
    is_select,
)

#: How long a writer of another process is waited for, in milliseconds.
BUSY_TIMEOUT_MS = 10_000


class _OneConnection(tortoise_sqlite.SqliteClient):
    """One connection to a file."""

    async def create_connection(self, with_db: bool) -> None:
        """Open the connection, unless it is open."""
        if self._connection is None:
            await finish(self._open())

    async def _open(self) -> None:
        # Within the step that survives cancellation: a connection that nobody knew would keep its thread for ever.
        self._connection = await _connected(self.filename, self.pragmas)
        await self._post_connect()

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """The connection for one statement, behind the gate."""
        return _Connection(self._lock, self)


class SqliteTransaction(RecordingTransaction, tortoise_sqlite.SqliteTransactionWrapper):
    """The connection inside a transaction or savepoint."""

    BEGIN = "BEGIN IMMEDIATE"
    GIVEN_UP = "SQLite has rolled this transaction back by itself, after an error such as a full disk"

    async def execute_script(self, query: str) -> None:
        """Run the statements of a script one by one, inside the transaction."""
        for statement in _statements(query):
            await self.execute_query(statement)

    async def begin(self) -> None:
        """Take SQLite's write lock at once."""
        if self._connection.in_transaction:  # a rollback must have failed
            await self._connection.rollback()
        try:
            await super().begin()
        except OperationalError as error:
            raise TransactionManagementError(error) from error

    @tortoise_sqlite.translate_exceptions
    async def _step(self, statement: str) -> None:
        await self._connection.execute(statement)

    def _is_open(self) -> bool:
        return self._connection.in_transaction


class SqliteClient(RecordingClient, _OneConnection):
    """One database file: a writing connection behind the gate, and a reading one."""

    transaction_class = SqliteTransaction

    def __init__(self, file_path: str, **kwargs: Any) -> None:
        if file_path in ("", ":memory:"):
            raise ConfigurationError(
                "ringback.models.database.sqlite needs a file; :memory: cannot be shared by two connections"
            )
        # First of all: setting the others may have to wait for another process already.
        kwargs = {"busy_timeout": BUSY_TIMEOUT_MS, "synchronous": "FULL", **kwargs}
        super().__init__(file_path, **kwargs)
        self._reader = _Reader(self)

    async def close(self) -> None:
        """Close both connections."""
        try:
            await self._reader.close()
        finally:
            await super().close()

    async def execute_query(self, query: str, values: list[Any] | None = None) -> Counted:
        """Run one statement; a SELECT goes to the reading connection."""
        if is_select(query):
            return cast(Counted, await self._reader.execute_query(query, values))
        return await super().execute_query(query, values)

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> Rows:
        """Run one statement; a SELECT goes to the reading connection."""
        if is_select(query):
            return cast(Rows, await self._reader.execute_query_dict(query, values))
        return await super().execute_query_dict(query, values)


class _Reader(_OneConnection):
    """The reading connection: always the last committed state."""

    def __init__(self, client: SqliteClient) -> None:
        super().__init__(client.filename, connection_name=client.connection_name)
        self.pragmas = {**client.pragmas, "query_only": "ON"}


class _Connection(ConnectionWrapper[Any]):
    """A connection for one statement; one that cannot be opened keeps no lock."""

    async def __aenter__(self) -> Any:
        await self._lock.acquire()
        try:
            await self.client.create_connection(with_db=True)
        except BaseException:
            self._lock.release()
            raise
        return self.client._connection


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


#: By this name Tortoise finds the client of an engine.
client_class = SqliteClient
