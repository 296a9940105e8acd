"""Dramatiq brokers: a queue in memory for one process, or one on Redis or RabbitMQ for all worker processes.

They have no middleware. Ringback has a retry schedule of its own, and Dramatiq's (20 retries over 40 days by default)
would repeat attempts on top of it.
"""

from collections.abc import Callable

import dramatiq
import structlog
from dramatiq.brokers.stub import StubBroker

from ringback.models.errors import ConfigurationError

logger = structlog.get_logger("ringback.broker")

#: Milliseconds after which an idle thread checks whether to stop; messages wake it at once.
WORKER_TIMEOUT_MS = 1_000
#: The same for the threads that fetch messages from RabbitMQ, which delay the stop of a worker.
REMOTE_TIMEOUT_MS = 50
#: Seconds of each blocking wait for a message at Redis.
WAIT_SECONDS = 0.5
#: Milliseconds that Dramatiq's consumer sleeps after it has found no message at Redis.
IDLE_MS = 10
#: Seconds that a server has to answer a command.
ANSWER_SECONDS = 5.0
#: Milliseconds without a heartbeat after which Redis gives a dead worker's messages to others.
HEARTBEAT_MS = 5_000
#: How many of 1,000,000 commands look for dead workers: every fifth.
MAINTENANCE_CHANCE = 200_000
#: Prefix of Ringback's names on servers that other programs share.
NAMESPACE = "ringback"


def is_redis(url: str) -> bool:
    """Return whether the broker at this URL is Redis."""
    return url.partition(":")[0] in ("redis", "rediss")


def open_broker(url: str, announce: Callable[[], None] = lambda: None) -> dramatiq.Broker:
    """Return the broker at `redis(s)://…` or `amqp(s)://…`, or, for an empty URL, one within this process.

    It connects at its first use. The Redis broker calls `announce`, in a thread, before it fetches a message. Raises
    ConfigurationError if the driver is not installed.
    """
    if is_redis(url):
        return _redis_broker(url, announce)
    if url:
        return _rabbitmq_broker(url)
    return StubBroker(middleware=[])


def _redis_broker(url: str, announce: Callable[[], None]) -> dramatiq.Broker:
    try:
        import redis  # noqa: PLC0415 - an optional driver
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "RINGBACK_BROKER_URL is a Redis URL, but its driver is missing. Run: pip install '.[redis]'"
        ) from error
    client = redis.Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)

    class Broker(RedisBroker):
        """A Redis broker that waits for messages with BLMOVE, where Dramatiq's polls a hundred times a second.

        It fetches a message when `announce` has returned, so that Dramatiq's threads do not slow the claim down
        (docs/decisions/0002). It seldom looks for delayed messages: Ringback sends none.
        """

        #: Whether Redis supports BLMOVE (6.2 and later) and allows it; otherwise it is polled, as by Dramatiq.
        can_block = True

        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
            """Return a consumer that fetches one message at a time, and sleeps while it is handled."""
            idle_ms = IDLE_MS
            if queue_name == dramatiq.common.dq_name(queue_name):
                idle_ms = WORKER_TIMEOUT_MS
            return super().consume(queue_name, 1, idle_ms)

        def do_fetch(self, queue_name: str, prefetch: int) -> list[bytes]:
            """Fetch a message. If there is none, wait up to WAIT_SECONDS for one."""
            messages = self._fetch(queue_name)
            if queue_name in self.delay_queues:
                return messages
            if messages:
                announce()
            elif self._wait_for_message(queue_name):
                announce()
                messages = self._fetch(queue_name)
            return messages

        def _fetch(self, queue_name: str) -> list[bytes]:
            messages: list[bytes] = self._dispatch("fetch")(queue_name, 1)  # type: ignore[no-untyped-call]
            return messages

        def _wait_for_message(self, queue_name: str) -> bool:
            """Wait until there is a message, without taking it: the first one is moved to its own position.

            Raises the errors of a lost connection. Dramatiq's worker logs them and starts a new consumer after a pause.
            """
            if not self.can_block:
                return False
            queue = f"{self.namespace}:{queue_name}"
            try:
                moved = client.execute_command(  # type: ignore[no-untyped-call]
                    "BLMOVE", queue, queue, "LEFT", "LEFT", WAIT_SECONDS
                )
            except redis.ResponseError as error:
                is_forbidden = isinstance(error, redis.exceptions.NoPermissionError)
                is_unknown = "unknown command" in str(error).lower()
                if is_forbidden or is_unknown:  # other errors are temporary, such as those during a failover
                    logger.warning("Redis does not allow BLMOVE; polling it", action="receive", reason=str(error))
                    self.can_block = False
                return False
            return moved is not None

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
            "RINGBACK_BROKER_URL is a RabbitMQ URL, but its driver is missing. Run: pip install '.[rabbitmq]'"
        ) from error
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.blocked_connection_timeout = ANSWER_SECONDS

    class Broker(RabbitmqBroker):
        """A RabbitMQ broker whose thread for each queue checks often whether to stop."""

        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
            """Return a consumer that checks every REMOTE_TIMEOUT_MS."""
            return super().consume(queue_name, prefetch, REMOTE_TIMEOUT_MS)

    broker = Broker(middleware=[])
    broker.parameters = parameters
    return broker
