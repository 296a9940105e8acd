"""A long computation lets others run."""

import asyncio
from time import monotonic

from ringback.models.stretch import STRETCH_SECONDS, Stretch


async def test_others_have_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    stretch, end = Stretch(), monotonic() + 10 * STRETCH_SECONDS
    while monotonic() < end:
        await stretch.pause()
    task.cancel()
    assert 1 <= turns <= 10


async def test_a_short_one_makes_no_pause() -> None:
    stretch = Stretch()
    pause = stretch.pause()
    stretch._begun = monotonic() + 60
    try:
        pause.send(None)
    except StopIteration:
        return
    raise AssertionError("it paused")
