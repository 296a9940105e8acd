"""The hooks of a transaction: what runs before and after its COMMIT."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from tortoise.backends.base.client import (
    BaseDBAsyncClient,
)
from tortoise.exceptions import TransactionManagementError

logger = structlog.get_logger("ringback.transactions")


class UnitOfWork:
    """The hooks of one outermost transaction; its savepoints share them.

    Savepoints cannot be told apart by Tortoise's connection variable, so what hangs here must bear a level that was
    rolled back: work before the commit compares stored rows, and a needless wake-up does no harm.
    """

    def __init__(self) -> None:
        self._before_commit: list[Callable[[], Awaitable[None]]] = []
        self._on_commit: list[Callable[[], None]] = []
        self._failed = False
        #: Room for what belongs to this transaction, by the type that owns it.
        self.belongings: dict[type, Any] = {}

    def before_commit(self, step: Callable[[], Awaitable[None]]) -> None:
        """Await `step` inside the transaction, just before its COMMIT; an error rolls everything back."""
        self._before_commit.append(step)

    def on_commit(self, step: Callable[[], None]) -> None:
        """Call `step` after the real COMMIT; never after a rollback. What it raises is logged: it is too late."""
        self._on_commit.append(step)

    async def run_before_commit(self) -> None:
        """Run the steps, also those which a step adds; when one has failed, there will be no commit."""
        if self._failed:
            raise TransactionManagementError("a step before the commit has failed; this transaction can only roll back")
        try:
            while self._before_commit:
                await self._before_commit.pop(0)()
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


def unit_of(db: BaseDBAsyncClient) -> UnitOfWork | None:
    """The unit of work that a connection belongs to; None when it is outside of any transaction of ours."""
    return getattr(db, "unit", None)


def require_unit(db: BaseDBAsyncClient) -> UnitOfWork:
    """The unit of work of a transaction on Ringback's own database."""
    unit = unit_of(db)
    assert unit is not None, "in_transaction() of Ringback's own client"
    return unit
