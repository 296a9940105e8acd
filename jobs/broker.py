"""Dramatiq's brokers: a queue in memory within one process, or one on Redis or RabbitMQ for all worker processes.

The list of middleware is empty: the retry schedule is Ringback's own, and a second policy under it (Dramatiq's default
is 20 retries over 40 days) would only repeat it.
"""

from collections.abc import Callable

import dramatiq
import structlog
from dramatiq.brokers.stub import StubBroker

from ringback.models.errors import ConfigurationError

logger = structlog.get_logger("ringback.broker")

#: How often an idle thread looks up, in milliseconds; messages wake it at once.
WORKER_TIMEOUT_MS = 1_000
#: The same for those that stand between a server and the worker's threads, and are not to be waited for when it stops.
REMOTE_TIMEOUT_MS = 50
#: How long Redis is asked to wait for a message each time, in seconds.
WAIT_SECONDS = 0.5
#: How long Dramatiq's consumer sleeps between two looks at Redis that found nothing, in milliseconds.
IDLE_MS = 10
#: How long a server may take to answer, in seconds.
ANSWER_SECONDS = 5.0
#: When Redis gives a dead worker's messages to others: after so many milliseconds, looked for by each fifth command.
HEARTBEAT_MS, MAINTENANCE_CHANCE = 5_000, 200_000
#: Names begin with this on servers that others use too.
NAMESPACE = "ringback"


def is_remote(url: str) -> bool:
    """Whether the broker of this address serves other processes too."""
    return url != ""


def is_redis(url: str) -> bool:
    """Whether the broker of this address is Redis."""
    return url.partition(":")[0] in ("redis", "rediss")


def open_broker(url: str, announce: Callable[[], None] = lambda: None) -> dramatiq.Broker:
    """The broker of an address: `redis(s)://…`, `amqp(s)://…`, or the one within this process for an empty one.

    It connects when it is first used. Redis's calls `announce`, in a thread, before it hands over a message. Raises
    ConfigurationError when the driver is not installed.
    """
    if is_redis(url):
        return _redis_broker(url, announce)
    return _rabbitmq_broker(url) if is_remote(url) else in_process_broker()


def in_process_broker() -> StubBroker:
    """A broker within this process."""
    return StubBroker(middleware=[])


def _redis_broker(url: str, announce: Callable[[], None]) -> dramatiq.Broker:
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

        It calls `announce` before it fetches a message: a claim that waits for the actor takes 7 % longer from the
        commit to the request. Delayed messages are looked for seldom: there are none, the schedule is the database's.
        """

        #: Whether this Redis can tell of messages, by BLMOVE; those before 6.2 are asked, as Dramatiq does it.
        tells = True

        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
            """Return what fetches the messages of a queue, one at a time: while one is handled, its thread sleeps."""
            delayed = queue_name == dramatiq.common.dq_name(queue_name)
            return super().consume(queue_name, 1, WORKER_TIMEOUT_MS if delayed else IDLE_MS)

        def do_fetch(self, queue_name: str, prefetch: int) -> list[bytes]:
            """A message; when there is none, a new one is waited for."""
            fetched = self._fetched(queue_name)
            if queue_name in self.delay_queues:
                return fetched
            if fetched:
                announce()
            elif self._comes(queue_name):
                announce()
                fetched = self._fetched(queue_name)
            return fetched

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
                        logger.warning("Redis cannot tell of messages and is asked", action="take", reason=str(error))
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
