"""Tests of commit hooks and of `finish`, without a database."""

import asyncio

import pytest
from tortoise.exceptions import TransactionManagementError

from ringback.models.database.transactions import finish
from ringback.models.database.unit_of_work import UnitOfWork


async def test_steps_before_the_commit_run_in_order_with_those_they_add() -> None:
    unit, done = UnitOfWork(), list[str]()

    async def step(name: str) -> None:
        done.append(name)
        if name == "first":
            unit.before_commit(lambda: step("added"))

    unit.before_commit(lambda: step("first"))
    unit.before_commit(lambda: step("second"))
    await unit.run_before_commit()
    await unit.run_before_commit()
    assert done == ["first", "second", "added"]


async def test_a_failed_step_forbids_every_later_commit() -> None:
    unit = UnitOfWork()

    async def fail() -> None:
        raise ZeroDivisionError

    unit.before_commit(fail)
    with pytest.raises(ZeroDivisionError):
        await unit.run_before_commit()
    with pytest.raises(TransactionManagementError, match="can only roll back"):
        await unit.run_before_commit()


def test_a_failed_step_after_the_commit_does_not_stop_the_others() -> None:
    unit, done = UnitOfWork(), list[int]()
    unit.on_commit(lambda: done.append(1))
    unit.on_commit(lambda: done.append(1 // 0))
    unit.on_commit(lambda: done.append(3))

    unit.run_on_commit()
    unit.run_on_commit()

    assert done == [1, 3]


async def test_finish_runs_to_the_end_then_cancels() -> None:
    done: list[int] = []
    go = asyncio.Event()

    async def step() -> int:
        await go.wait()
        done.append(1)
        return 7

    task = asyncio.create_task(finish(step()))
    await asyncio.sleep(0.001)
    assert not task.done()
    go.set()
    assert await task == 7
    go.clear()
    task = asyncio.create_task(finish(step()))
    for _ in range(3):
        await asyncio.sleep(0.001)
        task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1, 1]


async def test_finish_raises_what_the_step_raises() -> None:
    go = asyncio.Event()

    async def step() -> None:
        await go.wait()
        raise ZeroDivisionError

    task = asyncio.create_task(finish(step()))
    await asyncio.sleep(0.001)
    go.set()
    with pytest.raises(ZeroDivisionError):
        await task


async def test_finish_raises_the_cancellation_rather_than_an_error_of_the_step() -> None:
    """Otherwise a loop that retries after errors would go on after its cancellation."""
    go = asyncio.Event()

    async def step() -> None:
        await go.wait()
        raise ZeroDivisionError

    task = asyncio.create_task(finish(step()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go.set()

    with pytest.raises(asyncio.CancelledError):
        await task
