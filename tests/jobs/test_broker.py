"""Brokers: each of them delivers a message to one of several workers, at once and at little cost."""

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from ringback.jobs import broker as brokers
from ringback.jobs.actors import declare_actors, due_message
from ringback.jobs.broker import ANSWER_SECONDS, WORKER_TIMEOUT_MS, open_broker
from tests.support.eventually import eventually
from tests.support.servers import RedisServer, amqp_url, redis_server

#: Seconds of a blocking wait at Redis that are long enough to tell a notification from its end.
LONG_WAIT_SECONDS = ANSWER_SECONDS - 1


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with amqp_url(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


@pytest.fixture(params=["in-process", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each kind of broker."""
    if request.param == "in-process":
        return ""
    if request.param == "redis":
        return str(request.getfixturevalue("redis").url)
    return str(request.getfixturevalue("rabbitmq"))


class Receiver:
    """A fake claimer that counts messages and returns `accepts()`."""

    def __init__(self, accepts: Callable[[], bool] = lambda: True) -> None:
        self.messages = 0
        self.threads: set[threading.Thread] = set()
        self._accepts = accepts

    async def accept_message(self) -> bool:
        self.messages += 1
        self.threads.add(threading.current_thread())
        return self._accepts()


@asynccontextmanager
async def consume(url: str, receiver: Receiver, *, worker_timeout_ms: int = 50) -> AsyncIterator[Callable[[], object]]:
    """Run a worker process's consumer while the block runs; yields a function that sends the message."""
    opened = open_broker(url)
    declare_actors(opened, receiver.accept_message)
    worker = dramatiq.Worker(opened, worker_threads=1, worker_timeout=worker_timeout_ms)
    worker.start()

    def send() -> object:
        return opened.enqueue(due_message())

    try:
        yield send
    finally:
        await asyncio.to_thread(worker.stop, 5_000)
        opened.close()


async def test_a_message_is_received_once_on_the_loop_of_the_worker(url: str) -> None:
    receiver = Receiver()

    async with consume(url, receiver) as send:
        await asyncio.to_thread(send)
        await eventually(lambda: receiver.messages)
        await asyncio.sleep(0.1)

    assert receiver.messages == 1
    assert receiver.threads == {threading.current_thread()}


@pytest.mark.parametrize("url", ["redis", "rabbitmq"], indirect=True)
async def test_a_full_worker_passes_messages_on_to_an_idle_one(url: str) -> None:
    full, idle = Receiver(lambda: False), Receiver()

    async with consume(url, full) as send, consume(url, idle):
        for _ in range(20):
            await asyncio.to_thread(send)
        await eventually(lambda: idle.messages == 20)
        await asyncio.sleep(0.1)

    assert idle.messages == 20


@pytest.mark.parametrize("url", ["redis", "rabbitmq"], indirect=True)
async def test_each_message_is_received_by_one_of_two_workers(url: str) -> None:
    first, second = Receiver(), Receiver()

    async with consume(url, first) as send, consume(url, second):
        for _ in range(60):
            await asyncio.to_thread(send)
        await eventually(lambda: first.messages + second.messages >= 60)
        await asyncio.sleep(0.1)

    assert first.messages + second.messages == 60


async def test_a_receiver_that_fails_leaves_no_message_behind(url: str) -> None:
    def fail() -> bool:
        raise RuntimeError("the database is away")

    failing, next_one = Receiver(fail), Receiver()
    async with consume(url, failing) as send:
        for _ in range(2):
            await asyncio.to_thread(send)
        await eventually(lambda: failing.messages == 2)
        await asyncio.sleep(0.1)

    async with consume(url, next_one):
        await asyncio.sleep(0.3)
    assert (failing.messages, next_one.messages) == (2, 0)


async def test_an_idle_worker_rarely_asks_redis_and_is_notified_at_once(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    waits: list[float] = []

    with Redis.from_url(redis.url) as client:
        async with consume(redis.url, receiver, worker_timeout_ms=WORKER_TIMEOUT_MS) as send:
            await asyncio.to_thread(send)
            await eventually(lambda: receiver.messages == 1)
            started = time.monotonic()
            client.config_resetstat()
            await asyncio.sleep(2)
            commands = sum(command["calls"] for command in client.info("commandstats").values())
            seconds = time.monotonic() - started
            # From now on a worker that is not notified waits for long.
            monkeypatch.setattr(brokers, "WAIT_SECONDS", LONG_WAIT_SECONDS)
            for number in range(20):
                await asyncio.sleep(0.05)
                started = time.monotonic()
                await asyncio.to_thread(send)
                await eventually(lambda: receiver.messages == number + 2)  # noqa: B023
                waits.append(time.monotonic() - started)

    # A fetch is a script with its commands, then a wait. The delayed queue is fetched about once a second.
    assert 0 < commands < 40 * seconds
    assert statistics.median(waits) < LONG_WAIT_SECONDS / 2


async def test_a_redis_that_forbids_blmove_is_polled(redis: RedisServer) -> None:
    receiver = Receiver()
    with Redis.from_url(redis.url) as client:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-blmove"], keys=["*"])
        try:
            async with consume(redis.url, receiver) as send:
                await asyncio.sleep(0.2)
                await asyncio.to_thread(send)
                await eventually(lambda: receiver.messages == 1)
        finally:
            client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"])


async def test_a_worker_receives_messages_again_after_redis_was_down(tmp_path: Path) -> None:
    receiver = Receiver()
    with redis_server(tmp_path) as server:
        async with consume(server.url, receiver) as send:
            await asyncio.to_thread(send)
            await eventually(lambda: receiver.messages == 1)
            server.stop()
            with pytest.raises(RedisConnectionError):
                await asyncio.to_thread(send)
            server.start()
            await asyncio.to_thread(send)
            await eventually(lambda: receiver.messages == 2)


def test_no_broker_has_middleware_that_retries(url: str) -> None:
    opened = open_broker(url)

    assert opened.middleware == []
    assert isinstance(opened, StubBroker) is (url == "")

    opened.close()


@pytest.mark.parametrize("url", ["redis"], indirect=True)
async def test_redis_announces_each_message_before_it_is_received(url: str) -> None:
    steps: list[str] = []

    def accept() -> bool:
        steps.append("received")
        return True

    receiver = Receiver(accept)
    opened = open_broker(url, lambda: steps.append("announced"))
    declare_actors(opened, receiver.accept_message)
    for _ in range(2):
        opened.enqueue(due_message())  # fetched at once, whereas later ones end a wait
    worker = dramatiq.Worker(opened, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        await eventually(lambda: receiver.messages == 2)
        await asyncio.sleep(0.1)
        opened.enqueue(due_message())
        await eventually(lambda: receiver.messages == 3)
    finally:
        await asyncio.to_thread(worker.stop, 5_000)
        opened.close()
    assert steps == ["announced", "received"] * 3
