"""How long an event loop is held: by what runs on it, and by threads that keep the interpreter to themselves."""

import asyncio
import gc
import time
from types import TracebackType
from typing import Self

#: What the issue allows, in seconds.
ALLOWED_SECONDS = 0.05


class Lag:
    """`async with Lag() as lag:` measures; `lag.seconds` is the longest time between two turns of a ticking task.

    It is CPU time of this whole process, so that other programs on the machine do not count. What was made before is
    exempt from garbage collection, as the program does it with what it made at its start.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        gc.collect()
        gc.freeze()
        self._ticking = asyncio.create_task(self._tick())
        await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.sleep(0.005)
        self._ticking.cancel()
        gc.unfreeze()

    async def _tick(self) -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.process_time()
            self.seconds = max(self.seconds, now - before)
            before = now
