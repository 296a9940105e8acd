"""Checks that take a thread up to a second, one at a time, in turns of the API tokens.

An operation that waits for its checks holds memory, and may hold the turn of large operations. So it has a limit.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import partial
from typing import ParamSpec, Self, TypeVar
from uuid import UUID

from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.fair_slots import FairSlots, current_line
from ringback.models.tracking.conditions import ConditionBudget, current_budget

#: CPU seconds of checks after which an operation starts no more of them. The check of a usual webhook takes 1 to 5 ms.
MAX_CHECK_SECONDS = 3.0
#: Seconds after its start when an operation starts no more checks. Its first check always runs.
MAX_OPERATION_SECONDS = 10.0

P = ParamSpec("P")
V = TypeVar("V")


class Caller:
    """The API token for which an operation runs, a context manager. Tasks that the block starts share it.

    Its transactions wait in the line of the token, and the conditions that the block evaluates share one budget.
    """

    def __init__(
        self,
        token_id: UUID | None,
        *,
        max_check_seconds: float = MAX_CHECK_SECONDS,
        max_seconds: float = MAX_OPERATION_SECONDS,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare for an operation. `is_late` returns whether it keeps others waiting for too long."""
        self.token_id = token_id
        self._max_check_seconds = max_check_seconds
        self._check_seconds = 0.0
        self._deadline = time.monotonic() + max_seconds
        self._is_late = is_late

    def __enter__(self) -> Self:
        self._previous: Token[Caller | None] = current_caller.set(self)
        self._previous_line = current_line.set(self.token_id)
        self._previous_budget: Token[ConditionBudget | None] = current_budget.set(ConditionBudget())
        return self

    def __exit__(self, *error: object) -> None:
        """End the operation."""
        current_line.reset(self._previous_line)
        current_budget.reset(self._previous_budget)
        current_caller.reset(self._previous)

    def run(self, check: Callable[[], V]) -> V:
        """Run a check and count its CPU time. Raises InputRejected if the operation may start no more checks."""
        self._require_time()
        started_at = time.thread_time()
        try:
            return check()
        finally:
            self._check_seconds += time.thread_time() - started_at

    def _require_time(self) -> None:
        is_late = self._check_seconds > 0 and (time.monotonic() > self._deadline or self._is_late())
        if is_late or self._check_seconds > self._max_check_seconds:
            message = (
                "This webhook was not checked, because the checks of this operation take too long. "
                "Use fewer webhooks in one operation."
            )
            raise InputRejected(Problem(message, code=ProblemCode.TOO_LARGE))


#: The caller of the running operation, or None outside of operations, as in programs that use Ringback as a library.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)


class SlowChecks:
    """A queue of checks that run in a thread. Callers take turns, so none waits for all checks of another."""

    def __init__(self) -> None:
        self._slots = FairSlots(1)

    async def run(self, check: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V:
        """Run a check in the caller's turn and return its result. Raises InputRejected as Caller.run."""
        caller = current_caller.get() or Caller(None)
        await self._slots.acquire(caller.token_id)
        work = partial(caller.run, partial(check, *args, **kwargs))
        running = asyncio.ensure_future(asyncio.to_thread(work))
        # A thread cannot be cancelled, so it keeps the slot of a request that is.
        running.add_done_callback(lambda _: self._slots.release())
        return await asyncio.shield(running)
