"""Sends the message that events are due, after commits of this process.

Who commits needs this: `ringback api` and `ringback worker` do it, and `ringback serve` within its one process. An
application that records changes in a process of its own does it by `announce_due_events`; without it, workers notice
such changes at their next poll, within a second.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import dramatiq
import structlog

from ringback.jobs.actors import QUEUE, due_message
from ringback.jobs.broker import is_remote, open_broker
from ringback.jobs.message_senders import MessageSender, open_sender
from ringback.models.background_tasks import end_tasks
from ringback.models.database.notifications import Listener, Topic, notifier

logger = structlog.get_logger("ringback.broker")

#: Seconds between two messages of one process, at the least: one message stands for any number of events.
TOGETHER_SECONDS = 0.005
#: Messages that may wait in the queue before no more are sent: while no worker runs, they would only pile up.
MAX_WAITING = 20
#: Messages of one process between two counts of those that wait. Eight processes that count at the same time leave no
#: more than a hundred.
COUNT_EVERY = 10
#: Seconds for which a full queue, or a broker that is away, is left alone.
FULL_SECONDS, PAUSE_SECONDS = 0.2, 1.0


@contextlib.asynccontextmanager
async def announce_due_events(broker_url: str) -> AsyncIterator[None]:
    """Tell workers elsewhere, while the block runs, of events that this process commits.

    `broker_url` is what their RINGBACK_BROKER_URL says. With an empty one, there is nobody to tell. Raises
    ConfigurationError when the driver of the broker is not installed.
    """
    if not is_remote(broker_url):
        yield
        return
    broker = open_broker(broker_url)
    try:
        async with announcing(broker, broker_url):
            yield
    finally:
        broker.close()


@contextlib.asynccontextmanager
async def announcing(broker: dramatiq.Broker, broker_url: str) -> AsyncIterator[None]:
    """Send the message that events are due, while the block runs, after each commit that calls for it."""
    sender = open_sender(broker, broker_url)
    listener = notifier.listen(Topic.DUE)
    running = asyncio.create_task(_announce(sender, listener))
    try:
        yield
    finally:
        await end_tasks(running)
        await sender.close()


async def _announce(sender: MessageSender, listener: Listener) -> None:
    """Send one message for all wake-ups that came together; while the broker is away, they are dropped."""
    uncounted = COUNT_EVERY
    while True:
        await listener.wait()
        try:
            if uncounted >= COUNT_EVERY:
                if await sender.count(QUEUE) >= MAX_WAITING:
                    await asyncio.sleep(FULL_SECONDS)
                    continue
                uncounted = 0
            await sender.send(due_message())
            uncounted += 1
        except Exception as error:
            logger.warning("the broker is away; polls find what is due", action="announce", reason=str(error))
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(TOGETHER_SECONDS)
