"""Yielding to the event loop during a long computation that awaits nothing."""

import asyncio
from time import monotonic

#: Seconds of computation before the event loop gets a turn.
YIELD_AFTER_SECONDS = 0.005


class LoopYielder:
    """A helper that yields to the event loop once a computation has held it for YIELD_AFTER_SECONDS."""

    def __init__(self) -> None:
        self._held_since = monotonic()

    async def pause(self) -> None:
        """Yield if the loop has been held for long enough since the creation of this object or the last yield."""
        if monotonic() - self._held_since >= YIELD_AFTER_SECONDS:
            await asyncio.sleep(0)
            self._held_since = monotonic()
