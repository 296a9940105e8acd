"""Sends the message that events are due, after commits of this process.

`ringback api`, `ringback worker` and `ringback serve` do this on their own. An application that records changes in its
own process uses `announce_due_events`. Otherwise workers find such events at their next poll, within a second.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import dramatiq
import structlog

from ringback.jobs.actors import QUEUE, due_message
from ringback.jobs.broker import open_broker
from ringback.jobs.message_senders import MessageSender, open_sender
from ringback.models.background_tasks import end_tasks
from ringback.models.database.notifications import Listener, Topic, notifier

logger = structlog.get_logger("ringback.broker")

#: Minimum number of seconds between two messages of one process: one message stands for any number of events.
TOGETHER_SECONDS = 0.005
#: No message is sent while this many wait: without a worker they would only accumulate.
MAX_WAITING = 20
#: Messages between two counts of the queue. Eight processes that count at the same time leave at most a hundred.
COUNT_EVERY = 10
#: Seconds without messages after the queue was full.
FULL_SECONDS = 0.2
#: Seconds without messages after the broker was unavailable.
PAUSE_SECONDS = 1.0


@contextlib.asynccontextmanager
async def announce_due_events(broker_url: str) -> AsyncIterator[None]:
    """Notify workers, while the block runs, of due events that this process commits.

    `broker_url` is the workers' RINGBACK_BROKER_URL. If it is empty, no other process can be notified. Raises
    ConfigurationError if the broker's driver is not installed.
    """
    if not broker_url:
        yield
        return
    broker = open_broker(broker_url)
    try:
        async with send_announcements(broker, broker_url):
            yield
    finally:
        broker.close()


@contextlib.asynccontextmanager
async def send_announcements(broker: dramatiq.Broker, broker_url: str) -> AsyncIterator[None]:
    """Send the message, while the block runs, after each commit with an event that is due soon."""
    sender = open_sender(broker, broker_url)
    listener = notifier.listen(Topic.DUE)
    task = asyncio.create_task(_send_messages(sender, listener))
    try:
        yield
    finally:
        await end_tasks(task)
        await sender.close()


async def _send_messages(sender: MessageSender, listener: Listener) -> None:
    """Send one message for all notifications that arrive together. While the broker is unavailable, drop them."""
    sent_since_count = COUNT_EVERY
    while True:
        await listener.wait()
        try:
            if sent_since_count >= COUNT_EVERY:
                if await sender.count(QUEUE) >= MAX_WAITING:
                    await asyncio.sleep(FULL_SECONDS)
                    continue
                sent_since_count = 0
            await sender.send(due_message())
            sent_since_count += 1
        except Exception as error:
            logger.warning(
                "cannot reach the broker of RINGBACK_BROKER_URL; polls will find due events",
                action="announce",
                reason=str(error),
                again_in_seconds=PAUSE_SECONDS,
            )
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(TOGETHER_SECONDS)
