"""Turns of subscriptions: other work runs between slices, and tokens take turns."""

import asyncio
import time
from uuid import UUID

import pytest

from ringback.graphql_api.execution.turns import FIRST_SLICE, Turns

ONE, OTHER = UUID(int=1), UUID(int=2)


async def take(turns: Turns, token_id: UUID, order: list[str], name: str, seconds: float = 0.0) -> None:
    """Take a turn, and hold the loop for so long in it."""
    await turns.take(token_id)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    order.append(name)


async def test_tokens_take_turns() -> None:
    turns, order = Turns(), list[str]()
    await asyncio.gather(
        *(take(turns, ONE, order, "one") for _ in range(10)), *(take(turns, OTHER, order, "other") for _ in range(2))
    )
    assert order[:4] == ["one", "other", "one", "other"]
    assert order[4:] == ["one"] * 8


async def test_other_work_runs_between_slices() -> None:
    turns, order = Turns(), list[str]()
    waiting = [asyncio.create_task(take(turns, ONE, order, "turn", 0.002)) for _ in range(4 * FIRST_SLICE)]
    gaps = []
    while not all(task.done() for task in waiting):
        before = len(order)
        await asyncio.sleep(0)
        gaps.append(len(order) - before)

    assert max(gaps) == FIRST_SLICE
    # A slice of 16 took 32 ms instead of 2, so the next ones are shorter.
    assert gaps[-1] <= 2


async def test_cheap_turns_come_in_larger_slices() -> None:
    turns, order = Turns(), list[str]()
    await asyncio.gather(*(take(turns, ONE, order, "turn") for _ in range(2_000)))

    assert turns._slice_size > FIRST_SLICE


async def test_a_cancelled_turn_is_skipped() -> None:
    turns, order = Turns(), list[str]()
    cancelled = asyncio.create_task(take(turns, ONE, order, "cancelled"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await take(turns, ONE, order, "next")

    assert order == ["next"]


async def test_waiting_for_shared_work_raises_its_error() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Turns().wait_for(ONE, asyncio.ensure_future(fail()))


async def test_slices_pause_while_requests_are_executed() -> None:
    turns, order = Turns(), list[str]()
    waiting = [asyncio.create_task(take(turns, ONE, order, "turn", 0.002)) for _ in range(2 * FIRST_SLICE)]
    with turns.give_way():
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(order) == FIRST_SLICE

    await asyncio.gather(*waiting)
    assert len(order) == 2 * FIRST_SLICE
