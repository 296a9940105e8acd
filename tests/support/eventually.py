"""Waiting for a condition."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.patience import PATIENCE_SECONDS


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; raise TimeoutError when it never does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def eventually_found(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until a condition holds that must be awaited, such as one of the database."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.01)
