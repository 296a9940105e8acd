"""How long an event loop is held: by what runs on it, and by threads that keep the interpreter to themselves."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.support.cpu import CONTROL_SECONDS, control_seconds, control_work

#: What the issue allows on an ordinary machine, in seconds of CPU. Tests compare by `share_of_allowed` instead.
ALLOWED_SECONDS = 0.05
_CONTROLS = round(ALLOWED_SECONDS / CONTROL_SECONDS)
#: Our own code holds the loop in every try; another program only in some.
_TRIES = 5


class Lag:
    """`async with Lag() as lag:` measures; `lag.seconds` is the longest time between two turns of a ticking task.

    It is CPU time of this whole process, so that other programs on the machine do not count. What was made before is
    exempt from garbage collection, as the program does it with what it made at its start.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        gc.freeze()
        self._ticking = asyncio.create_task(self._tick())
        await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.sleep(0.005)
        self._ticking.cancel()

    async def _tick(self) -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.process_time()
            self.seconds = max(self.seconds, now - before)
            before = now


async def share_of_allowed(work: Callable[[], Awaitable[object]], *, limit: float = 1.0) -> float:
    """Return how long `work` holds the loop, as a share of what is allowed: 2.0 is twice as long as allowed.

    What is allowed is the CPU time of a fixed piece of work, measured before and after each try. A slower machine and a
    tracer stretch both. The least share of several tries counts; a share below `limit` ends the tries.
    """
    least = float("inf")
    for _ in range(_TRIES):
        control = control_seconds(time.process_time)
        async with Lag() as lag:
            await work()
        control = min(control, control_seconds(time.process_time))
        least = min(least, lag.seconds / (_CONTROLS * control))
        if least < limit:
            break
    return least


def hold_the_loop(share: float) -> None:
    """Do as much work at one go as is allowed, times `share`."""
    for _ in range(round(share * _CONTROLS)):
        control_work()
