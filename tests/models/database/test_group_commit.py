"""Tests of group commit: requests that arrive together share a transaction, and one that fails does so alone."""

import asyncio
from collections.abc import Sequence

import pytest
from tortoise.exceptions import DBConnectionError

from ringback.models.database.group_commit import MAX_CONCURRENT_BATCHES, GroupCommit
from ringback.models.fair_slots import current_line, wait_in_line
from tests.support.patience import PATIENCE_SECONDS


class Doubler:
    """Work that doubles numbers and records its batches. The number 13 raises an error."""

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


async def start(group_commit: GroupCommit[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    """Start a request for each number and return their tasks once none can continue by itself."""
    tasks = [asyncio.create_task(group_commit.do(number)) for number in numbers]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


async def test_requests_that_wait_for_a_slot_share_the_next_batch() -> None:
    work = Doubler()
    group_commit = GroupCommit(work)
    first = [task for number in range(MAX_CONCURRENT_BATCHES) for task in await start(group_commit, [number])]
    rest = await start(group_commit, [10, 11, 12])
    assert work.batches == [[number] for number in range(MAX_CONCURRENT_BATCHES)]
    work.go_on.set()
    assert await asyncio.gather(*first, *rest) == [
        *(2 * number for number in range(MAX_CONCURRENT_BATCHES)),
        20,
        22,
        24,
    ]
    assert work.batches[MAX_CONCURRENT_BATCHES:] == [[10, 11, 12]]


async def test_only_the_failing_request_of_a_batch_raises_the_error() -> None:
    work = Doubler()
    work.go_on.set()

    results = await asyncio.gather(*await start(GroupCommit(work), [12, 13, 14]), return_exceptions=True)

    assert (results[0], type(results[1]), results[2]) == (24, ZeroDivisionError, 28)
    assert work.batches == [[12, 13, 14], [12], [13], [14]]


async def test_a_batch_is_not_repeated_after_a_lost_connection() -> None:
    work = Doubler()
    work.go_on.set()
    work.error = DBConnectionError("unreachable")

    results = await asyncio.gather(*await start(GroupCommit(work), [1, 2]), return_exceptions=True)

    assert results == [work.error] * 2
    assert work.batches == [[1, 2]]


async def test_a_cancelled_request_does_not_affect_the_others() -> None:
    work = Doubler()
    group_commit = GroupCommit(work)
    running = await start(group_commit, [1, 2])
    busy = await start(group_commit, [3])
    waiting = await start(group_commit, [4, 5])
    for request in (running[0], waiting[0]):
        request.cancel()
    work.go_on.set()

    results = await asyncio.gather(*running, *busy, *waiting, return_exceptions=True)

    assert [r if isinstance(r, int) else type(r) for r in results] == [
        asyncio.CancelledError, 4, 6, asyncio.CancelledError, 10
    ]  # fmt: skip
    assert work.batches == [[1, 2], [3], [5]]


async def test_requests_are_cancelled_with_their_batch() -> None:
    work = Doubler()
    group_commit = GroupCommit(work)
    waiting = await start(group_commit, [1])
    (task,) = group_commit._running
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting[0], PATIENCE_SECONDS)


async def test_a_batch_does_not_wait_in_the_line_of_the_request_that_started_it() -> None:
    lines: list[object] = []

    async def work(requests: Sequence[str]) -> Sequence[str]:
        lines.append(current_line.get())
        return requests

    group_commit = GroupCommit(work)
    with wait_in_line("a token"):
        assert await group_commit.do("request") == "request"
        assert current_line.get() == "a token"
    assert lines == [group_commit]
