"""Tests of yielding to the event loop during a long computation."""

import asyncio

import pytest

from ringback.models.tracking import cooperative
from ringback.models.tracking.cooperative import YIELD_AFTER_SECONDS, LoopYielder


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of LoopYielder."""
    clock = Clock()
    monkeypatch.setattr(cooperative, "monotonic", clock)
    return clock


async def test_others_have_their_turn(clock: Clock) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    yielder = LoopYielder()
    for _ in range(40):
        clock.now += YIELD_AFTER_SECONDS / 3.5  # so that every fourth step is long enough
        await yielder.pause()
    task.cancel()
    assert turns == 10


async def test_a_short_one_makes_no_pause(clock: Clock) -> None:
    yielder = LoopYielder()
    pause = yielder.pause()
    clock.now += YIELD_AFTER_SECONDS * 0.9
    try:
        pause.send(None)
    except StopIteration:
        return
    raise AssertionError("it paused")
