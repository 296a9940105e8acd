"""Work that several wait for: once for all, kept for a moment, and nobody's failure or departure is another's."""

import asyncio
from typing import Any

import pytest

from ringback.graphql_api.context.single_flight import SingleFlight, outcome


class Work:
    """Work that ends when it is told to, and counts how often it began."""

    def __init__(self) -> None:
        self.begun = 0
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Any:
        self.begun += 1
        return await asyncio.shield(self.end)


async def test_it_is_done_once_for_all_who_ask() -> None:
    shared, work = SingleFlight[str, object](10, 60), Work()
    waiting = [asyncio.create_task(outcome(shared.ask("a", work))) for _ in range(3)]
    await asyncio.sleep(0)
    given = object()
    work.end.set_result(given)
    assert await asyncio.gather(*waiting) == [given] * 3
    assert await outcome(shared.ask("a", work)) is given
    assert work.begun == 1
    assert await outcome(shared.ask("b", work)) is given
    assert work.begun == 2


async def test_it_is_kept_for_a_moment_only() -> None:
    shared, work = SingleFlight[str, int](10, 0.05), Work()
    work.end.set_result(1)
    await outcome(shared.ask("a", work))
    await asyncio.sleep(0.06)
    await outcome(shared.ask("a", work))
    assert work.begun == 2
    shared.forget()
    await outcome(shared.ask("a", work))
    assert work.begun == 3


async def test_what_is_over_the_bound_is_not_kept_and_yet_ends() -> None:
    shared, work = SingleFlight[int, int](2, 60), Work()
    asked = [shared.ask(n, work) for n in range(5)]
    work.end.set_result(7)
    assert [await outcome(one) for one in asked] == [7] * 5
    await outcome(shared.ask(4, work))
    assert work.begun == 5
    await outcome(shared.ask(0, work))
    assert work.begun == 6


async def test_who_goes_away_takes_nobody_along() -> None:
    shared, work = SingleFlight[str, int](10, 60), Work()
    first, second = (asyncio.create_task(outcome(shared.ask("a", work))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.end.set_result(1)
    assert await second == 1
    assert work.begun == 1


async def test_a_failure_is_told_to_those_who_wait_and_forgotten() -> None:
    shared, work = SingleFlight[str, int](10, 60), Work()
    waiting = [asyncio.create_task(outcome(shared.ask("a", work))) for _ in range(2)]
    await asyncio.sleep(0)
    work.end.set_exception(ZeroDivisionError())
    assert [type(e) for e in await asyncio.gather(*waiting, return_exceptions=True)] == [ZeroDivisionError] * 2
    well = Work()
    well.end.set_result(1)
    assert await outcome(shared.ask("a", well)) == 1


async def test_what_is_not_worth_keeping_is_forgotten() -> None:
    shared, work = SingleFlight[str, int](10, 60, worth_keeping=lambda value: value > 0), Work()
    work.end.set_result(0)
    assert [await outcome(shared.ask("a", work)) for _ in range(3)] == [0, 0, 0]
    assert work.begun == 3
