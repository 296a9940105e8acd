"""Hooks of a transaction. `RecordingTransaction.commit` runs them before and after its COMMIT."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import TransactionManagementError

logger = structlog.get_logger("ringback.transactions")


class UnitOfWork:
    """The hooks of one outermost transaction, shared by its savepoints.

    Tortoise's connection variable does not tell savepoints apart, so a hook runs even if the savepoint that added it
    was rolled back. Hooks must allow for that: those before the commit compare stored rows, and a needless notification
    is harmless.
    """

    def __init__(self) -> None:
        self._before_commit: list[Callable[[], Awaitable[None]]] = []
        self._on_commit: list[Callable[[], None]] = []
        self._failed = False
        #: State that others attach to this transaction, keyed by its own type.
        self.state_by_type: dict[type, Any] = {}

    def before_commit(self, step: Callable[[], Awaitable[None]]) -> None:
        """Await `step` inside the transaction, just before its COMMIT. An error rolls everything back."""
        self._before_commit.append(step)

    def on_commit(self, step: Callable[[], None]) -> None:
        """Call `step` after the outermost COMMIT, and never after a rollback. Its errors are logged, not raised."""
        self._on_commit.append(step)

    async def run_before_commit(self) -> None:
        """Run the steps in order, including those that steps add.

        Raises TransactionManagementError if a step failed in an earlier call: the transaction must roll back.
        """
        if self._failed:
            raise TransactionManagementError(
                "a step before the commit has failed, so this transaction can only roll back"
            )
        try:
            while self._before_commit:
                await self._before_commit.pop(0)()
        except BaseException:
            self._failed = True
            raise

    def run_on_commit(self) -> None:
        """Run each step once."""
        steps, self._on_commit = self._on_commit, []
        for step in steps:
            try:
                step()
            except Exception:
                logger.exception("a step after a commit failed", action="commit")


def find_unit(db: BaseDBAsyncClient) -> UnitOfWork | None:
    """Return the unit of work of a connection, or None outside of a transaction of Ringback's clients."""
    return getattr(db, "unit", None)


def require_unit(db: BaseDBAsyncClient) -> UnitOfWork:
    """Return the unit of work of the open transaction."""
    unit = find_unit(db)
    assert unit is not None, "no transaction is open: use in_transaction() of Ringback's own client"
    return unit
