"""Long computations between two waits: the event loop gets its turn now and then."""

import asyncio
from time import monotonic

#: How long the loop may be kept waiting, in seconds.
YIELD_AFTER_SECONDS = 0.005


class LoopYielder:
    """Counts from its making, or from the last pause that it made."""

    def __init__(self) -> None:
        self._begun = monotonic()

    async def pause(self) -> None:
        """Let the loop run when the stretch has been long enough."""
        if monotonic() - self._begun >= YIELD_AFTER_SECONDS:
            await asyncio.sleep(0)
            self._begun = monotonic()
