"""Slots that tokens take in turn."""

import asyncio
from uuid import UUID

import pytest

from ringback.models.fair_slots import FairLock, FairSlots, current_line, wait_in_line

ONE, OTHER = UUID(int=1), UUID(int=2)


async def test_tokens_take_turns() -> None:
    slots, order = FairSlots(1), list[str]()

    async def work(token_id: UUID, name: str) -> None:
        async with slots.hold(token_id):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(ONE, "one") for _ in range(10)), work(OTHER, "other"))

    assert order == ["one", "other"] + ["one"] * 9


async def test_one_token_never_holds_all_slots() -> None:
    slots, running, ended = FairSlots(3, max_per_token=2), list[str](), asyncio.Event()

    async def work(token_id: UUID, name: str) -> None:
        async with slots.hold(token_id):
            running.append(name)
            await ended.wait()

    tasks = [asyncio.create_task(work(ONE, "one")) for _ in range(4)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work(OTHER, "other")))
    await asyncio.sleep(0)

    assert running == ["one", "one", "other"]
    ended.set()
    await asyncio.gather(*tasks)
    assert running == ["one", "one", "other", "one", "one"]


async def test_a_cancelled_task_passes_its_slot_on() -> None:
    slots = FairSlots(1)
    await slots.acquire(ONE)
    granted, waiting, last = [asyncio.create_task(slots.acquire(token_id)) for token_id in (ONE, ONE, OTHER)]
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)

    slots.release()
    granted.cancel()
    await asyncio.wait([granted, waiting])

    await last
    slots.release()
    await slots.acquire(ONE)
    assert granted.cancelled()
    assert waiting.cancelled()


async def test_a_new_token_comes_before_the_one_that_was_served_last() -> None:
    slots, order = FairSlots(1), list[str]()

    async def acquire(token_id: UUID, name: str) -> None:
        await slots.acquire(token_id)
        order.append(name)

    await slots.acquire(ONE)
    tasks = [asyncio.create_task(acquire(ONE, "one")) for _ in range(2)]
    await asyncio.sleep(0)
    slots.release()
    tasks.append(asyncio.create_task(acquire(OTHER, "other")))
    await asyncio.sleep(0)
    slots.release()
    await asyncio.sleep(0)
    slots.release()
    await asyncio.gather(*tasks)

    assert order == ["one", "other", "one"]


async def test_a_lock_is_granted_to_lines_in_turn() -> None:
    lock, order = FairLock(), list[str]()

    async def work(line: object, name: str) -> None:
        with wait_in_line(line):
            async with lock:
                order.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(*(work(ONE, "one") for _ in range(4)), work(OTHER, "other"), work(None, "worker"))

    assert order == ["one", "one", "other", "worker", "one", "one"]
    assert not lock.locked()
    assert current_line.get() is None


async def test_a_lock_that_is_not_held_cannot_be_released() -> None:
    lock = FairLock()
    with pytest.raises(RuntimeError, match="not acquired"):
        lock.release()

    async with lock:
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting


async def test_a_holder_lets_others_have_its_slot() -> None:
    slots, order = FairSlots(1, max_interrupted=1), list[str]()

    async def run() -> None:
        async with slots.hold(OTHER):
            order.append("other")

    async with slots.hold(ONE) as slot:
        waiting = asyncio.create_task(run())
        await asyncio.sleep(0)
        assert await slots.pass_on(slot)
        order.append("one")

    await waiting
    assert order == ["other", "one"]


async def test_only_so_many_holders_pass_on_their_slots() -> None:
    slots = FairSlots(2, max_interrupted=1)
    async with slots.hold(ONE) as first, slots.hold(OTHER) as second:
        waiting = asyncio.create_task(slots.acquire(OTHER))
        await asyncio.sleep(0)
        passing = asyncio.create_task(slots.pass_on(first))
        await asyncio.sleep(0)

        assert not await slots.pass_on(second)
        assert not passing.done()
        slots.release()
        assert await passing
    await waiting


async def test_a_cancelled_holder_does_not_release_the_slot_that_it_passed_on() -> None:
    slots = FairSlots(1, max_interrupted=1)

    async def run() -> None:
        async with slots.hold(ONE) as slot:
            held.set()
            await slots.pass_on(slot)

    held = asyncio.Event()
    async with slots.hold(OTHER):
        running = asyncio.create_task(run())
        other = asyncio.create_task(slots.acquire(OTHER))
        await asyncio.sleep(0)
    await held.wait()
    await other
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    last = asyncio.create_task(slots.acquire(ONE))
    await asyncio.sleep(0)
    assert not last.done()
    slots.release()
    await last
