"""Timeouts that share one timer must be those of asyncio, but for a hundredth of a second."""

import asyncio
import time

import pytest

from ringback.jobs import deadlines as timing
from ringback.jobs.deadlines import TICK_SECONDS, Deadlines
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stopped import StoppedTime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    """The clock that deadlines go by; their timer is the loop's."""
    made = StoppedTime()
    monkeypatch.setattr(timing, "time", made)
    return made


async def test_a_block_ends_with_its_deadline_and_never_before() -> None:
    deadlines = Deadlines()
    for seconds in (0.0, 0.005, 0.05, 0.1):
        deadline = deadlines.within(seconds)
        noticed = asyncio.get_running_loop().create_future()
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            async with deadline:
                # The loop runs its timers in the order of their moments, however late it is.
                asyncio.get_running_loop().call_later(
                    seconds + 3 * TICK_SECONDS,
                    lambda: noticed.set_result(deadline.expired),  # noqa: B023
                )
                await asyncio.sleep(PATIENCE_SECONDS)
        assert time.monotonic() - before >= seconds
        assert await noticed, "the deadline passed within three ticks"
        assert deadline.expired


async def test_a_block_that_ends_in_time_is_left_alone(clock: StoppedTime) -> None:
    deadlines = Deadlines()
    deadline = deadlines.within(0.02)
    async with deadline:
        await asyncio.sleep(0)
    clock.advance(0.06)
    await asyncio.sleep(3 * TICK_SECONDS)
    assert not deadline.expired


async def test_each_of_many_tasks_has_its_own(clock: StoppedTime) -> None:
    deadlines = Deadlines()
    never = asyncio.Event()

    async def run(hangs: bool) -> bool:
        try:
            async with deadlines.within(0.05):
                await (never.wait() if hangs else asyncio.sleep(0))
        except TimeoutError:
            return False
        return True

    tasks = [asyncio.create_task(run(hangs=number % 3 != 0)) for number in range(300)]
    await asyncio.gather(*tasks[::3])
    await asyncio.sleep(3 * TICK_SECONDS)
    assert [task.done() for task in tasks] == [number % 3 == 0 for number in range(300)]
    clock.advance(0.1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        ended = await asyncio.gather(*tasks)
    assert ended == [number % 3 == 0 for number in range(300)]


async def test_a_cancellation_from_elsewhere_goes_on() -> None:
    entered = asyncio.Event()

    async def run() -> None:
        async with Deadlines().within(PATIENCE_SECONDS):
            entered.set()
            await asyncio.sleep(PATIENCE_SECONDS)

    task = asyncio.create_task(run())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_with_the_deadline_is_not_swallowed() -> None:
    deadlines = Deadlines()

    async def run() -> None:
        deadline = deadlines.within(PATIENCE_SECONDS)
        async with deadline:
            deadline.expire()
            await asyncio.sleep(PATIENCE_SECONDS)

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_passes_through() -> None:
    with pytest.raises(KeyError):
        async with Deadlines().within(PATIENCE_SECONDS):
            raise KeyError("mine")


async def test_nothing_runs_when_there_are_no_deadlines() -> None:
    deadlines = Deadlines()
    async with deadlines.within(PATIENCE_SECONDS):
        pass
    await asyncio.sleep(3 * TICK_SECONDS)
    assert deadlines._timer is None
