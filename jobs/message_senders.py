"""Sends Dramatiq messages from an event loop: in process, to Redis without a thread, or to RabbitMQ in a thread.

Dramatiq's own brokers block. A thread that sends to Redis would wait for the GIL until the request that has just
committed is answered, which takes longer than sending the message.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from uuid import uuid4

import dramatiq
from dramatiq.brokers.stub import StubBroker

from ringback.jobs.broker import ANSWER_SECONDS, NAMESPACE, is_redis


class MessageSender(Protocol):
    """A connection that sends messages to one broker. Its methods raise the errors of the broker's driver."""

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message."""

    async def count(self, queue_name: str) -> int:
        """Return the number of waiting messages in a queue, or 0 if they cannot accumulate."""

    async def close(self) -> None:
        """Close the connection."""


def open_sender(broker: dramatiq.Broker, broker_url: str) -> MessageSender:
    """Return the sender for a broker at this URL. It connects at its first use."""
    if isinstance(broker, StubBroker):
        return InProcessSender(broker)
    if is_redis(broker_url):
        return RedisSender(broker_url)
    return ThreadSender(broker)


class InProcessSender:
    """A sender to the queue in memory, whose worker is in this process."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker = broker

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message."""
        self._broker.enqueue(message)

    async def count(self, queue_name: str) -> int:
        """Return 0, since a worker is running."""
        return 0

    async def close(self) -> None:
        """Do nothing."""


class RedisSender:
    """A sender to Redis: Dramatiq's broker on an asyncio client, so that its commands return coroutines."""

    def __init__(self, url: str) -> None:
        import redis.asyncio  # noqa: PLC0415 - an optional driver
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415

        class Broker(RedisBroker):
            """A broker that does not ask Redis for this number, which enqueuing does not need."""

            _max_unpack_size_val = 1  # type: ignore[assignment]

        self._client = redis.asyncio.Redis.from_url(
            url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )
        self._broker: Any = Broker(  # type: ignore[no-untyped-call]
            client=self._client, middleware=[], namespace=NAMESPACE, maintenance_chance=0
        )

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message, as `RedisBroker.enqueue` does."""
        message_id = str(uuid4())
        stored = message.copy(options={"redis_message_id": message_id})
        await self._broker.do_enqueue(message.queue_name, message_id, stored.encode())

    async def count(self, queue_name: str) -> int:
        """Return the number of waiting messages in a queue."""
        return int(await self._broker.do_qsize(queue_name))

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class ThreadSender:
    """A sender in a thread of its own: a pika connection must stay in one thread."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker: Any = broker
        self._thread = ThreadPoolExecutor(1, "ringback-announce")

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message."""
        self._broker.declare_queue(message.queue_name)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._broker.enqueue, message)

    async def count(self, queue_name: str) -> int:
        """Return the number of waiting messages in a queue."""
        loop = asyncio.get_running_loop()
        counts = await loop.run_in_executor(self._thread, self._broker.get_queue_message_counts, queue_name)
        ready, _, _ = counts
        return int(ready)

    async def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
