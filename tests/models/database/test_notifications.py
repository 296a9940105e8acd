"""Wake-ups: they reach the loops that wait, from any thread and process, and harm nobody."""

import asyncio
import contextlib
import datetime as dt
import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from ringback.models.bootstrap import share_notifications
from ringback.models.database.notifications import Notifier, Topic
from ringback.models.database.redis_notifications import GATHER_SECONDS, REST_SECONDS, relay_over_redis
from ringback.models.errors import ConfigurationError
from tests.support.patience import PATIENCE_SECONDS
from tests.support.servers import RedisServer, redis_server

CHANNEL = "ringback:tests"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest_asyncio.fixture
async def processes(redis: RedisServer) -> AsyncIterator[list[Notifier]]:
    """Three processes that share one Redis; the third is of another installation."""
    found = [Notifier() for _ in range(3)]
    async with AsyncExitStack() as stack:
        for wakeups, channel in zip(found, (CHANNEL, CHANNEL, "ringback:other"), strict=True):
            listener = wakeups.listen(Topic.LOGGED)
            await stack.enter_async_context(relay_over_redis(wakeups, redis.url, channel))
            assert await listener.wait(PATIENCE_SECONDS), "who joins is woken: something may have been missed before"
        yield found


async def test_a_wake_up_and_none() -> None:
    wakeups = Notifier()
    listener = wakeups.listen(Topic.DUE)
    assert not await listener.wait(0.001)
    assert not await listener.wait(-1)
    wakeups.notify(Topic.LOGGED)
    assert not await listener.wait(0.005)
    wakeups.notify(Topic.DUE)
    assert await listener.wait(PATIENCE_SECONDS)


async def test_wake_ups_while_it_works_are_kept_as_one() -> None:
    wakeups = Notifier()
    listener, other = wakeups.listen(Topic.DUE), wakeups.listen(Topic.DUE)
    for _ in range(3):
        wakeups.notify(Topic.DUE)
    await asyncio.sleep(0)
    assert await listener.wait(PATIENCE_SECONDS)
    assert not await listener.wait(0.001)
    assert await other.wait(PATIENCE_SECONDS)


async def test_from_another_thread() -> None:
    wakeups = Notifier()
    listener = wakeups.listen(Topic.RECEIVED)
    thread = threading.Thread(target=wakeups.notify, args=(Topic.RECEIVED,))
    thread.start()
    assert await listener.wait(PATIENCE_SECONDS)
    thread.join()


def test_a_loop_that_is_closed() -> None:
    wakeups = Notifier()

    async def listen() -> object:
        return wakeups.listen(Topic.DUE)

    kept = asyncio.run(listen())
    wakeups.notify(Topic.DUE)
    assert len(wakeups._listeners[Topic.DUE]) == 1
    del kept
    gc.collect()
    assert len(wakeups._listeners[Topic.DUE]) == 0


@pytest.mark.parametrize(
    ("due_in", "is_notified"),
    [
        ([1.0], True),
        ([-60.0], True),
        ([3_600.0, 0.5], True),
        ([1.000001], False),
        ([60.0, 5.0], False),
        ([], False),
    ],
)
async def test_workers_are_notified_of_what_is_due_within_a_second(due_in: list[float], is_notified: bool) -> None:
    wakeups = Notifier()
    listener, other = wakeups.listen(Topic.DUE), wakeups.listen(Topic.LOGGED)
    now = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

    wakeups.notify_if_due_soon([now + dt.timedelta(seconds=seconds) for seconds in due_in], now)

    await asyncio.sleep(0)
    assert await listener.wait(0.001) is is_notified
    assert not await other.wait(0.001)


def test_a_relay_is_called_while_its_block_runs() -> None:
    wakeups = Notifier()
    relayed_topics: list[Topic] = []

    with wakeups.relayed(relayed_topics.append):
        wakeups.notify(Topic.DUE)
        wakeups.wake(Topic.LOGGED)
    wakeups.notify(Topic.RECEIVED)

    assert relayed_topics == [Topic.DUE]


