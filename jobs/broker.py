"""Dramatiq, the engine: an in-process broker whose async actors run on the program's own event loop.

One loop serves the API, the dispatcher and the actors, so there is one database client and one write gate in the
process. The middleware list is empty but for the bridge to that loop: the retry schedule is Ringback's own, and a
second policy under it (Dramatiq's default is 20 retries over 40 days) would only repeat what the lease already finds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import dramatiq
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware

R = TypeVar("R")
Deliver = Callable[[UUID, Sequence[UUID]], Awaitable[None]]

#: How often an idle worker thread looks up, in milliseconds; messages wake it at once.
WORKER_TIMEOUT_MS = 1_000


class _ProgramLoop(EventLoopThread):
    """Stands in for Dramatiq's own loop thread: coroutines of actors go to a loop that runs already."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.interrupt_check_ival = 1.0


class LoopBridge(Middleware):
    """Lets async actors run on `loop` while the worker lives."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Point Dramatiq's async actors at the program's loop."""
        set_event_loop_thread(_ProgramLoop(self._loop))

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Forget it."""
        set_event_loop_thread(None)


def in_process_broker(loop: asyncio.AbstractEventLoop) -> StubBroker:
    """A broker within this process; a message that a crash loses is found again by its lease."""
    return StubBroker(middleware=[LoopBridge(loop)])


def deliver_actor(broker: dramatiq.Broker, deliver: Deliver) -> Callable[[UUID, Sequence[UUID]], None]:
    """Declare the actor that delivers a batch; returns the function that sends it one. Messages carry only ids."""

    async def run(lease: str, event_ids: list[str]) -> None:
        await deliver(UUID(lease), [UUID(event_id) for event_id in event_ids])

    actor = dramatiq.actor(run, broker=broker, actor_name="deliver", queue_name="deliveries")

    def enqueue(lease: UUID, event_ids: Sequence[UUID]) -> None:
        actor.send(str(lease), [str(event_id) for event_id in event_ids])

    return enqueue
