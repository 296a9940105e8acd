"""Dramatiq, the engine: an in-process broker whose actor hands batches to the program's own event loop.

One loop serves the API, the dispatcher and the deliveries, so there is one database client and one write gate in the
process. The list of middleware is empty: the retry schedule is Ringback's own, and a second policy under it (Dramatiq's
default is 20 retries over 40 days) would only repeat what the lease already finds. An actor's thread is held only while
a batch is picked up, not while it is delivered, so a few threads are enough.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from uuid import UUID

import dramatiq
import structlog
from dramatiq.brokers.stub import StubBroker

logger = structlog.get_logger("ringback.broker")

Take = Callable[[UUID, Sequence[UUID]], Awaitable[None]]

#: How often an idle worker thread looks up, in milliseconds; messages wake it at once.
WORKER_TIMEOUT_MS = 1_000


def in_process_broker() -> StubBroker:
    """A broker within this process; a message that a crash loses is found again by its lease."""
    return StubBroker(middleware=[])


def deliver_actor(
    broker: dramatiq.Broker, take: Take, loop: asyncio.AbstractEventLoop
) -> Callable[[UUID, Sequence[UUID]], None]:
    """Declare the actor that has `take` pick a batch up on `loop`; returns the function that sends it one.

    Messages carry only ids. The actor never raises: a batch that failed is brought back by its lease, and the broker
    would only keep the message for ever.
    """

    async def taken(lease: UUID, event_ids: Sequence[UUID]) -> None:
        await take(lease, event_ids)

    def run(lease: str, event_ids: list[str]) -> None:
        batch = taken(UUID(lease), [UUID(event_id) for event_id in event_ids])
        try:
            asyncio.run_coroutine_threadsafe(batch, loop).result()
        except CancelledError:
            logger.info("stopped before a batch was picked up", action="take", lease=lease)
        except Exception:
            logger.exception("cannot pick up a batch; its lease will bring it back", action="take", lease=lease)

    actor = dramatiq.actor(broker=broker, actor_name="deliver", queue_name="deliveries")(run)

    def enqueue(lease: UUID, event_ids: Sequence[UUID]) -> None:
        actor.send(str(lease), [str(event_id) for event_id in event_ids])

    return enqueue
