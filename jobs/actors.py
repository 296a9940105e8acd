"""The Dramatiq actor: its message says that events are due, and the worker that receives it claims as many as it can.

The message carries no data. A lost, duplicated or late one costs time, never an event.
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
    """The receiver of messages, on the event loop of the deliveries."""

    async def accept_message(self) -> bool:
        """Claim due events; returns False if the message should go on to another worker."""


def due_message() -> dramatiq.Message[None]:
    """Return the message that events are due."""
    return dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(), kwargs={}, options={})


def declare_actors(broker: dramatiq.Broker, receiver: Receiver) -> None:
    """Declare the actor of a worker process, whose receiver belongs to the running loop.

    At module level, Dramatiq would bind the actor to one global broker. A process may have several (tests do), and the
    receiver is made with the worker.
    """
    loop = asyncio.get_running_loop()

    @dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)
    def deliver_due_events() -> None:
        """Let the receiver claim, and send the message again if another worker should have it. Never raises."""
        try:
            accepted = asyncio.run_coroutine_threadsafe(receiver.accept_message(), loop).result()
            if not accepted:
                deliver_due_events.send()
        except (CancelledError, RuntimeError):  # the loop is closed
            logger.info("message dropped: the worker has stopped", action="claim")
        except Exception as error:
            logger.warning("message dropped; a poll will find the due events", action="claim", reason=str(error))
