"""What every database client of Ringback adds to Tortoise's transactions, whoever opens them.

Tortoise has no hook before or after a commit, and entering or leaving one of its transactions does not survive
cancellation. `RecordingTransaction` is the connection of a transaction that mends that: it carries a `UnitOfWork`, is
rolled back by every error that leaves its block, and refuses to work when it has ended (a task started inside a
transaction inherits its connection). `models.database.sqlite` and `models.database.postgres` build on it.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar, cast

import structlog
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

from ringback.models.database.unit_of_work import UnitOfWork, unit_of
from ringback.models.errors import TrackingError

T = TypeVar("T")
Rows = list[dict[str, Any]]
#: How many rows a statement touched, and the rows it gave.
Counted = tuple[int, list[dict[str, Any]]]

ENDED = "this transaction has ended; a task that outlives a transaction must not be started inside it"

logger = structlog.get_logger("ringback.transactions")


async def finish(step: Coroutine[Any, Any, T]) -> T:
    """Run `step` to its end even when the caller is cancelled meanwhile; the cancellation is raised afterwards.

    A BEGIN, COMMIT or ROLLBACK that is abandoned half-way leaves a lock held or a connection dirty.
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
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


def is_select(query: str) -> bool:
    """Whether a statement reads and nothing else."""
    return query.lstrip()[:6].upper() == "SELECT"


class Unstorable(OperationalError):
    """A value that the database cannot hold; trying again does not help."""


class RecordingClient(BaseDBAsyncClient):
    """A Tortoise client whose transactions carry a `UnitOfWork`."""

    transaction_class: "ClassVar[type[RecordingTransaction]]"

    def _in_transaction(self) -> TransactionContext:
        self._check_outside()
        return _Outermost(self.transaction_class(self))

    async def execute_query(self, query: str, values: list[Any] | None = None) -> Counted:
        """Run one statement; a write is refused beside an open transaction."""
        self._check_statement(query)
        return cast(Counted, await super().execute_query(query, values))

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> Rows:
        """Run one statement; a write is refused beside an open transaction."""
        self._check_statement(query)
        return await super().execute_query_dict(query, values)

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        """Run one statement for many rows, all or nothing."""
        async with self._in_transaction() as tx:
            await tx.execute_many(query, values)

    async def execute_insert(self, query: str, values: list[Any]) -> Any:
        """Insert one row, which is refused beside an open transaction."""
        self._check_outside()
        return await super().execute_insert(query, values)

    async def execute_script(self, query: str) -> None:
        """Run statements, which are refused beside an open transaction."""
        self._check_outside()
        await super().execute_script(query)

    def _check_statement(self, query: str) -> None:
        if not is_select(query):
            self._check_outside()

    def _check_outside(self) -> None:
        """Refuse to work beside the caller's own open transaction: it may hold what would be waited for, for ever."""
        context = get_current_context()
        inner = context and context.connections._get_storage().get(self.connection_name)
        if isinstance(inner, RecordingTransaction) and inner.client is self and not inner._finalized:
            raise TransactionManagementError(
                "a transaction is open here; use its connection, not one that was taken before it"
            )


