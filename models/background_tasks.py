"""Helpers for background tasks: reliable cancellation, and a wait for an event with a time limit."""

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


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for an event for at most `seconds`, or without limit; returns whether it is set."""
    if event.is_set() or (seconds is not None and seconds <= 0):
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
