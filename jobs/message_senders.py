"""Sends Dramatiq messages from an event loop: in process, to Redis without a thread, or to RabbitMQ by one.

Dramatiq's own brokers block. In a thread, a message to Redis would wait for Python's lock until the request that has
just committed is answered, which takes longer than sending it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from uuid import uuid4

import dramatiq
from dramatiq.brokers.stub import StubBroker

from ringback.jobs.broker import ANSWER_SECONDS, NAMESPACE, is_redis


class MessageSender(Protocol):
    """Sends messages to one broker. Its methods raise what the broker's driver raises."""

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message."""

    async def count(self, queue_name: str) -> int:
        """Return how many messages wait in a queue; 0 where they cannot pile up."""

    async def close(self) -> None:
        """Close the connection."""


def open_sender(broker: dramatiq.Broker, broker_url: str) -> MessageSender:
    """Return the sender for a broker and its address; it connects when it is first used."""
    if isinstance(broker, StubBroker):
        return InProcessSender(broker)
    return RedisSender(broker_url) if is_redis(broker_url) else ThreadSender(broker)


class InProcessSender:
    """Sends to the queue in memory, whose worker is in this process."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker = broker

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message."""
        self._broker.enqueue(message)

    async def count(self, queue_name: str) -> int:
        """Return 0: there is a worker."""
        return 0

    async def close(self) -> None:
        """Do nothing."""


class RedisSender:
    """Dramatiq's broker on a client of asyncio's: what it hands to the client comes back as a coroutine."""

    def __init__(self, url: str) -> None:
        import redis.asyncio  # noqa: PLC0415 - an optional driver
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415

        class Broker(RedisBroker):
            """It would ask Redis for this number, and not wait for the answer; enqueuing has no use for it."""

            _max_unpack_size_val = 1  # type: ignore[assignment]

        self._client = redis.asyncio.Redis.from_url(
            url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )
        self._broker: Any = Broker(  # type: ignore[no-untyped-call]
            client=self._client, middleware=[], namespace=NAMESPACE, maintenance_chance=0
        )

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message, as `RedisBroker.enqueue` does."""
        key = str(uuid4())
        named = message.copy(options={"redis_message_id": key})
        await self._broker.do_enqueue(message.queue_name, key, named.encode())

    async def count(self, queue_name: str) -> int:
        """Return how many messages wait in a queue."""
        return int(await self._broker.do_qsize(queue_name))

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class ThreadSender:
    """Sends in a thread, always the same one: pika's connections belong to theirs."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker: Any = broker
        self._thread = ThreadPoolExecutor(1, "ringback-announce")

    async def send(self, message: dramatiq.Message[None]) -> None:
        """Send one message."""
        self._broker.declare_queue(message.queue_name)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._broker.enqueue, message)

    async def count(self, queue_name: str) -> int:
        """Return how many messages wait in a queue."""
        count = self._broker.get_queue_message_counts
        ready, _, _ = await asyncio.get_running_loop().run_in_executor(self._thread, count, queue_name)
        return int(ready)

    async def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
