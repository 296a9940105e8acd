"""A SQLite client for Tortoise that supports many concurrent writers.

Differences from Tortoise's client:

- Transactions BEGIN IMMEDIATE. A deferred transaction that reads and then writes fails with "database is locked" as
  soon as a second process does the same.
- Writers of a process wait for one lock, and readers for another, in turns of the API tokens. SQLite's busy timeout
  alone is unfair and slow.
- Reads outside of transactions use a second connection, so in WAL mode they never wait for a writer.
- Transactions are those of `models.database.transactions`. If SQLite rolls one back by itself, it refuses statements.
- Scripts run inside the open transaction. Python's `executescript()` would commit it first.
- Case-insensitive filters (`icontains` and the like compile to UPPER(…) LIKE UPPER(…)) cover Unicode, not only ASCII.
- `synchronous=FULL`: acknowledged writes survive a power cut.

Use it as a Tortoise engine: `{"engine": "ringback.models.sqlite", "credentials": {"file_path": "…"}}`. It needs a
file, because a second connection cannot read a database in memory.
"""

import sqlite3
from collections.abc import Iterator
from operator import itemgetter
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

from ringback.models.database.byte_budget import RowSize, SizedRows
from ringback.models.database.transactions import (
    QueryResult,
    RecordingClient,
    RecordingTransaction,
    Rows,
    finish,
    is_select,
)
from ringback.models.fair_slots import FairLock

#: Milliseconds to wait for a writer of another process.
BUSY_TIMEOUT_MS = 10_000
#: Rows that are fetched between two looks at their size.
_FETCHED_ROWS = 8


class _OneConnection(tortoise_sqlite.SqliteClient):
    """A client with one connection to the file, guarded by a fair lock."""

    def __init__(self, file_path: str, **kwargs: Any) -> None:
        super().__init__(file_path, **kwargs)
        self._lock = FairLock()

    async def create_connection(self, with_db: bool) -> None:
        """Open the connection if it is not open yet."""
        if self._connection is None:
            await finish(self._open())

    async def _open(self) -> None:
        # Run inside finish(): an unreferenced connection would keep its thread running forever.
        self._connection = await _open_connection(self.filename, self.pragmas)
        await self._post_connect()

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """Return the connection for one statement, guarded by the lock."""
        return _LockedConnection(self._lock, self)


class SqliteTransaction(RecordingTransaction, tortoise_sqlite.SqliteTransactionWrapper):
    """The connection inside a transaction or savepoint."""

    BEGIN = "BEGIN IMMEDIATE"
    LOST_MESSAGE = "SQLite has rolled this transaction back by itself, after an error such as a full disk: retry it"

    async def execute_script(self, query: str) -> None:
        """Run the statements of a script one by one, inside the transaction."""
        for statement in _split_statements(query):
            await self.execute_query(statement)

    async def begin(self) -> None:
        """Start the transaction and take SQLite's write lock at once."""
        if self._connection.in_transaction:  # left open by hand, or by a rollback that failed
            await finish(self._connection.rollback())
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
    """A database file with a writing connection and a reading one."""

    transaction_class = SqliteTransaction

    def __init__(self, file_path: str, **kwargs: Any) -> None:
        if file_path in ("", ":memory:"):
            raise ConfigurationError(
                f"file_path is {file_path!r}, which two connections cannot share. Enter the path of a file."
            )
        # busy_timeout comes first, because the other pragmas may have to wait for another process.
        kwargs = {"busy_timeout": BUSY_TIMEOUT_MS, "synchronous": "FULL", **kwargs}
        super().__init__(file_path, **kwargs)
        self._reader = _Reader(self)

    async def close(self) -> None:
        """Close both connections."""
        try:
            await self._reader.close()
        finally:
            await super().close()

    async def execute_query(self, query: str, values: list[Any] | None = None) -> QueryResult:
        """Run one statement. A SELECT uses the reading connection."""
        if is_select(query):
            return cast(QueryResult, await self._reader.execute_query(query, values))
        return await super().execute_query(query, values)

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> Rows:
        """Run one statement. A SELECT uses the reading connection."""
        if is_select(query):
            return cast(Rows, await self._reader.execute_query_dict(query, values))
        return await super().execute_query_dict(query, values)

    @tortoise_sqlite.translate_exceptions
    async def read_within(self, query: str, values: list[Any], row_size: RowSize, max_bytes: int) -> SizedRows:
        """Return the rows of a SELECT up to the first with which they count more than `max_bytes`, or 7 more."""
        async with self._reader.acquire_connection() as connection:
            self.log.debug("%s: %s", query, values)
            sized_rows = await connection._execute(_read_within, connection._conn, query, values, row_size, max_bytes)
            return cast(SizedRows, sized_rows)


class _Reader(_OneConnection):
    """The reading connection, which sees the last committed state."""

    def __init__(self, client: SqliteClient) -> None:
        super().__init__(client.filename, connection_name=client.connection_name)
        self.pragmas = {**client.pragmas, "query_only": "ON"}


class _LockedConnection(ConnectionWrapper[Any]):
    """The connection for one statement. Releases the lock if it cannot be opened."""

    async def __aenter__(self) -> Any:
        await self._lock.acquire()
        try:
            await self.client.create_connection(with_db=True)
        except BaseException:
            self._lock.release()
            raise
        return self.client._connection


async def _open_connection(path: str, pragmas: dict[str, Any]) -> aiosqlite.Connection:
    """Open a connection. Raises DBConnectionError if the file cannot be opened or is not a database."""
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


def _read_within(
    connection: sqlite3.Connection, query: str, values: list[Any], row_size: RowSize, max_bytes: int
) -> SizedRows:
    cursor = connection.execute(query, values)
    try:
        names = [description[0] for description in cursor.description]
        read_values = [itemgetter(names.index(column.name)) for column in row_size.columns if column.name in names]
        rows, size = [], 0
        while fetched := cursor.fetchmany(_FETCHED_ROWS):
            rows += fetched
            size += row_size.fixed_bytes * len(fetched)
            size += sum(sum(map(len, filter(None, map(read, fetched)))) for read in read_values)
            if size > max_bytes:
                break
    finally:
        cursor.close()
    return SizedRows(rows, size)


def _split_statements(script: str) -> Iterator[str]:
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


#: The name under which Tortoise looks up an engine's client.
client_class = SqliteClient
