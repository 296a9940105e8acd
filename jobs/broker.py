"""Dramatiq, the engine: a broker whose actor hands batches to the program's own event loop.

One loop serves the API, the dispatcher and the deliveries, so there is one database client in the process. The list of
middleware is empty: the retry schedule is Ringback's own, and a second policy under it (Dramatiq's default is 20
retries over 40 days) would only repeat what the lease already finds. An actor's thread is held only while a batch is
picked up, not while it is delivered, so a few threads are enough.

Within one process the broker is a queue in memory. On Redis or RabbitMQ one queue serves all worker processes, and
which of them picks a batch up is nobody's concern: a message that is lost is found again by the end of its lease.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from uuid import UUID

import dramatiq
import structlog
from dramatiq.brokers.stub import StubBroker

from ringback.models.errors import ConfigurationError

logger = structlog.get_logger("ringback.broker")

Take = Callable[[UUID, Sequence[UUID]], Awaitable[None]]

#: How often an idle thread looks up, in milliseconds; messages wake it at once.
WORKER_TIMEOUT_MS = 1_000
#: The same for those that stand between a server and the worker's threads, and are not to be waited for when it stops.
REMOTE_TIMEOUT_MS = 50
#: How long Redis is asked to wait for a message each time, in seconds.
WAIT_SECONDS = 0.5
#: How often it is looked whether there is room again, in milliseconds.
ROOM_MS = 10
#: Threads that pick up batches from a broker elsewhere.
REMOTE_THREADS = 2
#: How long a server may take to answer, in seconds.
ANSWER_SECONDS = 5.0
#: When Redis gives a dead worker's messages to others: after so many milliseconds, looked for by each fifth command.
HEARTBEAT_MS, MAINTENANCE_CHANCE = 5_000, 200_000
#: Names begin with this on servers that others use too.
NAMESPACE = "ringback"
QUEUE = "ringback-deliveries"


def is_remote(url: str) -> bool:
    """Whether the broker of this address serves other processes too."""
    return url != ""


def open_broker(url: str) -> dramatiq.Broker:
    """The broker of an address: `redis(s)://…`, `amqp(s)://…`, or the one within this process for an empty one.

    It connects when it is first used. Raises ConfigurationError when its driver is not installed.
    """
    scheme = url.partition(":")[0].removesuffix("s")
    if scheme == "redi":
        return _redis_broker(url)
    if scheme == "amqp":
        return _rabbitmq_broker(url)
    return in_process_broker()


def in_process_broker() -> StubBroker:
    """A broker within this process; a message that a crash loses is found again by its lease."""
    return StubBroker(middleware=[])


def _redis_broker(url: str) -> dramatiq.Broker:
    try:
        import redis  # noqa: PLC0415 - an optional driver
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            'RINGBACK_BROKER_URL names Redis, but its driver is missing: pip install "ringback[redis]"'
        ) from error
    client = redis.Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)

    class Broker(RedisBroker):
        """Dramatiq's, but Redis tells of messages as they come: Dramatiq's own would ask a hundred times a second.

        They are asked for while `has_room` says so: what waits here could be under way elsewhere. Delayed ones are
        looked for seldom: there are none, the schedule is the database's.
        """

        has_room: Callable[[], bool] = staticmethod(lambda: True)
        #: Whether this Redis can tell of messages, by BLMOVE; those before 6.2 are asked, as Dramatiq does it.
        tells = True

        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
            """Whoever asks for the messages of a queue."""
            delayed = queue_name == dramatiq.common.dq_name(queue_name)
            return super().consume(queue_name, REMOTE_THREADS, WORKER_TIMEOUT_MS if delayed else ROOM_MS)

        def do_fetch(self, queue_name: str, prefetch: int) -> list[bytes]:
            """A message; when there is none, a new one is waited for."""
            if not self.has_room():
                return []
            fetched = self._fetched(queue_name)
            if fetched or queue_name in self.delay_queues or not self._comes(queue_name) or not self.has_room():
                return fetched
            return self._fetched(queue_name)

        def _fetched(self, queue_name: str) -> list[bytes]:
            fetched: list[bytes] = self._dispatch("fetch")(queue_name, 1)  # type: ignore[no-untyped-call]
            return fetched

        def _comes(self, queue_name: str) -> bool:
            """Wait until there is a message, which stays where it is: the first one is moved to its own place."""
            queue = f"{self.namespace}:{queue_name}"
            if self.tells:
                try:
                    moved = client.execute_command(  # type: ignore[no-untyped-call]
                        "BLMOVE", queue, queue, "LEFT", "LEFT", WAIT_SECONDS
                    )
                    return moved is not None
                except redis.ResponseError as error:
                    # Others pass, such as that of a server which is being replaced.
                    refused = isinstance(error, redis.exceptions.NoPermissionError)
                    if refused or "unknown command" in str(error).lower():
                        logger.warning("Redis cannot tell of batches and is asked", action="take", reason=str(error))
                        self.tells = False
            return False

    return Broker(  # type: ignore[no-untyped-call]
        client=client,
        middleware=[],
        namespace=NAMESPACE,
        heartbeat_timeout=HEARTBEAT_MS,
        maintenance_chance=MAINTENANCE_CHANCE,
    )


def _rabbitmq_broker(url: str) -> dramatiq.Broker:
    try:
        import pika  # noqa: PLC0415 - an optional driver
        from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            'RINGBACK_BROKER_URL names RabbitMQ, but its driver is missing: pip install "ringback[rabbitmq]"'
        ) from error
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.blocked_connection_timeout = ANSWER_SECONDS

    class Broker(RabbitmqBroker):
        """Dramatiq's, whose thread for each queue looks up often enough to be stopped."""

        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
            """Whoever takes the messages of a queue."""
            return super().consume(queue_name, prefetch, REMOTE_TIMEOUT_MS)

    broker = Broker(middleware=[])
    broker.parameters = parameters
    return broker


