"""The queue for the thread that checks documents, in which API tokens take turns.

Turns go by CPU time, as in weighted fair queueing: next is the token whose checks will have taken the least, with the
one that waits, whose time is estimated by its size. So a small document of a token that sends few waits for the check
that is running, however many documents others have waiting. One thread is enough, since checks are pure Python and two
would only compete for the interpreter's lock.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

V = TypeVar("V")

#: CPU seconds that a check takes for each byte of its request, estimated. Costly documents take about as much.
SECONDS_PER_BYTE = 5e-6
#: Bytes that a waiting check takes besides its request, so that the limit on bytes is one on their number too.
BYTES_PER_CHECK = 100
#: Times the bytes that one token may have waiting, for all tokens together. Above, each gets an equal part.
TOTAL_FACTOR = 8


class QueueFull(Exception):
    """A token has too many bytes of requests waiting."""


class _Check(NamedTuple):
    work: Callable[[], Any]
    #: Bytes of the request that waits, and BYTES_PER_CHECK.
    size: int
    result: "asyncio.Future[Any]"


class _Measured(NamedTuple):
    result: Any
    cpu_seconds: float


@dataclass(slots=True, eq=False)
class _Line:
    """The waiting checks of one token. `virtual_time` is the CPU seconds of those before, or more after a pause."""

    virtual_time: float
    checks: deque[_Check] = field(default_factory=deque)
    waiting_bytes: int = 0

    def finish_time(self) -> float:
        """Return the virtual time at which the next check would end."""
        return self.virtual_time + SECONDS_PER_BYTE * self.checks[0].size


class CheckQueue(Generic[V]):
    """A queue of checks that run in a thread, one at a time, for tokens that take turns."""

    def __init__(self, max_bytes: int) -> None:
        """Limit the bytes of requests that one token may have waiting."""
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, "graphql-documents")
        self._lines: dict[UUID | None, _Line] = {}
        self._virtual_time = 0.0
        self._waiting_bytes = 0
        self._is_running = False

    def close(self) -> None:
        """Stop the thread. Checks that wait are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        for line in self._lines.values():
            for check in line.checks:
                check.result.cancel()
        self._lines.clear()

    def run(self, token_id: UUID | None, request_bytes: int, work: Callable[[], V]) -> "asyncio.Future[V]":
        """Queue a check for a token. `request_bytes` is the size of the request that waits. Raises QueueFull."""
        size = request_bytes + BYTES_PER_CHECK
        line = self._lines.get(token_id)
        if line is None:
            line = self._lines[token_id] = _Line(self._virtual_time)
        self._admit(line, size)
        if not line.checks:
            line.virtual_time = max(line.virtual_time, self._virtual_time)
        check = _Check(work, size, asyncio.get_running_loop().create_future())
        line.checks.append(check)
        self._add_bytes(line, size)
        if not self._is_running:
            self._start_next()
        return check.result

    def _admit(self, line: _Line, size: int) -> None:
        allowed = self._max_bytes + BYTES_PER_CHECK
        total = TOTAL_FACTOR * self._max_bytes
        if self._waiting_bytes + size > total:
            allowed = min(allowed, total // len(self._lines))
        if line.waiting_bytes + size > allowed:
            raise QueueFull

    def _add_bytes(self, line: _Line, count: int) -> None:
        line.waiting_bytes += count
        self._waiting_bytes += count

    def _start_next(self) -> None:
        """Start the check of the token that comes next, if one waits."""
        waiting = [line for line in self._lines.values() if line.checks]
        self._is_running = bool(waiting)
        if not waiting:
            self._lines.clear()
            return
        line = min(waiting, key=_Line.finish_time)
        self._virtual_time = max(self._virtual_time, line.virtual_time)
        check = line.checks.popleft()
        self._add_bytes(line, -check.size)
        running = asyncio.get_running_loop().run_in_executor(self._thread, _measure, check)
        running.add_done_callback(lambda done: self._on_done(line, check, done))

    def _on_done(self, line: _Line, check: _Check, done: "asyncio.Future[_Measured]") -> None:
        if done.cancelled():
            check.result.cancel()
            return
        error = done.exception()
        if error is None:
            line.virtual_time += done.result().cpu_seconds
        if not check.result.done():
            if error is None:
                check.result.set_result(done.result().result)
            else:
                check.result.set_exception(error)
        self._forget_idle_lines()
        self._start_next()

    def _forget_idle_lines(self) -> None:
        """Forget tokens without waiting checks that would start like new ones."""
        for token_id, line in tuple(self._lines.items()):
            if not line.checks and line.virtual_time <= self._virtual_time:
                del self._lines[token_id]


def _measure(check: _Check) -> _Measured:
    if check.result.cancelled():
        return _Measured(None, 0.0)
    started_at = time.thread_time()
    result = check.work()
    return _Measured(result, time.thread_time() - started_at)
