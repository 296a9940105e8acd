"""Notifications between processes over Redis publish/subscribe.

A lost notification delays its listener by at most the second until the next poll. So nothing waits for Redis: an
outage is logged once, and its notifications are dropped. All listeners wake when Redis is back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ringback.models.background_tasks import end_tasks
from ringback.models.database.notifications import Notifier, Topic

logger = structlog.get_logger("ringback.notifications")

#: Seconds that Redis has to answer.
TIMEOUT_SECONDS = 2.0
#: Seconds between two attempts to reach Redis.
RECONNECT_SECONDS = 1.0
#: Seconds of silence after which a connection is checked with a PING, which detects one that was cut off.
PING_SECONDS = 10.0

#: The relayed topics. Due events are announced by a Dramatiq message.
_TOPICS = frozenset({Topic.LOGGED, Topic.RECEIVED})
#: Seconds before each message, to batch notifications and to let the message about due events go first.
BATCH_SECONDS = 0.005
#: Seconds after each message, so that hundreds of commits a second do not keep the process busy with publishing.
PAUSE_SECONDS = 0.005


@contextlib.asynccontextmanager
async def relay_over_redis(notifier: Notifier, url: str, channel: str) -> AsyncIterator[None]:
    """Share notifications with all processes on the same channel of a Redis while the block runs."""
    relay = _Relay(notifier, url, channel)
    publishing = asyncio.create_task(relay.run_forever(relay.publish))
    receiving = asyncio.create_task(relay.run_forever(relay.receive))
    try:
        with notifier.relay_to(relay.forward):
            yield
    finally:
        await end_tasks(publishing, receiving)


class _Relay:
    """A connection of one process's notifier to a Redis channel.

    A message is the sender's id and the topics, separated by spaces.
    """

    def __init__(self, notifier: Notifier, url: str, channel: str) -> None:
        self._notifier = notifier
        self._url = url
        self._channel = channel
        self._sender_id = uuid4().hex
        self._loop = asyncio.get_running_loop()
        self._waiting: set[Topic] = set()
        self._has_waiting = asyncio.Event()
        self._is_down = False

    def forward(self, topic: Topic) -> None:
        """Queue a notification for publishing. May be called from any thread."""
        if topic not in _TOPICS:
            return
        self._waiting.add(topic)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._has_waiting.set)

    async def run_forever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, and start it again after each failure of Redis."""
        while True:
            try:
                await work()
            except (RedisError, OSError) as error:
                if not self._is_down:
                    self._is_down = True
                    logger.warning(
                        "Redis does not answer, so other processes notice changes at their next poll",
                        action="wake",
                        reason=str(error),
                    )
                await asyncio.sleep(RECONNECT_SECONDS)

    async def publish(self) -> None:
        """Publish queued notifications until Redis fails."""
        async with self._connect() as redis:
            while True:
                await self._has_waiting.wait()
                await asyncio.sleep(BATCH_SECONDS)
                self._has_waiting.clear()
                topics, self._waiting = self._waiting, set()
                await redis.publish(self._channel, " ".join((self._sender_id, *topics)))
                await asyncio.sleep(PAUSE_SECONDS)

    async def receive(self) -> None:
        """Wake listeners for the messages of other processes until Redis fails."""
        async with self._connect() as redis, redis.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            if self._is_down:
                self._is_down = False
                logger.info("Redis is back", action="wake")
            for topic in _TOPICS:
                self._notifier.wake(topic)
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=PING_SECONDS)
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    self._on_message(message["data"])

    def _on_message(self, data: bytes) -> None:
        sender_id, *topics = data.decode("utf-8", "replace").split(" ")
        if sender_id == self._sender_id:
            return
        for topic in _TOPICS.intersection(topics):  # a newer version may send others
            self._notifier.wake(Topic(topic))

    def _connect(self) -> "Redis":
        return Redis.from_url(self._url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
