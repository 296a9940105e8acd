"""Transactions with commit hooks that survive cancellation, common to both database clients.

Tortoise has no hook before or after a commit, and a cancellation while a transaction starts or ends leaves it half
done. `RecordingTransaction` is a transaction's connection without these gaps: it carries a `UnitOfWork`, every error
that leaves its block rolls it back, and it refuses statements once it has ended, because a task started inside a
transaction inherits its connection. `models.database.sqlite` and `models.database.postgres` build on it.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar, cast

from tortoise.backends.base.client import (
    BaseDBAsyncClient,
    ConnectionWrapper,
    NestedTransactionContext,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.connection import ConnectionToken, get_connections
from tortoise.context import get_current_context
from tortoise.exceptions import OperationalError, TransactionManagementError
from tortoise.models import Model

from ringback.models.database.unit_of_work import UnitOfWork, find_unit
from ringback.models.errors import TrackingError

T = TypeVar("T")
Rows = list[dict[str, Any]]
#: The number of rows a statement affected or returned, and the returned rows.
QueryResult = tuple[int, list[dict[str, Any]]]

TRANSACTION_ENDED = "this transaction has ended: start tasks that outlive a transaction outside of it"


async def finish(step: Coroutine[Any, Any, T]) -> T:
    """Run `step` to its end even if the caller is cancelled, then raise the cancellation.

    An interrupted BEGIN, COMMIT or ROLLBACK would leave a lock held or a transaction open. An error of the step is only
    the cause of a cancellation: a caller that retries after errors must end.
    """
    task = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break  # raised again by task.result()
    if cancelled is not None and not task.cancelled():
        raise cancelled from task.exception()
    return task.result()


def is_select(query: str) -> bool:
    """Return whether a statement is a SELECT."""
    return query.lstrip()[:6].upper() == "SELECT"


class Unstorable(OperationalError):
    """A value that the database cannot store. A retry fails again."""


class RecordingClient(BaseDBAsyncClient):
    """A Tortoise client whose transactions carry a `UnitOfWork`."""

    transaction_class: "ClassVar[type[RecordingTransaction]]"

    def _in_transaction(self) -> TransactionContext:
        self._check_outside()
        return _Outermost(self.transaction_class(self))

    async def execute_query(self, query: str, values: list[Any] | None = None) -> QueryResult:
        """Run one statement. Raises TransactionManagementError for a write while a transaction is open."""
        self._check_statement(query)
        return cast(QueryResult, await super().execute_query(query, values))

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> Rows:
        """Run one statement. Raises TransactionManagementError for a write while a transaction is open."""
        self._check_statement(query)
        return await super().execute_query_dict(query, values)

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        """Run one statement for many rows in a transaction of its own."""
        async with self._in_transaction() as tx:
            await tx.execute_many(query, values)

    async def execute_insert(self, query: str, values: list[Any]) -> Any:
        """Insert one row. Raises TransactionManagementError while a transaction is open."""
        self._check_outside()
        return await super().execute_insert(query, values)

    async def execute_script(self, query: str) -> None:
        """Run several statements. Raises TransactionManagementError while a transaction is open."""
        self._check_outside()
        await super().execute_script(query)

    def _check_statement(self, query: str) -> None:
        if not is_select(query):
            self._check_outside()

    def _check_outside(self) -> None:
        """Raise TransactionManagementError if the caller has a transaction open on this database.

        A second connection could wait forever for a lock that the transaction holds.
        """
        context = get_current_context()
        current = context and context.connections._get_storage().get(self.connection_name)
        if isinstance(current, RecordingTransaction) and current.client is self and not current._finalized:
            raise TransactionManagementError(
                "a transaction is open here: use its connection instead of one obtained before it"
            )


class RecordingTransaction(TransactionalDBClient):
    """The connection inside a transaction or savepoint.

    All levels share one `unit`; `outer` is the enclosing level. This is a mixin for the transaction wrapper of the
    driver, which uses `_connection`.
    """

    BEGIN: ClassVar[str] = "BEGIN"
    #: Error and message for a transaction that the database has ended by itself.
    LOST_ERROR: ClassVar[type[Exception]] = TransactionManagementError
    LOST_MESSAGE: ClassVar[str]

    client: RecordingClient
    outer: "RecordingTransaction | None"
    unit: UnitOfWork
    _savepoint: str | None

    def __init__(self, parent: "RecordingClient | RecordingTransaction") -> None:
        super().__init__(parent)  # type: ignore[arg-type]  # the driver's wrapper takes its own client
        self._savepoint = None
        if isinstance(parent, RecordingTransaction):
            self.client = parent.client
            self.outer = parent
            self.unit = parent.unit
        else:
            self.client = parent
            self.outer = None
            self.unit = UnitOfWork()

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """Return the connection for one statement. Raises as `check_open` does."""
        self.check_open()
        return cast(ConnectionWrapper[Any], super().acquire_connection())

    async def acquire(self) -> None:
        """Wait for the connection: the write lock on SQLite, a pooled connection on Postgres."""
        self._acquired = self.client.acquire_connection()
        self._connection = await self._acquired.__aenter__()

    async def release(self) -> None:
        """Release the connection."""
        await self._acquired.__aexit__(None, None, None)

    @abstractmethod
    async def _step(self, statement: str) -> None:
        """Run a statement that starts or ends a level, and raise the driver's errors as Tortoise's."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Return whether the database has a transaction open on this connection."""

    def check_open(self) -> None:
        """Raise TransactionManagementError if the transaction, or an enclosing level, has ended.

        Raises DBConnectionError, after which callers retry, if the connection was lost.
        """
        level: RecordingTransaction | None = self
        while level is not None:
            if level._finalized:
                raise TransactionManagementError(TRANSACTION_ENDED)
            level = level.outer
        if not self._is_open():
            raise self.LOST_ERROR(self.LOST_MESSAGE)

    async def begin(self) -> None:
        """Start the transaction. Raises DBConnectionError or OperationalError, on SQLite TransactionManagementError."""
        await finish(self._step(self.BEGIN))

    async def commit(self) -> None:
        """Run the steps before the commit, COMMIT, then run the steps after it. A savepoint is only released."""
        self.check_open()
        if self.outer is not None:
            await self.release_savepoint()
            return
        await self.unit.run_before_commit()
        self.check_open()
        try:
            await finish(self._end("COMMIT"))
        finally:
            if self._finalized:
                self.unit.run_on_commit()

    async def rollback(self) -> None:
        """Roll back to BEGIN, or to the savepoint."""
        if self.outer is not None:
            await self.savepoint_rollback()
            return
        if self._finalized:
            raise TransactionManagementError(TRANSACTION_ENDED)
        if self._is_open():
            await finish(self._end("ROLLBACK"))
        self._finalized = True

    async def savepoint(self) -> None:
        """Create a savepoint with a name of its own."""
        self.check_open()
        self._savepoint = f"ringback_{id(self):x}"
        await finish(self._step(f"SAVEPOINT {self._savepoint}"))

    async def release_savepoint(self) -> None:
        """Merge the savepoint's writes into the enclosing level."""
        self.check_open()
        await finish(self._end(f"RELEASE {self._savepoint}"))

    async def savepoint_rollback(self) -> None:
        """Roll back to the savepoint."""
        self.check_open()
        await finish(self._end(f"ROLLBACK TO {self._savepoint}"))

    async def _end(self, statement: str) -> None:
        # Run inside finish(), so that a cancellation cannot separate the two.
        await self._step(statement)
        self._finalized = True

    def _in_transaction(self) -> TransactionContext:
        self.check_open()
        return _Savepoint(type(self)(self))


