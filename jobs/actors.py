"""The Dramatiq actor: a message says that events are due, and the worker that consumes it claims what it has slots for.

The message carries nothing. One that is lost, doubled or late costs time, and never an event.
"""

import asyncio
from concurrent.futures import CancelledError
from typing import Protocol

import dramatiq
import structlog

logger = structlog.get_logger("ringback.broker")

QUEUE = "ringback-due-events"
ACTOR = "deliver_due_events"


class Receiver(Protocol):
    """Receives the message, on the loop that deliveries run on."""

    async def accept_message(self) -> bool:
        """Claim what is due; returns False if the message should go on to another worker."""


def due_message() -> dramatiq.Message[None]:
    """Return the message that events are due."""
    return dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(), kwargs={}, options={})


def declare_actors(broker: dramatiq.Broker, receiver: Receiver) -> None:
    """Declare the actor of a worker process, whose receiver belongs to the running loop.

    It is declared here and not on module level, where Dramatiq binds an actor to one global broker: a process may hold
    several (tests do), and the receiver is made with the worker.
    """
    loop = asyncio.get_running_loop()

    @dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)
    def deliver_due_events() -> None:
        """Have the worker claim, and send the message on if another worker should have it. Never raises."""
        try:
            accepted = asyncio.run_coroutine_threadsafe(receiver.accept_message(), loop).result()
            if not accepted:
                deliver_due_events.send()
        except (CancelledError, RuntimeError):  # the loop has ended
            logger.info("stopped before a message was taken", action="claim")
        except Exception as error:
            logger.warning("message dropped; a poll finds what is due", action="claim", reason=str(error))
