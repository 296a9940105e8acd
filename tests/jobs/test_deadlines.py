"""Timeouts that share one timer must be those of asyncio, but for a hundredth of a second."""

import asyncio
import time

import pytest

from ringback.jobs.deadlines import TICK_SECONDS, Deadlines


async def test_a_block_ends_with_its_deadline_and_never_before() -> None:
    deadlines = Deadlines()
    for seconds in (0.0, 0.005, 0.05, 0.1):
        deadline = deadlines.within(seconds)
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            async with deadline:
                await asyncio.sleep(5)
        assert seconds <= time.monotonic() - before < seconds + TICK_SECONDS + 0.2
        assert deadline.expired


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines()
    deadline = deadlines.within(0.02)
    async with deadline:
        await asyncio.sleep(0)
    await asyncio.sleep(0.06)
    assert not deadline.expired


async def test_each_of_many_tasks_has_its_own() -> None:
    deadlines = Deadlines()

    async def run(seconds: float, takes: float) -> bool:
        try:
            async with deadlines.within(seconds):
                await asyncio.sleep(takes)
        except TimeoutError:
            return False
        return True

    ended = await asyncio.gather(*(run(0.05, 2.0 if number % 3 else 0.0) for number in range(300)))
    assert list(ended) == [number % 3 == 0 for number in range(300)]


async def test_a_cancellation_from_elsewhere_goes_on() -> None:
    async def run() -> None:
        async with Deadlines().within(5):
            await asyncio.sleep(5)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_with_the_deadline_is_not_swallowed() -> None:
    deadlines = Deadlines()

    async def run() -> None:
        deadline = deadlines.within(5)
        async with deadline:
            deadline.expire()
            await asyncio.sleep(5)

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_passes_through() -> None:
    with pytest.raises(KeyError):
        async with Deadlines().within(5):
            raise KeyError("mine")


async def test_nothing_runs_when_there_are_no_deadlines() -> None:
    deadlines = Deadlines()
    async with deadlines.within(5):
        pass
    await asyncio.sleep(3 * TICK_SECONDS)
    assert deadlines._timer is None