class Deliveries:
    """The actor that has `take` pick a batch up on the running loop, and the way to send it one.

    Messages carry only ids. The actor never raises: a batch that failed is brought back by its lease, and the broker
    would only keep the message for ever.
    """

    def __init__(self, broker: dramatiq.Broker, take: Take, has_room: Callable[[], bool] = lambda: True) -> None:
        self._take = take
        if hasattr(broker, "has_room"):
            broker.has_room = has_room
        self._loop = asyncio.get_running_loop()
        self._actor = dramatiq.actor(broker=broker, actor_name="deliver", queue_name=QUEUE)(self._run)
        # A server is talked to in a thread, always the same one: pika's connections belong to theirs.
        self._thread = None if isinstance(broker, StubBroker) else ThreadPoolExecutor(1, "ringback-enqueue")

    async def enqueue(self, batches: Sequence[tuple[UUID, Sequence[UUID]]]) -> None:
        """Hand batches over, each with its lease; raises whatever the broker's driver raises when it is not reached.

        Some of them may have gone out then.
        """
        messages = [self._actor.message(str(lease), [str(event_id) for event_id in ids]) for lease, ids in batches]
        if self._thread is None:
            self._send(messages)
        else:
            await self._loop.run_in_executor(self._thread, self._send, messages)

    def _send(self, messages: Sequence[dramatiq.Message[None]]) -> None:
        for message in messages:
            self._actor.broker.enqueue(message)

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, lease: str, event_ids: list[str]) -> None:
        batch = self._taken(UUID(lease), [UUID(event_id) for event_id in event_ids])
        try:
            asyncio.run_coroutine_threadsafe(batch, self._loop).result()
        except CancelledError:
            logger.info("stopped before a batch was picked up", action="take", lease=lease)
        except Exception:
            logger.exception("cannot pick up a batch; its lease will bring it back", action="take", lease=lease)

    async def _taken(self, lease: UUID, event_ids: Sequence[UUID]) -> None:
        await self._take(lease, event_ids)
