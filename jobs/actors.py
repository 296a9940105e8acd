"""The Dramatiq actor: its message says that events are due, and the worker that receives it claims as many as it can.

The message carries no data. A lost, duplicated or late one costs time, never an event.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

import dramatiq
import structlog

logger = structlog.get_logger("ringback.broker")

QUEUE = "ringback-due-events"
ACTOR = "deliver_due_events"


def due_message() -> dramatiq.Message[None]:
    """Return the message that events are due."""
    return dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(), kwargs={}, options={})


def declare_actors(broker: dramatiq.Broker, accept_message: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Declare the actor of a worker process. It calls `accept_message` on the running loop.

    `accept_message` claims due events, and returns False if the message should go on to another worker.

    At module level, Dramatiq would bind the actor to one global broker. A process may have several (tests do), and each
    worker has its own `accept_message`.
    """
    loop = asyncio.get_running_loop()

    @dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)
    def deliver_due_events() -> None:
        """Let the worker claim, and send the message again if another worker should have it. Never raises."""
        try:
            accepted = asyncio.run_coroutine_threadsafe(accept_message(), loop).result()
            if not accepted:
                deliver_due_events.send()
        except (CancelledError, RuntimeError):  # the loop is closed
            logger.info("message dropped: the worker has stopped", action="claim")
        except Exception as error:
            logger.warning("message dropped; a poll will find the due events", action="claim", reason=str(error))
