"""The actor: it accepts messages, passes them on, and never raises."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from ringback.jobs.actors import ACTOR, QUEUE, declare_actors, due_message
from tests.support.patience import PATIENCE_SECONDS


class Receiver:
    """A fake claimer that counts messages; `refusals` of them should go on to another worker."""

    def __init__(self, *, refusals: int = 0, error: BaseException | None = None) -> None:
        self.accepted = 0
        self.refusals = refusals
        self.error = error
        self.threads: set[threading.Thread] = set()
        self._came = asyncio.Event()

    async def accept_message(self) -> bool:
        self.threads.add(threading.current_thread())
        self._came.set()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self.refusals:
            self.refusals -= 1
            return False
        self.accepted += 1
        return True

    async def wait_for(self, accepted: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.accepted < accepted:
                self._came.clear()
                await self._came.wait()
                await asyncio.sleep(0)


@asynccontextmanager
async def consume(receiver: Receiver) -> AsyncIterator[StubBroker]:
    """Run a Dramatiq worker with the actor while the block runs."""
    broker = StubBroker(middleware=[])
    declare_actors(broker, receiver.accept_message)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        yield broker
    finally:
        await asyncio.to_thread(worker.stop, 5_000)
        broker.close()


def test_a_message_carries_nothing() -> None:
    message = due_message()

    assert (message.actor_name, message.queue_name) == (ACTOR, QUEUE) == ("deliver_due_events", "ringback-due-events")
    assert (message.args, message.kwargs, message.options) == ((), {}, {})


async def test_a_message_is_accepted_on_the_loop_of_the_worker() -> None:
    receiver = Receiver()

    async with consume(receiver) as broker:
        broker.enqueue(due_message())
        await receiver.wait_for(1)

    assert receiver.threads == {threading.current_thread()}


async def test_a_refused_message_is_sent_again() -> None:
    receiver = Receiver(refusals=3)

    async with consume(receiver) as broker:
        broker.enqueue(due_message())
        await receiver.wait_for(1)
        await asyncio.sleep(0.1)

    assert (receiver.refusals, receiver.accepted) == (0, 1)


@pytest.mark.parametrize(
    "error", [OSError("the database is away"), RuntimeError("the loop has ended"), asyncio.CancelledError()]
)
async def test_an_error_drops_the_message_and_the_next_is_accepted(error: BaseException) -> None:
    receiver = Receiver(error=error)

    async with consume(receiver) as broker:
        for _ in range(2):
            broker.enqueue(due_message())
        await receiver.wait_for(1)
        await asyncio.sleep(0.1)

        assert receiver.accepted == 1
        assert broker.queues[QUEUE].qsize() == 0
        assert broker.dead_letters == []


def test_a_message_after_the_loop_has_ended_raises_nothing() -> None:
    broker = StubBroker(middleware=[])

    async def declare() -> None:
        declare_actors(broker, Receiver().accept_message)

    asyncio.run(declare())
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        broker.get_actor(ACTOR)()
