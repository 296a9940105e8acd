"""SingleFlight: concurrent callers share one run, its result is cached briefly, and cancelling one harms no other."""

import asyncio
from typing import Any

import pytest

from ringback.graphql_api.context.single_flight import SingleFlight, wait_for_result


class Work:
    """Work that ends when `end` is set, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Any:
        self.runs += 1
        return await asyncio.shield(self.end)


async def test_concurrent_callers_share_one_run() -> None:
    shared, work = SingleFlight[str, object](10, 60), Work()
    waiting = [asyncio.create_task(wait_for_result(shared.run("a", work))) for _ in range(3)]
    await asyncio.sleep(0)
    result = object()
    work.end.set_result(result)
    assert await asyncio.gather(*waiting) == [result] * 3
    assert await wait_for_result(shared.run("a", work)) is result
    assert work.runs == 1
    assert await wait_for_result(shared.run("b", work)) is result
    assert work.runs == 2


async def test_a_result_is_cached_until_it_expires_or_is_forgotten() -> None:
    shared, work = SingleFlight[str, int](10, 0.05), Work()
    work.end.set_result(1)
    await wait_for_result(shared.run("a", work))
    await asyncio.sleep(0.06)
    await wait_for_result(shared.run("a", work))
    assert work.runs == 2
    shared.forget()
    await wait_for_result(shared.run("a", work))
    assert work.runs == 3


async def test_results_over_the_size_limit_are_returned_but_not_cached() -> None:
    shared, work = SingleFlight[int, int](2, 60), Work()
    futures = [shared.run(n, work) for n in range(5)]
    work.end.set_result(7)
    assert [await wait_for_result(future) for future in futures] == [7] * 5
    await wait_for_result(shared.run(4, work))
    assert work.runs == 5
    await wait_for_result(shared.run(0, work))
    assert work.runs == 6


async def test_cancelling_one_caller_does_not_cancel_the_work() -> None:
    shared, work = SingleFlight[str, int](10, 60), Work()
    first, second = (asyncio.create_task(wait_for_result(shared.run("a", work))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.end.set_result(1)
    assert await second == 1
    assert work.runs == 1


async def test_a_failure_reaches_all_callers_and_is_not_cached() -> None:
    shared, work = SingleFlight[str, int](10, 60), Work()
    waiting = [asyncio.create_task(wait_for_result(shared.run("a", work))) for _ in range(2)]
    await asyncio.sleep(0)
    work.end.set_exception(ZeroDivisionError())
    assert [type(e) for e in await asyncio.gather(*waiting, return_exceptions=True)] == [ZeroDivisionError] * 2
    succeeding = Work()
    succeeding.end.set_result(1)
    assert await wait_for_result(shared.run("a", succeeding)) == 1


async def test_a_result_that_cache_if_rejects_is_not_cached() -> None:
    shared, work = SingleFlight[str, int](10, 60, cache_if=lambda value: value > 0), Work()
    work.end.set_result(0)
    assert [await wait_for_result(shared.run("a", work)) for _ in range(3)] == [0, 0, 0]
    assert work.runs == 3
