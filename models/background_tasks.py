"""Ends background tasks for certain."""

import asyncio
from typing import Any

#: Seconds after which a task that goes on is cancelled again. Before Python 3.12, `asyncio.wait_for` swallows a
#: cancellation that comes together with what it waits for (python/cpython#86296); redis-py uses it.
CANCEL_SECONDS = 0.1


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended; what they raise is dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
