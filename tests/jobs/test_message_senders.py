"""Message senders: Dramatiq receives their messages on each broker, and an unavailable server costs one message."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ringback.jobs import message_senders
from ringback.jobs.actors import QUEUE, declare_actors, due_message
from ringback.jobs.broker import open_broker
from ringback.jobs.message_senders import InProcessSender, MessageSender, RedisSender, ThreadSender, open_sender
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS
from tests.support.servers import RedisServer, amqp_url, redis_server


@pytest.fixture(scope="module")
def rabbitmq_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with amqp_url(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


@pytest.fixture
def rabbitmq(rabbitmq_of_module: str) -> str:
    """Return the URL of a RabbitMQ with an empty queue."""
    broker = open_broker(rabbitmq_of_module)
    broker.declare_queue(QUEUE)
    broker.flush(QUEUE)
    broker.close()
    return rabbitmq_of_module


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each kind of server."""
    server = request.getfixturevalue(request.param)
    return server.url if isinstance(server, RedisServer) else str(server)


@asynccontextmanager
async def open_message_sender(url: str) -> AsyncIterator[MessageSender]:
    """Yield the sender of a process that sends, for the block."""
    broker = open_broker(url)
    sender = open_sender(broker, url)
    try:
        yield sender
    finally:
        await sender.close()
        broker.close()


class Receiver:
    """A fake claimer that counts messages and accepts each."""

    def __init__(self) -> None:
        self.messages = 0

    async def accept_message(self) -> bool:
        self.messages += 1
        return True


@asynccontextmanager
async def run_consumer(url: str, receiver: Receiver) -> AsyncIterator[None]:
    """Run a worker process's consumer, with a broker of its own, while the block runs."""
    broker = open_broker(url)
    declare_actors(broker, receiver.accept_message)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        yield
    finally:
        await asyncio.to_thread(worker.stop, 5_000)
        broker.close()


async def wait_for_count(sender: MessageSender, expected: int) -> None:
    """Wait until a server counts this many messages: RabbitMQ counts them shortly after they were sent."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await sender.count(QUEUE) != expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("", InProcessSender),
        ("redis://127.0.0.1:1/0", RedisSender),
        ("rediss://127.0.0.1:1/0", RedisSender),
        ("amqp://127.0.0.1:1", ThreadSender),
    ],
)
async def test_each_broker_has_its_sender_which_does_not_connect_yet(address: str, kind: type) -> None:
    async with open_message_sender(address) as sender:
        assert type(sender) is kind


async def test_in_process_a_message_goes_to_the_queue_in_memory() -> None:
    broker = open_broker("")
    assert isinstance(broker, StubBroker)
    broker.declare_queue(QUEUE)
    sender = open_sender(broker, "")

    await sender.send(due_message())

    message = dramatiq.Message.decode(broker.queues[QUEUE].get_nowait())
    assert message.asdict() == {**due_message().asdict(), **_chosen_at_sending(message)}
    assert broker.queues[QUEUE].empty()
    assert await sender.count(QUEUE) == 0
    await sender.close()


def _chosen_at_sending(message: dramatiq.Message[None]) -> dict[str, object]:
    return {"message_id": message.message_id, "message_timestamp": message.message_timestamp}


async def test_each_message_reaches_a_worker_once(url: str) -> None:
    receiver = Receiver()

    async with run_consumer(url, receiver), open_message_sender(url) as sender:
        for _ in range(20):
            await sender.send(due_message())
        await eventually(lambda: receiver.messages >= 20)
        await asyncio.sleep(0.1)
        await wait_for_count(sender, 0)

    assert receiver.messages == 20


async def test_messages_sent_before_a_worker_starts_reach_it(url: str) -> None:
    receiver = Receiver()
    async with open_message_sender(url) as sender:
        for _ in range(3):
            await sender.send(due_message())

    async with run_consumer(url, receiver):
        await eventually(lambda: receiver.messages >= 3)
        await asyncio.sleep(0.1)

    assert receiver.messages == 3


async def test_messages_that_wait_are_counted(url: str) -> None:
    async with open_message_sender(url) as sender:
        assert await sender.count(QUEUE) == 0
        for _ in range(3):
            await sender.send(due_message())

        await wait_for_count(sender, 3)


async def test_the_same_message_sent_twice_is_two_messages_on_redis(redis: RedisServer) -> None:
    message = due_message()
    async with open_message_sender(redis.url) as sender:
        await sender.send(message)
        await sender.send(message)

        assert await sender.count(QUEUE) == 2

    assert "redis_message_id" not in message.options


async def test_redis_stores_the_same_as_dramatiqs_own_broker(redis: RedisServer) -> None:
    broker = open_broker(redis.url)
    broker.enqueue(due_message())
    broker.close()
    async with open_message_sender(redis.url) as sender:
        await sender.send(due_message())

    with Redis.from_url(redis.url) as client:
        keys = client.lrange(f"ringback:{QUEUE}", 0, -1)
        stored = client.hgetall(f"ringback:{QUEUE}.msgs")
        assert stored.keys() == set(keys)
        theirs, ours = [dramatiq.Message.decode(stored[key]) for key in keys]
    assert ours.options == {"redis_message_id": keys[1].decode()}
    assert theirs.options == {"redis_message_id": keys[0].decode()}
    assert theirs.asdict() == {**ours.asdict(), **_chosen_at_sending(theirs), "options": theirs.options}


async def test_sending_to_redis_starts_no_thread_and_to_rabbitmq_one(url: str) -> None:
    threads = set(threading.enumerate())
    async with open_message_sender(url) as sender:
        for _ in range(5):
            await sender.count(QUEUE)
            await sender.send(due_message())
        started = [thread for thread in threading.enumerate() if thread not in threads]

    names = [thread.name for thread in started if thread.name.startswith("ringback-announce")]
    assert names == ([] if url.startswith("redis") else ["ringback-announce_0"])


async def test_an_unavailable_redis_raises_and_later_works_again(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with open_message_sender(server.url) as sender:
            await sender.send(due_message())
            server.stop()

            with pytest.raises(RedisConnectionError):
                await sender.send(due_message())
            with pytest.raises(RedisConnectionError):
                await sender.count(QUEUE)

            server.start()
            await sender.send(due_message())
            assert await sender.count(QUEUE) == 1, "a lost message must not be sent later"


async def test_a_redis_that_was_unavailable_at_the_start_works_later(tmp_path: Path) -> None:
    receiver = Receiver()
    with redis_server(tmp_path) as server:
        server.stop()
        async with open_message_sender(server.url) as sender:
            with pytest.raises(RedisConnectionError):
                await sender.send(due_message())

            server.start()
            async with run_consumer(server.url, receiver):
                await sender.send(due_message())
                await eventually(lambda: receiver.messages == 1)


async def test_an_unavailable_rabbitmq_raises() -> None:
    async with open_message_sender("amqp://127.0.0.1:1?connection_attempts=1") as sender:
        with pytest.raises(BrokerConnectionError):
            await sender.send(due_message())


async def test_a_silent_redis_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_senders, "ANSWER_SECONDS", 0.3)
    longest = 0.0

    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with open_message_sender(f"redis://127.0.0.1:{silent.getsockname()[1]}/0") as sender:
            counting = asyncio.create_task(sender.count(QUEUE))
            while not counting.done():
                started = time.monotonic()
                await asyncio.sleep(0.001)
                longest = max(longest, time.monotonic() - started)

    assert isinstance(counting.exception(), RedisTimeoutError)
    assert longest < 0.25
