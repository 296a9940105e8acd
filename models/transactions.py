"""What every database client of Ringback adds to Tortoise's transactions, whoever opens them.

Tortoise has no hook before or after a commit, and entering or leaving one of its transactions does not survive
cancellation. `UnitOfWork` is what the connection of a transaction carries to mend that; `models.sqlite` builds on it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
from tortoise.backends.base.client import BaseDBAsyncClient, TransactionContext
from tortoise.exceptions import TransactionManagementError
from tortoise.models import Model

from ringback.models.errors import TrackingError

T = TypeVar("T")

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


class UnitOfWork:
    """The hooks of one outermost transaction; its savepoints share them.

    Savepoints cannot be told apart by Tortoise's connection variable, so what hangs here must bear a level that was
    rolled back: work before the commit compares stored rows, and a needless wake-up does no harm.
    """

    def __init__(self) -> None:
        self._before_commit: list[Callable[[], Awaitable[None]]] = []
        self._just_before_commit: list[Callable[[], Awaitable[None]]] = []
        self._on_commit: list[Callable[[], None]] = []
        self._failed = False
        #: Room for what belongs to this transaction, by the type that owns it.
        self.belongings: dict[type, Any] = {}

    def before_commit(self, step: Callable[[], Awaitable[None]], *, last: bool = False) -> None:
        """Await `step` inside the transaction, just before its COMMIT; an error rolls everything back.

        `last` steps follow all others, for what must see everything that they wrote.
        """
        (self._just_before_commit if last else self._before_commit).append(step)

    def on_commit(self, step: Callable[[], None]) -> None:
        """Call `step` after the real COMMIT; never after a rollback. What it raises is logged: it is too late."""
        self._on_commit.append(step)

    async def run_before_commit(self) -> None:
        """Run the steps, also those which a step adds; when one has failed, there will be no commit."""
        if self._failed:
            raise TransactionManagementError("a step before the commit has failed; this transaction can only roll back")
        try:
            while steps := self._before_commit or self._just_before_commit:
                await steps.pop(0)()
        except BaseException:
            self._failed = True
            raise

    def run_on_commit(self) -> None:
        """Run the steps once."""
        steps, self._on_commit = self._on_commit, []
        for step in steps:
            try:
                step()
            except Exception:
                logger.exception("a step after a commit failed", action="commit")


class RecordingClient:
    """Marks a Tortoise client whose transactions carry a `UnitOfWork`."""


def unit_of(db: BaseDBAsyncClient) -> UnitOfWork | None:
    """The unit of work that a connection belongs to; None when it is outside of any transaction of ours."""
    return getattr(db, "unit", None)


def our_unit(db: BaseDBAsyncClient) -> UnitOfWork:
    """The unit of work of a transaction on Ringback's own database."""
    unit = unit_of(db)
    assert unit is not None, "in_transaction() of Ringback's own client"
    return unit


def check_recording(model: type[Model], db: BaseDBAsyncClient) -> None:
    """Raises TrackingError when the model's database was not opened with a client that can record changes."""
    if unit_of(db) is None and not isinstance(db, RecordingClient):
        raise TrackingError(
            f"{model.__name__} is tracked, but its database was opened with the engine {type(db).__module__}; "
            'open it with the engine "ringback.models.sqlite"'
        )


@asynccontextmanager
async def unit_of_work(
    model: type[Model], using_db: BaseDBAsyncClient | None = None
) -> AsyncIterator[tuple[BaseDBAsyncClient, UnitOfWork]]:
    """The open transaction of `model`'s database, or a new one around the block.

    Raises TrackingError when the database was not opened with Ringback's own Tortoise client, which alone can record
    changes in the same transaction, and TransactionManagementError when `using_db` is a transaction that has ended.
    """
    db = using_db or model._choose_db(True)
    check_recording(model, db)
    unit = unit_of(db)
    if unit is not None:
        if getattr(db, "_finalized", False):
            raise TransactionManagementError(ENDED)
        yield db, unit
        return
    context: TransactionContext = db._in_transaction()
    async with context as tx:
        unit = unit_of(tx)
        assert unit is not None, "a RecordingClient's transactions carry one"
        yield tx, unit
