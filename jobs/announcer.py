"""Sends the message that events are due, after commits of this process.

Who commits needs this: `ringback api` and `ringback worker` do it, and `ringback serve` within its one process. An
application that records changes in a process of its own does it by `announce_due_events`; without it, workers notice
such changes at their next poll, within a second.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import dramatiq
import structlog
from dramatiq.brokers.stub import StubBroker

from ringback.jobs.actors import QUEUE, due_message
from ringback.jobs.broker import count_messages, is_remote, open_broker
from ringback.models.wakeups import Topic, wakeups

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
        async with announcing(broker):
            yield
    finally:
        broker.close()


@contextlib.asynccontextmanager
async def announcing(broker: dramatiq.Broker) -> AsyncIterator[None]:
    """Send the message that events are due, while the block runs, after each commit that calls for it."""
    announcer = _Announcer(broker)
    running = asyncio.create_task(announcer.run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        announcer.close()


class _Announcer:
    """Waits for wake-ups of this process, and sends one message for all that came together."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker = broker
        self._listener = wakeups.listen(Topic.DUE)
        self._uncounted = COUNT_EVERY
        # A server is talked to in a thread, always the same one: pika's connections belong to theirs.
        self._thread = None if isinstance(broker, StubBroker) else ThreadPoolExecutor(1, "ringback-announce")
        broker.declare_queue(QUEUE)

    async def run(self) -> None:
        """Send until cancelled; while the broker is away, messages are dropped."""
        while True:
            await self._listener.wait()
            try:
                await self._send()
            except Exception as error:
                logger.warning("the broker is away; polls find what is due", action="announce", reason=str(error))
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(TOGETHER_SECONDS)

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _send(self) -> None:
        if self._thread is None:
            self._broker.enqueue(due_message())
            return
        loop = asyncio.get_running_loop()
        if self._uncounted >= COUNT_EVERY:
            waiting = await loop.run_in_executor(self._thread, count_messages, self._broker, QUEUE)
            if waiting >= MAX_WAITING:
                await asyncio.sleep(FULL_SECONDS)
                return
            self._uncounted = 0
        await loop.run_in_executor(self._thread, self._broker.enqueue, due_message())
        self._uncounted += 1