async def test_they_reach_other_processes(processes: list[Notifier]) -> None:
    here, there, elsewhere = processes
    logged, received, mine = there.listen(Topic.LOGGED), there.listen(Topic.RECEIVED), here.listen(Topic.LOGGED)
    other = elsewhere.listen(Topic.LOGGED)
    thread = threading.Thread(target=here.notify, args=(Topic.LOGGED,))
    thread.start()
    assert await logged.wait(PATIENCE_SECONDS)
    assert await mine.wait(PATIENCE_SECONDS)
    thread.join()
    # Its own come back from Redis too, and wake nobody a second time.
    assert not await mine.wait(0.2)
    assert not await received.wait(0.001)
    assert not await other.wait(0.001)


async def test_due_events_are_not_relayed_by_redis(processes: list[Notifier]) -> None:
    here, there, _ = processes
    mine, due, logged = here.listen(Topic.DUE), there.listen(Topic.DUE), there.listen(Topic.LOGGED)

    here.notify(Topic.DUE)
    here.notify(Topic.LOGGED)

    assert await mine.wait(PATIENCE_SECONDS)
    assert await logged.wait(PATIENCE_SECONDS)
    assert not await due.wait(0.2)


async def test_many_at_once_become_a_few(processes: list[Notifier], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, _ = processes
    woken = 0

    def counted(topic: Topic) -> None:
        nonlocal woken
        woken += 1

    monkeypatch.setattr(there, "wake", counted)
    for _ in range(1_000):
        here.notify(Topic.LOGGED)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while woken == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert woken <= 10


async def test_those_that_follow_soon_go_together(processes: list[Notifier], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, _ = processes
    woken: list[Topic] = []
    monkeypatch.setattr(there, "wake", woken.append)
    await asyncio.sleep(0.05)
    began = time.monotonic()
    for _ in range(300):
        here.notify(Topic.LOGGED)
        await asyncio.sleep(0)
    here.notify(Topic.RECEIVED)
    messages = 2 + (time.monotonic() - began) / (GATHER_SECONDS + REST_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while Topic.RECEIVED not in woken:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert 1 <= woken.count(Topic.LOGGED) <= messages
    assert woken.count(Topic.RECEIVED) == 1


async def test_what_a_newer_program_says_is_passed_over(processes: list[Notifier], redis: RedisServer) -> None:
    from redis.asyncio import Redis

    due, logged = processes[0].listen(Topic.DUE), processes[0].listen(Topic.LOGGED)
    async with Redis.from_url(redis.url) as client:
        for message in (b"", b"x", b"someone unheard-of", b"\xff \xff", b"someone due"):
            await client.publish(CHANNEL, message)
        assert not await logged.wait(0.1)
        assert not await due.wait(0.001)
        await client.publish(CHANNEL, "someone due unheard-of logged")
    assert await logged.wait(PATIENCE_SECONDS)
    assert not await due.wait(0.001)


async def test_a_redis_that_goes_is_said_once_and_all_are_woken_when_it_is_back(
    processes: list[Notifier], redis: RedisServer
) -> None:
    here, there, _ = processes
    logged = there.listen(Topic.LOGGED)
    with structlog.testing.capture_logs() as logs:
        redis.stop()
        await asyncio.sleep(1.5)
        here.notify(Topic.LOGGED)
        assert not await logged.wait(0.1)
        redis.start()
        assert await logged.wait(PATIENCE_SECONDS)
        here.notify(Topic.LOGGED)
        assert await logged.wait(PATIENCE_SECONDS)
    said = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert said == ["Redis is away; wake-ups wait for the next poll"] * 3, "once in each process"


async def test_it_ends_although_a_cancellation_is_swallowed(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis.asyncio import Redis

    publishing = asyncio.Event()

    async def publish(*_: object) -> int:
        publishing.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return 0

    monkeypatch.setattr(Redis, "publish", publish)
    wakeups = Notifier()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with relay_over_redis(wakeups, redis.url, CHANNEL):
            wakeups.notify(Topic.LOGGED)
            await publishing.wait()


async def test_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ringback.models.database.redis_notifications", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ringback\[redis\]"'):
        async with share_notifications("redis://127.0.0.1:1"):
            raise AssertionError("not reached")
    async with share_notifications(""):
        pass