class RecordingTransaction(TransactionalDBClient):
    """The connection inside a transaction or savepoint; `unit` is shared by all of its levels, `outer` is the next.

    Mixed into the driver's own wrapper, which works on `_connection`.
    """

    #: How a transaction begins, and what is raised, with which message, when the database ended it by itself.
    BEGIN: ClassVar[str] = "BEGIN"
    GIVEN_UP_ERROR: ClassVar[type[Exception]] = TransactionManagementError
    GIVEN_UP: ClassVar[str]

    client: RecordingClient
    outer: "RecordingTransaction | None"
    unit: UnitOfWork
    _savepoint: str | None

    def __init__(self, parent: "RecordingClient | RecordingTransaction") -> None:
        super().__init__(parent)  # type: ignore[arg-type]  # that of the driver's own wrapper
        self._savepoint = None
        if isinstance(parent, RecordingTransaction):
            self.client, self.outer, self.unit = parent.client, parent, parent.unit
        else:
            self.client, self.outer, self.unit = parent, None, UnitOfWork()

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """The connection for one statement; refused when the transaction has ended."""
        self.check_open()
        return cast(ConnectionWrapper[Any], super().acquire_connection())

    async def acquire(self) -> None:
        """Wait for what a transaction needs for itself: the write gate, a connection of the pool."""
        self._acquired = self.client.acquire_connection()
        self._connection = await self._acquired.__aenter__()

    async def release(self) -> None:
        """Give it back."""
        await self._acquired.__aexit__(None, None, None)

    @abstractmethod
    async def _step(self, statement: str) -> None:
        """Run a statement that begins or ends a level, with the driver's errors as Tortoise's."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether the database has a transaction open on this connection."""

    def check_open(self) -> None:
        """Raise TransactionManagementError when the transaction has ended, on whatever level and by whomever.

        If it ended because the connection was lost, the error is a DBConnectionError, after which callers try again.
        """
        level: RecordingTransaction | None = self
        while level is not None:
            if level._finalized:
                raise TransactionManagementError(ENDED)
            level = level.outer
        if not self._is_open():
            raise self.GIVEN_UP_ERROR(self.GIVEN_UP)

    async def begin(self) -> None:
        """Begin; raises TransactionManagementError when the database cannot."""
        await finish(self._step(self.BEGIN))

    async def commit(self) -> None:
        """Run the steps before the commit, COMMIT, then run the steps after it.

        A savepoint is released instead: only the outermost COMMIT is real.
        """
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
        """Undo everything since BEGIN, or since the savepoint."""
        if self.outer is not None:
            await self.savepoint_rollback()
            return
        if self._finalized:
            raise TransactionManagementError(ENDED)
        if self._is_open():
            await finish(self._end("ROLLBACK"))
        self._finalized = True

    async def savepoint(self) -> None:
        """Begin a savepoint."""
        self.check_open()
        self._savepoint = f"ringback_{id(self):x}"
        await finish(self._step(f"SAVEPOINT {self._savepoint}"))

    async def release_savepoint(self) -> None:
        """Keep what was written since the savepoint, as far as the outermost transaction is."""
        self.check_open()
        await finish(self._end(f"RELEASE {self._savepoint}"))

    async def savepoint_rollback(self) -> None:
        """Undo everything since the savepoint."""
        self.check_open()
        await finish(self._end(f"ROLLBACK TO {self._savepoint}"))

    async def _end(self, statement: str) -> None:
        # Within the step that survives cancellation: what has ended is known to have ended.
        await self._step(statement)
        self._finalized = True

    def _in_transaction(self) -> TransactionContext:
        self.check_open()
        return _Savepoint(type(self)(self))


class _Outermost(TransactionContext):
    """Acquire, BEGIN, the block, COMMIT or ROLLBACK, release: whatever is cancelled when."""

    _token: ConnectionToken

    def __init__(self, tx: RecordingTransaction) -> None:
        self.client = tx
        self._tx = tx

    async def __aenter__(self) -> TransactionalDBClient:
        tx = self._tx
        connections = get_connections()  # raises without a Tortoise context, when there is nothing to undo yet
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
                get_connections().reset(self._token)
                await finish(self._tx.release())


class _Savepoint(NestedTransactionContext):
    """A transaction within a transaction; a failed one is always rolled back to where it began."""

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        level = cast(RecordingTransaction, self.client)
        if level._finalized:
            return
        if exc_type is None:
            await level.release_savepoint()
        elif level._is_open():
            await level.savepoint_rollback()


def check_recording(model: type[Model], db: BaseDBAsyncClient) -> None:
    """Raises TrackingError when the model's database was not opened with a client that can record changes."""
    if unit_of(db) is None and not isinstance(db, RecordingClient):
        raise TrackingError(
            f"{model.__name__} is tracked, but its database was opened with the engine {type(db).__module__}; "
            'open it with the engine "ringback.models.sqlite" or "ringback.models.postgres"'
        )
