"""Tests of the turns in which writers and readers get SQLite: by API token, with a line of its own for the worker."""

import asyncio
import datetime as dt
import random
from collections.abc import Coroutine, Iterable
from contextvars import copy_context
from typing import Any
from uuid import UUID

import pytest
from tortoise.transactions import in_transaction

from ringback.models.api_token import ApiToken
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.services.inboxes import Inboxes, InboxResponse, Received
from ringback.models.services.slow_checks import Caller
from tests.support.builders import BOX
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("database")
ONE, OTHER = UUID(int=1), UUID(int=2)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def start_apart(works: Iterable[Coroutine[Any, Any, None]]) -> list[asyncio.Task[None]]:
    """Start tasks that inherit nothing from each other."""
    return [asyncio.create_task(work, context=copy_context()) for work in works]


async def write(token_id: UUID | None, order: list[str], name: str) -> None:
    """Run a transaction with a savepoint."""
    with Caller(token_id):
        async with in_transaction(), in_transaction():
            order.append(name)


async def write_one_statement(token_id: UUID, order: list[str], name: str) -> None:
    with Caller(token_id):
        await ApiToken.all().update(last_used_at=None)
        order.append(name)


async def test_the_worker_and_other_tokens_do_not_wait_for_all_writers_of_a_token() -> None:
    order: list[str] = []

    works = [write(ONE, order, "one") for _ in range(40)]
    works += [
        write(OTHER, order, "other"),
        write_one_statement(OTHER, order, "statement"),
        write(None, order, "worker"),
    ]
    await asyncio.gather(*start_apart(works))

    assert order == ["one", "one", "other", "worker", "one", "statement", *["one"] * 37]


async def test_the_worker_and_other_tokens_do_not_wait_for_all_readers_of_a_token() -> None:
    order: list[str] = []

    async def read(token_id: UUID | None, name: str) -> None:
        with Caller(token_id):
            await Inbox.all().count()
        order.append(name)

    works = [*(read(ONE, "one") for _ in range(20)), read(OTHER, "other"), read(None, "worker")]
    await asyncio.gather(*start_apart(works))

    assert order == ["one", "one", "other", "worker", *["one"] * 18]


async def test_the_worker_does_not_wait_for_all_requests_of_inboxes() -> None:
    inboxes, order = Inboxes(BOX), list[str]()
    inbox = await inboxes.create(None, [InboxResponse()])

    async def receive() -> None:
        await inboxes.receive(inbox.token, Received("POST", "/", (), b"", None))
        order.append("request")

    await asyncio.gather(*start_apart([*(receive() for _ in range(20)), write(None, order, "worker")]))

    assert order.index("worker") <= 2
    assert await InboxRequest.filter(inbox_id=inbox.id).count() == 20


async def test_cancelled_writers_keep_no_other_waiting() -> None:
    randomly = random.Random(7)

    async def create(number: int) -> None:
        with Caller(randomly.choice((ONE, OTHER, None))):
            await Inbox.create(token=str(number), responses=[], created_at=NOW)

    for first in range(0, 400, 20):
        tasks = start_apart(create(number) for number in range(first, first + 20))
        for task in tasks[:10]:
            asyncio.get_running_loop().call_later(randomly.random() * 0.006, task.cancel)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks[10:]] == [False] * 10

    created = {int(inbox.token) for inbox in await Inbox.all()}
    assert len([number for number in created if number % 20 >= 10]) == 200


async def test_a_writer_that_waits_for_its_turn_times_out() -> None:
    order: list[str] = []
    outside = copy_context()
    async with in_transaction():
        waiting = asyncio.create_task(asyncio.wait_for(write(ONE, order, "late"), 0.01), context=outside)
        with pytest.raises(TimeoutError):
            await waiting
        next_writer = asyncio.create_task(write(OTHER, order, "next"), context=outside)
        await asyncio.sleep(0)

    await next_writer
    assert order == ["next"]
