"""The in-process broker: a batch reaches the program's loop, and an actor that fails leaves nothing behind."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import dramatiq
import pytest
import pytest_asyncio
from dramatiq.brokers.stub import StubBroker

from ringback.jobs.broker import deliver_actor, in_process_broker


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[StubBroker]:
    made = in_process_broker()
    yield made
    made.close()


async def working(broker: StubBroker) -> dramatiq.Worker:
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=20)
    worker.start()
    return worker


def test_there_is_no_second_retry_policy() -> None:
    assert in_process_broker().middleware == []


async def test_a_batch_is_taken_on_the_loop_of_the_program(broker: StubBroker) -> None:
    taken: asyncio.Queue[tuple[UUID, list[UUID], threading.Thread]] = asyncio.Queue()

    async def take(lease: UUID, event_ids: Sequence[UUID]) -> None:
        taken.put_nowait((lease, list(event_ids), threading.current_thread()))

    enqueue = deliver_actor(broker, take, asyncio.get_running_loop())
    worker = await working(broker)
    lease, ids = uuid4(), [uuid4(), uuid4()]
    enqueue(lease, ids)
    assert await asyncio.wait_for(taken.get(), 5) == (lease, ids, threading.current_thread())
    await asyncio.to_thread(worker.stop, 1_000)


async def test_messages_carry_only_ids(broker: StubBroker) -> None:
    async def take(lease: UUID, event_ids: Sequence[UUID]) -> None:
        raise AssertionError("no worker runs")

    enqueue = deliver_actor(broker, take, asyncio.get_running_loop())
    lease, one = uuid4(), uuid4()
    enqueue(lease, [one])
    message = dramatiq.Message.decode(broker.queues["deliveries"].get_nowait())
    assert (message.actor_name, message.args, message.kwargs) == ("deliver", (str(lease), [str(one)]), {})


@pytest.mark.parametrize("error", [RuntimeError("the database is away"), asyncio.CancelledError()])
async def test_a_batch_that_fails_is_acknowledged_and_no_dead_letter_is_kept(
    broker: StubBroker, error: BaseException
) -> None:
    calls: asyncio.Queue[UUID] = asyncio.Queue()

    async def take(lease: UUID, event_ids: Sequence[UUID]) -> None:
        calls.put_nowait(lease)
        if len(event_ids) == 1:
            raise error

    enqueue = deliver_actor(broker, take, asyncio.get_running_loop())
    worker = await working(broker)
    enqueue(uuid4(), [uuid4()])
    enqueue(uuid4(), [uuid4(), uuid4()])
    for _ in range(2):
        await asyncio.wait_for(calls.get(), 5)
    await asyncio.to_thread(broker.join, "deliveries", timeout=5_000)
    await asyncio.to_thread(worker.stop, 1_000)
    assert broker.dead_letters == []
    assert calls.empty()