class _Outermost(TransactionContext):
    """The outermost transaction: acquire, BEGIN, the block, COMMIT or ROLLBACK, release. Survives cancellation."""

    _token: ConnectionToken

    def __init__(self, tx: RecordingTransaction) -> None:
        self.client = tx
        self._tx = tx

    async def __aenter__(self) -> TransactionalDBClient:
        tx = self._tx
        connections = get_connections()  # raises without a Tortoise context, so call it before acquiring
        await tx.acquire()
        try:
            await tx.begin()
        except BaseException:
            try:
                await tx.rollback()
            finally:
                await finish(tx.release())
            raise
        self._token = connections.set(tx.connection_name, tx)
        return tx

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        try:
            if exc_type is None and not self._tx._finalized:
                await self._tx.commit()
        finally:
            try:
                if not self._tx._finalized:
                    await self._tx.rollback()
            finally:
                try:
                    await finish(self._tx.release())
                finally:
                    # Raises ValueError in another context, such as the one in which an abandoned generator is closed.
                    get_connections().reset(self._token)


class _Savepoint(NestedTransactionContext):
    """A nested transaction, rolled back to its savepoint by every error."""

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        level = cast(RecordingTransaction, self.client)
        if level._finalized:
            return
        if exc_type is None:
            await level.release_savepoint()
        elif level._is_open():
            await level.savepoint_rollback()


def check_recording(model: type[Model], db: BaseDBAsyncClient) -> None:
    """Raise TrackingError if the model's database was not opened with Ringback's client."""
    if find_unit(db) is None and not isinstance(db, RecordingClient):
        raise TrackingError(
            f"{model.__name__} is tracked, but its database was opened with the engine {type(db).__module__}; "
            'open it with the engine "ringback.models.sqlite" or "ringback.models.postgres"'
        )
