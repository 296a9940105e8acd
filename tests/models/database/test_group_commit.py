"""Requests that come at the same time are done together, and fail alone."""

import asyncio
from collections.abc import Sequence

import pytest
from tortoise.exceptions import DBConnectionError

from ringback.models.database.group_commit import AT_ONCE, GroupCommit
from tests.support.patience import PATIENCE_SECONDS


class Work:
    """Doubles numbers; notes what it was given at once, and refuses those that are not numbers."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return [number // (number != 13) * 2 for number in numbers]


async def begun(gathering: GroupCommit[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    """Start the requests; returns their tasks when each has come as far as it can without another one."""
    tasks = [asyncio.create_task(gathering.do(number)) for number in numbers]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


async def test_who_comes_while_all_are_busy_is_done_together() -> None:
    work = Work()
    gathering = GroupCommit(work)
    first = [task for number in range(AT_ONCE) for task in await begun(gathering, [number])]
    rest = await begun(gathering, [10, 11, 12])
    assert work.batches == [[number] for number in range(AT_ONCE)]
    work.go_on.set()
    assert await asyncio.gather(*first, *rest) == [*(2 * number for number in range(AT_ONCE)), 20, 22, 24]
    assert work.batches[AT_ONCE:] == [[10, 11, 12]]


async def test_an_error_is_that_of_the_request_that_made_it() -> None:
    work = Work()
    work.go_on.set()
    results = await asyncio.gather(*await begun(GroupCommit(work), [12, 13, 14]), return_exceptions=True)
    assert (results[0], type(results[1]), results[2]) == (24, ZeroDivisionError, 28)
    assert work.batches == [[12, 13, 14], [12], [13], [14]]


async def test_nothing_is_done_again_when_the_database_went_away() -> None:
    work = Work()
    work.go_on.set()
    work.error = DBConnectionError("away")
    results = await asyncio.gather(*await begun(GroupCommit(work), [1, 2]), return_exceptions=True)
    assert results == [work.error] * 2
    assert work.batches == [[1, 2]]


async def test_who_goes_away_stops_nobody_else() -> None:
    work = Work()
    gathering = GroupCommit(work)
    under_way = await begun(gathering, [1, 2])
    busy = await begun(gathering, [3])
    waiting = await begun(gathering, [4, 5])
    for gone in (under_way[0], waiting[0]):
        gone.cancel()
    work.go_on.set()
    results = await asyncio.gather(*under_way, *busy, *waiting, return_exceptions=True)
    assert [r if isinstance(r, int) else type(r) for r in results] == [
        asyncio.CancelledError, 4, 6, asyncio.CancelledError, 10
    ]  # fmt: skip
    assert work.batches == [[1, 2], [3], [5]]


async def test_when_the_loop_ends_nobody_is_left_waiting() -> None:
    work = Work()
    gathering = GroupCommit(work)
    waiting = await begun(gathering, [1])
    (task,) = gathering._running
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting[0], PATIENCE_SECONDS)
