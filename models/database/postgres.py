"""Tortoise's asyncpg client, made fit for many processes.

What differs from Tortoise's own, and why:

- Transactions are those of `models.database.transactions`: entering and leaving them survives cancellation, so no
  connection of the pool is lost, and a COMMIT of what Postgres has rolled back already is an error, not a silence.
- Every error of the driver becomes one of Tortoise's, and all that says "the database is away" a DBConnectionError, so
  that whoever tries again knows when.
- Postgres is kept from compiling statements and from sorting in steps: all of them read a few rows along an index.
- The pool opens nothing before it is asked to, so a database that is away is an error of the statement, not of the
  program's start, and a connection goes back to the pool without a statement of its own.

Use it as a Tortoise engine: `{"engine": "ringback.models.postgres", "credentials": {"dsn": "postgres://…"}}`.
"""

from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
from tortoise.backends.asyncpg import client as tortoise_asyncpg
from tortoise.exceptions import DBConnectionError, IntegrityError, OperationalError, TransactionManagementError

from ringback.models.database.transactions import RecordingClient, RecordingTransaction, Unstorable

#: Connections of one process.
POOL_SIZE = 10
#: How long a new connection may take, and any statement, in seconds; then the database is taken to be away.
CONNECT_SECONDS, STATEMENT_SECONDS = 5.0, 60.0

#: What a server that is away, starting, stopping or full says, and what the driver says of a lost connection.
_AWAY = (
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
#: What the operator must mend: nothing gets better by trying again.
REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    asyncpg.CantChangeRuntimeParamError,
)


class _PooledConnection(asyncpg.Connection):
    """A connection that nothing of a session is left on: transactions end before it is given back."""

    def get_reset_query(self) -> str:
        """Nothing; the usual one would be a round trip after each statement."""
        return ""


async def _for_pages(connection: Any) -> None:
    """Keep Postgres from what is only good for statements that read much: compiling, and sorting parts of an index."""
    await connection.execute("SET jit = off; SET enable_incremental_sort = off")


class _Translating:
    """All of Tortoise's statements go through this."""

    async def _translate_exceptions(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        async with translate_errors():
            return await func(self, *args, **kwargs)


class PostgresTransaction(_Translating, RecordingTransaction, tortoise_asyncpg.TransactionWrapper):
    """The connection inside a transaction or savepoint."""

    GIVEN_UP_ERROR = DBConnectionError
    GIVEN_UP = "the connection to the database was lost inside this transaction, which is so rolled back"

    async def acquire(self) -> None:
        """Take a connection of the pool."""
        async with translate_errors():
            await super().acquire()

    async def release(self) -> None:
        """Give it back."""
        if cast(PostgresClient, self.client)._pool is not None:
            async with translate_errors():
                await super().release()

    async def rollback(self) -> None:
        """Undo everything since BEGIN, or since the savepoint; a lost connection has done so."""
        try:
            await super().rollback()
        except DBConnectionError:
            self._finalized = True

    async def _step(self, statement: str) -> None:
        async with translate_errors():
            status = await self._connection.execute(statement)
        if statement == "COMMIT" and status != "COMMIT":
            self._finalized = True
            raise TransactionManagementError(
                "a statement of this transaction had failed, so Postgres rolled all of it back: "
                "put what may fail into an in_transaction() of its own"
            )

    def _is_open(self) -> bool:
        connection = self._connection
        try:
            return not connection.is_closed() and connection.is_in_transaction()
        except asyncpg.InterfaceError:  # the connection was lost, and the pool took it back
            return False


class PostgresClient(_Translating, RecordingClient, tortoise_asyncpg.AsyncpgDBClient):
    """A pool of connections to one database."""

    transaction_class = PostgresTransaction

    def __init__(self, dsn: str, pool_size: int = POOL_SIZE, **kwargs: Any) -> None:
        options = {"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS, **kwargs}
        super().__init__(database=urlsplit(dsn).path.strip("/"), minsize=0, maxsize=pool_size, **options)
        self.connection_class = cast(Any, _PooledConnection)
        self.dsn = dsn

    async def create_pool(self, **kwargs: Any) -> Any:
        """A pool by the URL, which says host, port, user, password, database and more."""
        named = ("host", "port", "user", "password", "database")
        given = {k: v for k, v in kwargs.items() if k not in named}
        return await asyncpg.create_pool(self.dsn, **{"init": _for_pages, **given})


class translate_errors:  # noqa: N801 - used as a function; a generator would cost each statement five times as much
    """The driver's errors as Tortoise's, around a block."""

    async def __aenter__(self) -> None:
        """Nothing is to be done before."""

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Raise what the error is to Tortoise, if it is one of the driver's."""
        if error is not None:
            told = _translation(error)
            if told is not None:
                raise told from error


def _translation(error: BaseException) -> Exception | None:
    """Tortoise's error for one of the driver's; None for every other."""
    if isinstance(error, (TransactionManagementError, OperationalError, IntegrityError, DBConnectionError)):
        return None
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return IntegrityError(error)
    if isinstance(error, asyncpg.InvalidTransactionStateError):
        return TransactionManagementError(error)
    if isinstance(error, REFUSED):
        return DBConnectionError(error)
    if isinstance(error, _AWAY):
        if isinstance(error, ValueError):  # the driver's own: a value that no such column can hold
            return Unstorable(error)
        return DBConnectionError(str(error) or "no answer in time")
    if isinstance(error, asyncpg.DataError):
        return Unstorable(error)
    return OperationalError(error) if isinstance(error, asyncpg.PostgresError) else None


#: By this name Tortoise finds the client of an engine.
client_class = PostgresClient
