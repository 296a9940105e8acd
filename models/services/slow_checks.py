"""Checks that take a thread up to a second, one at a time, in turns of the API tokens."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import ParamSpec, Self, TypeVar
from uuid import UUID

from ringback.models.fair_slots import FairSlots

P = ParamSpec("P")
V = TypeVar("V")


class Caller:
    """The API token for which an operation runs, a context manager. Tasks that the block starts share it."""

    def __init__(self, token_id: UUID) -> None:
        self.token_id = token_id

    def __enter__(self) -> Self:
        self._previous: Token[Caller | None] = current_caller.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        """End the operation."""
        current_caller.reset(self._previous)


#: The caller of the running operation, or None outside of operations, such as in a program of one's own.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)


class SlowChecks:
    """A queue of checks that run in a thread. Callers take turns, so none waits for all checks of another."""

    def __init__(self) -> None:
        self._slots = FairSlots(1)

    async def run(self, check: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V:
        """Run a check in the caller's turn and return its result."""
        caller = current_caller.get()
        token_id = caller.token_id if caller is not None else None
        async with self._slots.hold(token_id):
            return await asyncio.to_thread(check, *args, **kwargs)
