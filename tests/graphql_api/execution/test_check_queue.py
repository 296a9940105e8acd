"""The queue for checks: tokens take turns by the CPU time that they used, and what one may have waiting is limited."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from ringback.graphql_api.execution.check_queue import CheckQueue, QueueFull

HEAVY, LIGHT = UUID(int=1), UUID(int=2)


@pytest.fixture
def queue() -> Iterator[CheckQueue[str]]:
    queue: CheckQueue[str] = CheckQueue(max_bytes=1_000)
    yield queue
    queue.close()


class Works:
    """Work that notes its order, the first of which waits until it is released."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.release = threading.Event()

    def first(self) -> str:
        self.release.wait()
        return "first"

    def named(self, name: str, cpu_seconds: float = 0.0) -> Callable[[], str]:
        def work() -> str:
            end = time.thread_time() + cpu_seconds
            while time.thread_time() < end:
                pass
            self.order.append(name)
            return name

        return work


async def test_the_token_that_used_the_least_time_goes_next(queue: CheckQueue[str]) -> None:
    works = Works()
    first = queue.run(HEAVY, 1, works.first)
    waiting = [queue.run(HEAVY, 1, works.named(f"heavy {number}", 0.01)) for number in range(3)]
    waiting += [queue.run(LIGHT, 1, works.named(f"light {number}", 0.001)) for number in range(3)]
    works.release.set()

    assert await first == "first"
    await asyncio.gather(*waiting)
    assert works.order.index("light 2") < works.order.index("heavy 1")
    assert sorted(works.order) == [f"{token} {number}" for token in ("heavy", "light") for number in range(3)]


async def test_a_small_request_goes_before_large_ones_of_new_tokens(queue: CheckQueue[str]) -> None:
    works = Works()
    first = queue.run(HEAVY, 1, works.first)
    waiting = [queue.run(UUID(int=number), 500, works.named("large")) for number in range(10, 13)]
    waiting.append(queue.run(LIGHT, 10, works.named("small")))
    works.release.set()

    await asyncio.gather(first, *waiting)
    assert works.order == ["small", "large", "large", "large"]


async def test_what_one_token_has_waiting_is_limited(queue: CheckQueue[str]) -> None:
    works = Works()
    waiting = [queue.run(HEAVY, 1_000, works.first), queue.run(HEAVY, 600, works.named("600"))]

    with pytest.raises(QueueFull):
        queue.run(HEAVY, 301, works.named("too many"))
    waiting += [queue.run(HEAVY, 300, works.named("300")), queue.run(LIGHT, 1_000, works.named("light"))]
    works.release.set()
    await asyncio.gather(*waiting)
    assert sorted(works.order) == ["300", "600", "light"]


async def test_tokens_share_what_all_may_have_waiting(queue: CheckQueue[str]) -> None:
    works = Works()
    waiting = [queue.run(HEAVY, 1, works.first)]
    waiting += [queue.run(UUID(int=number), 900, works.named("large")) for number in range(10, 18)]

    with pytest.raises(QueueFull):
        queue.run(LIGHT, 900, works.named("too many"))
    waiting.append(queue.run(LIGHT, 10, works.named("small")))
    works.release.set()
    await asyncio.gather(*waiting)
    assert works.order.count("small") == 1


async def test_a_cancelled_check_does_not_run(queue: CheckQueue[str]) -> None:
    works = Works()
    first = queue.run(HEAVY, 1, works.first)
    cancelled = queue.run(HEAVY, 1, works.named("cancelled"))
    last = queue.run(HEAVY, 1, works.named("last"))

    cancelled.cancel()
    works.release.set()

    assert [await first, await last] == ["first", "last"]
    assert works.order == ["last"]


async def test_an_error_reaches_its_caller_and_the_queue_goes_on(queue: CheckQueue[str]) -> None:
    def fail() -> str:
        raise ValueError("no")

    failed, after = queue.run(HEAVY, 1, fail), queue.run(HEAVY, 1, Works().named("after"))

    with pytest.raises(ValueError, match="no"):
        await failed
    assert await after == "after"


async def test_closing_cancels_what_waits() -> None:
    works = Works()
    queue: CheckQueue[str] = CheckQueue(1_000)
    queue.run(HEAVY, 1, works.first)
    waiting = queue.run(HEAVY, 1, works.named("waiting"))
    queue.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    works.release.set()
