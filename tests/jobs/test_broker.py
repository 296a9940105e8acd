"""Brokers: a batch reaches the program's loop, and an actor that fails leaves nothing behind, whatever carries it."""

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from redis import Redis

from ringback.jobs import broker
from ringback.jobs.broker import (
    ANSWER_SECONDS,
    QUEUE,
    WORKER_TIMEOUT_MS,
    Deliveries,
    in_process_broker,
    is_remote,
    open_broker,
)
from tests.support.patience import PATIENCE_SECONDS
from tests.support.servers import RedisServer, amqp_url, redis_server

#: How long Redis is asked to wait for a message where a test must tell waiting from being told.
LONG_WAIT_SECONDS = ANSWER_SECONDS - 1

Taken = asyncio.Queue[tuple[UUID, list[UUID], threading.Thread]]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with amqp_url(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


@pytest.fixture(params=["in-process", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of each kind of broker, without messages of other tests."""
    if request.param == "in-process":
        yield ""
    elif request.param == "redis":
        yield request.getfixturevalue("redis").url
    else:
        yield request.getfixturevalue("rabbitmq")


@asynccontextmanager
async def at_work(
    url: str,
    take: Callable[[UUID, Sequence[UUID]], Awaitable[None]],
    *,
    has_room: Callable[[], bool] = lambda: True,
    worker_timeout_ms: int = 50,
) -> AsyncIterator[Deliveries]:
    """A process that picks up batches. A worker takes up to `worker_timeout_ms` to stop."""
    opened = open_broker(url)
    deliveries = Deliveries(opened, take, has_room)
    worker = dramatiq.Worker(opened, worker_threads=2, worker_timeout=worker_timeout_ms)
    worker.start()
    try:
        yield deliveries
    finally:
        await asyncio.to_thread(worker.stop, 5_000)
        deliveries.close()
        opened.close()


def keeping(taken: Taken) -> Callable[[UUID, Sequence[UUID]], Awaitable[None]]:
    async def take(lease: UUID, event_ids: Sequence[UUID]) -> None:
        taken.put_nowait((lease, list(event_ids), threading.current_thread()))

    return take


async def test_a_batch_is_taken_on_the_loop_of_the_program(url: str) -> None:
    taken: Taken = asyncio.Queue()
    async with at_work(url, keeping(taken)) as deliveries:
        lease, ids = uuid4(), [uuid4(), uuid4()]
        await deliveries.enqueue([(lease, ids)])
        assert await asyncio.wait_for(taken.get(), PATIENCE_SECONDS) == (lease, ids, threading.current_thread())


@pytest.mark.parametrize("url", ["redis"], indirect=True)
async def test_who_has_no_room_leaves_batches_to_others(url: str) -> None:
    full: Taken = asyncio.Queue()
    free: Taken = asyncio.Queue()
    async with at_work(url, keeping(full), has_room=lambda: False) as deliveries, at_work(url, keeping(free)):
        for _ in range(20):
            await deliveries.enqueue([(uuid4(), [uuid4()])])
        for _ in range(20):
            await asyncio.wait_for(free.get(), PATIENCE_SECONDS)
    assert full.empty()


async def test_an_idle_worker_asks_redis_seldom_and_is_told_at_once(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: Taken = asyncio.Queue()
    with Redis.from_url(redis.url) as client:
        async with at_work(redis.url, keeping(taken), worker_timeout_ms=WORKER_TIMEOUT_MS) as deliveries:
            await deliveries.enqueue([(uuid4(), [])])
            await asyncio.wait_for(taken.get(), PATIENCE_SECONDS)
            began = time.monotonic()
            client.config_resetstat()
            await asyncio.sleep(2)
            asked = sum(command["calls"] for command in client.info("commandstats").values())
            seconds = time.monotonic() - began
            # From now on a worker that is not told waits long.
            monkeypatch.setattr(broker, "WAIT_SECONDS", LONG_WAIT_SECONDS)
            waits = []
            for _ in range(20):
                await asyncio.sleep(0.05)
                began = time.monotonic()
                await deliveries.enqueue([(uuid4(), [])])
                await asyncio.wait_for(taken.get(), PATIENCE_SECONDS)
                waits.append(time.monotonic() - began)
    # A look is a script and what it does, and a wait. The delayed queue is looked at about once a second.
    assert 0 < asked < 40 * seconds
    assert statistics.median(waits) < LONG_WAIT_SECONDS / 2, "a worker that is not told waits for most of it"


async def test_a_redis_that_cannot_tell_is_asked(redis: RedisServer) -> None:
    taken: Taken = asyncio.Queue()
    with Redis.from_url(redis.url) as client:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-blmove"], keys=["*"])
        try:
            async with at_work(redis.url, keeping(taken)) as deliveries:
                await asyncio.sleep(0.2)
                await deliveries.enqueue([(uuid4(), [])])
                await asyncio.wait_for(taken.get(), PATIENCE_SECONDS)
        finally:
            client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"])


@pytest.mark.parametrize("url", ["redis", "rabbitmq"], indirect=True)
async def test_each_batch_is_taken_once_by_one_of_several_processes(url: str) -> None:
    first: Taken = asyncio.Queue()
    second: Taken = asyncio.Queue()
    sent = [uuid4() for _ in range(60)]
    async with at_work(url, keeping(first)) as deliveries, at_work(url, keeping(second)):
        for lease in sent:
            await deliveries.enqueue([(lease, [lease])])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while first.qsize() + second.qsize() < len(sent):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    taken = [queue.get_nowait()[0] for queue in (first, second) for _ in range(queue.qsize())]
    assert sorted(taken) == sorted(sent)


@pytest.mark.parametrize("error", [RuntimeError("the database is away"), asyncio.CancelledError()])
async def test_a_batch_that_fails_is_acknowledged_and_no_dead_letter_is_kept(url: str, error: BaseException) -> None:
    calls: asyncio.Queue[UUID] = asyncio.Queue()

    async def take(lease: UUID, event_ids: Sequence[UUID]) -> None:
        calls.put_nowait(lease)
        if len(event_ids) == 1:
            raise error

    async with at_work(url, take) as deliveries:
        await deliveries.enqueue([(uuid4(), [uuid4()])])
        await deliveries.enqueue([(uuid4(), [uuid4(), uuid4()])])
        for _ in range(2):
            await asyncio.wait_for(calls.get(), PATIENCE_SECONDS)
        await asyncio.sleep(0.1)
    assert calls.empty()
    # Nothing was kept for another process either.
    async with at_work(url, take):
        await asyncio.sleep(0.3)
    assert calls.empty()


async def test_messages_carry_only_ids() -> None:
    async def take(lease: UUID, event_ids: Sequence[UUID]) -> None:
        raise AssertionError("no worker runs")

    opened = in_process_broker()
    lease, one = uuid4(), uuid4()
    await Deliveries(opened, take).enqueue([(lease, [one])])
    message = dramatiq.Message.decode(opened.queues[QUEUE].get_nowait())
    assert (message.actor_name, message.args, message.kwargs) == ("deliver", (str(lease), [str(one)]), {})
    opened.close()


def test_there_is_no_second_retry_policy(url: str) -> None:
    opened = open_broker(url)
    assert opened.middleware == []
    assert isinstance(opened, StubBroker) is not is_remote(url)
    opened.close()


async def test_a_redis_that_is_away_says_so_and_is_used_again(tmp_path: Path) -> None:
    taken: Taken = asyncio.Queue()
    with redis_server(tmp_path) as server:
        async with at_work(server.url, keeping(taken)) as deliveries:
            await deliveries.enqueue([(uuid4(), [])])
            await asyncio.wait_for(taken.get(), PATIENCE_SECONDS)
            server.stop()
            with pytest.raises(Exception, match=r"[Cc]onnect"):
                await deliveries.enqueue([(uuid4(), [])])
            server.start()
            lease = uuid4()
            await deliveries.enqueue([(lease, [])])
            assert (await asyncio.wait_for(taken.get(), PATIENCE_SECONDS))[0] == lease
