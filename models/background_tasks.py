"""Reliable cancellation of background tasks."""

import asyncio
from typing import Any

#: Seconds after which a running task is cancelled again: before Python 3.12 `asyncio.wait_for`, which redis-py uses,
#: swallows a cancellation that arrives together with its result (python/cpython#86296).
CANCEL_SECONDS = 0.1


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended. Their errors are dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
