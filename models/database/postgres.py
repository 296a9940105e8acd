"""A Postgres client for Tortoise, on asyncpg, that supports many processes.

Differences from Tortoise's client:

- Transactions are those of `models.database.transactions`. Starting and ending one survives cancellation, so the pool
  loses no connections, and committing a transaction that Postgres has rolled back is an error.
- Every error of the driver becomes one of Tortoise's. An unreachable database is always a DBConnectionError, so that
  callers know when to retry.
- JIT compilation and incremental sorting are off: all statements read a few rows along an index.
- The pool connects on first use, so an unreachable database fails the statement, not the start of the program.
- The URL may have several hosts, and options that the driver does not know (`models.database.postgres_connector`).
- A connection returns to the pool without a reset statement.

Use it as a Tortoise engine: `{"engine": "ringback.models.postgres", "credentials": {"dsn": "postgres://…"}}`.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import asyncpg
from tortoise.backends.asyncpg import client as tortoise_asyncpg
from tortoise.exceptions import DBConnectionError, IntegrityError, OperationalError, TransactionManagementError

from ringback.models.database.byte_budget import LargeColumn, RowSize, SizedRows
from ringback.models.database.postgres_connector import get_connector
from ringback.models.database.postgres_url import parse_postgres_url
from ringback.models.database.transactions import RecordingClient, RecordingTransaction, Unstorable

#: Connections of one process.
POOL_SIZE = 10
#: Seconds after which a statement counts as an unreachable database.
STATEMENT_SECONDS = 60.0

#: Errors of a server that is unreachable, starting, stopping or full, and of a lost connection.
_UNREACHABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
#: Errors that only the operator can fix, so a retry fails again.
REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    asyncpg.CantChangeRuntimeParamError,
)


#: A page with the bytes of its rows added up, in its order. Postgres has the length of a long text without reading it.
_PAGE_WITHIN = """
SELECT * FROM (SELECT page.*, sum({size}) OVER (ROWS UNBOUNDED PRECEDING) AS read_bytes FROM ({query}) page) page
WHERE read_bytes - ({size}) <= ${parameter}::bigint
"""


class _PooledConnection(asyncpg.Connection):
    """A connection that needs no reset: transactions end before it returns to the pool."""

    def get_reset_query(self) -> str:
        """Return no statement. The default one costs a round trip after each statement."""
        return ""


#: Turn off optimizations that only pay for statements that read many rows.
_TUNE_FOR_SHORT_READS = "SET jit = off; SET enable_incremental_sort = off"
#: Set the limit unless the URL, the role or the database sets one, or the server a shorter one.
_LIMIT_IDLE_TRANSACTIONS = """
SELECT set_config(name, '{seconds}s', false) FROM pg_settings
WHERE name = 'idle_in_transaction_session_timeout'
AND source NOT IN ('client', 'user', 'database', 'database user')
AND (setting = '0' OR setting::bigint > 1000 * {seconds})
"""


class _ErrorTranslation:
    """A mixin that translates the errors of all statements of Tortoise's wrappers."""

    async def _translate_exceptions(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        async with translate_errors():
            return await func(self, *args, **kwargs)


class PostgresTransaction(_ErrorTranslation, RecordingTransaction, tortoise_asyncpg.TransactionWrapper):
    """The connection inside a transaction or savepoint."""

    LOST_ERROR = DBConnectionError
    LOST_MESSAGE = (
        "the connection to the database was lost, or this transaction was idle too long. It was rolled back: retry it"
    )

    async def acquire(self) -> None:
        """Take a connection from the pool."""
        async with translate_errors():
            await super().acquire()

    async def release(self) -> None:
        """Return the connection to the pool."""
        if cast(PostgresClient, self.client)._pool is not None:
            async with translate_errors():
                await super().release()

    async def rollback(self) -> None:
        """Roll back to BEGIN, or to the savepoint. A lost connection has rolled back already."""
        try:
            await super().rollback()
        except DBConnectionError:
            self._finalized = True

    async def _step(self, statement: str) -> None:
        async with translate_errors():
            status = await self._connection.execute(statement)
        if statement == "COMMIT" and status != "COMMIT":
            raise TransactionManagementError(
                "a statement of this transaction failed, so Postgres rolled all of it back: "
                "run statements that may fail in a nested in_transaction()"
            )

    def _is_open(self) -> bool:
        connection = self._connection
        try:
            return not connection.is_closed() and connection.is_in_transaction()
        except asyncpg.InterfaceError:  # the connection was lost, and the pool has released it
            return False


class PostgresClient(_ErrorTranslation, RecordingClient, tortoise_asyncpg.AsyncpgDBClient):
    """A pool of connections to one database."""

    transaction_class = PostgresTransaction

    def __init__(self, dsn: str, pool_size: int = POOL_SIZE, idle_transaction_seconds: int = 0, **kwargs: Any) -> None:
        options = {"command_timeout": STATEMENT_SECONDS, **kwargs}
        super().__init__(database=parse_postgres_url(dsn).database, minsize=0, maxsize=pool_size, **options)
        self.connection_class = cast(Any, _PooledConnection)
        self.dsn = dsn
        self._start_of_sessions = _TUNE_FOR_SHORT_READS
        if idle_transaction_seconds:
            self._start_of_sessions += f"; {_LIMIT_IDLE_TRANSACTIONS.format(seconds=idle_transaction_seconds)}"

    async def create_pool(self, **kwargs: Any) -> Any:
        """Create the pool from the URL, which replaces Tortoise's separate connection arguments."""
        in_url = ("host", "port", "user", "password", "database")
        options = {name: value for name, value in kwargs.items() if name not in in_url}
        further_start = options.pop("init", None)

        async def start_session(connection: Any) -> None:
            await connection.execute(self._start_of_sessions)
            if further_start is not None:
                await further_start(connection)

        return await asyncpg.create_pool(**{"connect": get_connector(self.dsn).connect, **options}, init=start_session)

    async def read_within(self, query: str, values: list[Any], row_size: RowSize, max_bytes: int) -> SizedRows:
        """Return the rows of a SELECT up to the first one with which they count more than `max_bytes`.

        The rows have one more column, `read_bytes`.
        """
        size = " + ".join([str(row_size.fixed_bytes), *map(_length_of, row_size.columns)])
        page = _PAGE_WITHIN.format(size=size, query=query, parameter=len(values) + 1)
        _, rows = await self.execute_query(page, [*values, max_bytes])
        return SizedRows(rows, rows[-1]["read_bytes"] if rows else 0)


def _length_of(column: LargeColumn) -> str:
    to_text = "::text" if column.is_json else ""
    return f'coalesce(octet_length("{column.name}"{to_text}), 0)'


class translate_errors:  # noqa: N801 - used as a function; a generator would cost each statement five times as much
    """A context manager that raises the driver's errors as Tortoise's."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None:
            translated = _translate(error)
            if translated is not None:
                raise translated from error


@contextlib.asynccontextmanager
async def hold_advisory_lock(url: str, key: int, timeout_seconds: float) -> AsyncIterator[bool]:
    """Hold an advisory lock during the block, on a session of its own. Yield False if it is not free in time."""
    async with translate_errors():
        session = await get_connector(url).connect()
    try:
        await session.execute(f"SET lock_timeout = {int(timeout_seconds * 1000)}")
        is_locked = True
        try:
            await session.execute(f"SELECT pg_advisory_lock({key})", timeout=2 * timeout_seconds)
        except asyncpg.LockNotAvailableError:
            is_locked = False
        yield is_locked
    finally:
        session.terminate()


def _translate(error: BaseException) -> Exception | None:
    """Return Tortoise's error for one of the driver's, or None for any other error."""
    if isinstance(error, (TransactionManagementError, OperationalError, IntegrityError, DBConnectionError)):
        return None
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return IntegrityError(error)
    if isinstance(error, asyncpg.InvalidTransactionStateError):
        return TransactionManagementError(error)
    if isinstance(error, REFUSED):
        return DBConnectionError(error)
    if isinstance(error, _UNREACHABLE):
        if isinstance(error, ValueError):  # the driver cannot encode the value for its column
            return Unstorable(error)
        return DBConnectionError(str(error) or "no answer in time")
    if isinstance(error, asyncpg.DataError):
        return Unstorable(error)
    if isinstance(error, asyncpg.PostgresError):
        return OperationalError(error)
    return None


#: The name under which Tortoise looks up an engine's client.
client_class = PostgresClient
