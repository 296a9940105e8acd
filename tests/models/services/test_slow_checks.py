"""Slow checks, which run one at a time in turns of their callers."""

import asyncio
import threading
from uuid import UUID

import pytest

from ringback.models.errors import InputRejected
from ringback.models.services.slow_checks import Caller, SlowChecks

ONE, OTHER = UUID(int=1), UUID(int=2)


async def test_a_caller_does_not_wait_for_all_checks_of_another() -> None:
    checks, order = SlowChecks(), list[str]()

    async def check(token_id: UUID, name: str) -> None:
        with Caller(token_id):
            await checks.run(order.append, name)

    await asyncio.gather(*(check(ONE, "one") for _ in range(5)), check(OTHER, "other"))

    assert order == ["one", "one", "other", "one", "one", "one"]


async def test_the_check_of_a_cancelled_request_keeps_its_slot() -> None:
    checks, release = SlowChecks(), threading.Event()
    cancelled = asyncio.create_task(checks.run(release.wait))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(checks.run(release.is_set))
    await asyncio.sleep(0)

    cancelled.cancel()
    await asyncio.wait([cancelled])
    await asyncio.sleep(0.01)
    release.set()

    assert await waiting is True


async def test_checks_outside_of_an_operation_run_too() -> None:
    assert await SlowChecks().run(int, "1", base=2) == 1


@pytest.mark.parametrize("caller", [
    Caller(ONE, max_check_seconds=0.0),
    Caller(ONE, max_seconds=0.0),
    Caller(ONE, is_late=lambda: True),
])  # fmt: skip
async def test_an_operation_out_of_time_starts_no_more_checks(caller: Caller) -> None:
    checks, order = SlowChecks(), list[str]()

    with caller:
        await checks.run(order.append, "first")
        with pytest.raises(InputRejected, match="Use fewer webhooks"):
            await checks.run(order.append, "second")
    with Caller(ONE):
        await checks.run(order.append, "of the next operation")

    assert order == ["first", "of the next operation"]
