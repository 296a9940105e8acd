"""Wake-ups between processes, by Redis's publish and subscribe.

They hurry what a poll would find within a second, so nothing waits for them: a Redis that is away is said once, its
wake-ups are dropped, and when it is back every loop is woken, whatever it missed.
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

logger = structlog.get_logger("ringback.wakeups")

#: How long Redis may take to answer, in seconds.
TIMEOUT_SECONDS = 2.0
#: How long a Redis that is away is left alone between two tries, in seconds.
PAUSE_SECONDS = 1.0
#: How often a silent connection is probed, in seconds: one that was cut off without a word is found so.
PROBE_SECONDS = 10.0

#: What this carries: that events are due is a message of Dramatiq's.
_TOPICS = frozenset({Topic.LOGGED, Topic.RECEIVED})
#: Seconds before a message, in which wake-ups gather, and after it: a process that commits hundreds of times a second
#: would be busy with publishing. In the first of them, the message that events are due goes out (6 % of the time from
#: a commit to its request).
GATHER_SECONDS, REST_SECONDS = 0.005, 0.005


@contextlib.asynccontextmanager
async def relay_over_redis(wakeups: Notifier, url: str, channel: str) -> AsyncIterator[None]:
    """Share wake-ups with all processes on the same channel of a Redis while the block runs."""
    relay = _Relay(wakeups, url, channel)
    tasks = [asyncio.create_task(relay.keep_at(work)) for work in (relay.publish, relay.receive)]
    try:
        with wakeups.relayed(relay.hand_over):
            yield
    finally:
        await end_tasks(*tasks)


class _Relay:
    """Publishes this process's wake-ups, as one where they come faster than Redis takes them, and wakes by others'."""

    def __init__(self, wakeups: Notifier, url: str, channel: str) -> None:
        self._wakeups = wakeups
        self._url = url
        self._channel = channel
        self._origin = uuid4().hex
        self._loop = asyncio.get_running_loop()
        self._waiting: set[Topic] = set()
        self._handed_over = asyncio.Event()
        self._away = False

    def hand_over(self, topic: Topic) -> None:
        """Have a wake-up published, from whatever thread."""
        if topic not in _TOPICS:
            return
        self._waiting.add(topic)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._handed_over.set)

    async def keep_at(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this for ever, and begin anew when Redis is back."""
        while True:
            try:
                await work()
            except (RedisError, OSError) as error:
                if not self._away:
                    self._away = True
                    logger.warning("Redis is away; wake-ups wait for the next poll", action="wake", reason=str(error))
                await asyncio.sleep(PAUSE_SECONDS)

    async def publish(self) -> None:
        """Publish what is handed over, as long as Redis is there."""
        async with self._client() as redis:
            while True:
                await self._handed_over.wait()
                await asyncio.sleep(GATHER_SECONDS)
                self._handed_over.clear()
                topics, self._waiting = self._waiting, set()
                await redis.publish(self._channel, " ".join((self._origin, *topics)))
                await asyncio.sleep(REST_SECONDS)

    async def receive(self) -> None:
        """Wake by what others publish, as long as Redis is there."""
        async with self._client() as redis, redis.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            if self._away:
                self._away = False
                logger.info("Redis is back", action="wake")
            for topic in _TOPICS:
                self._wakeups.wake(topic)
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=PROBE_SECONDS)
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    self._woken(message["data"])

    def _woken(self, data: bytes) -> None:
        origin, *topics = data.decode("utf-8", "replace").split(" ")
        if origin == self._origin:
            return
        for topic in _TOPICS.intersection(topics):  # a newer program may know more
            self._wakeups.wake(Topic(topic))

    def _client(self) -> "Redis":
        return Redis.from_url(self._url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
