"""Tests of notifications: they wake waiting loops from any thread and process."""

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
from ringback.models.database.redis_notifications import BATCH_SECONDS, PAUSE_SECONDS, relay_over_redis
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
    """Yield the notifiers of three processes that share one Redis, the third with a channel of its own."""
    notifiers = [Notifier() for _ in range(3)]
    async with AsyncExitStack() as stack:
        for notifier, channel in zip(notifiers, (CHANNEL, CHANNEL, "ringback:other"), strict=True):
            listener = notifier.listen(Topic.LOGGED)
            await stack.enter_async_context(relay_over_redis(notifier, redis.url, channel))
            assert await listener.wait(PATIENCE_SECONDS), "a new subscriber is woken, since it may have missed messages"
        yield notifiers


async def test_a_listener_waits_for_its_topic_only() -> None:
    notifier = Notifier()
    listener = notifier.listen(Topic.DUE)
    assert not await listener.wait(0.001)
    assert not await listener.wait(-1)
    notifier.notify(Topic.LOGGED)
    assert not await listener.wait(0.005)
    notifier.notify(Topic.DUE)
    assert await listener.wait(PATIENCE_SECONDS)


async def test_notifications_between_two_waits_count_as_one() -> None:
    notifier = Notifier()
    listener, other = notifier.listen(Topic.DUE), notifier.listen(Topic.DUE)
    for _ in range(3):
        notifier.notify(Topic.DUE)
    await asyncio.sleep(0)

    assert await listener.wait(PATIENCE_SECONDS)
    assert not await listener.wait(0.001)
    assert await other.wait(PATIENCE_SECONDS)


async def test_a_notification_from_another_thread() -> None:
    notifier = Notifier()
    listener = notifier.listen(Topic.RECEIVED)
    thread = threading.Thread(target=notifier.notify, args=(Topic.RECEIVED,))
    thread.start()
    assert await listener.wait(PATIENCE_SECONDS)
    thread.join()


def test_a_listener_with_a_closed_loop_is_ignored_and_then_forgotten() -> None:
    notifier = Notifier()

    async def listen() -> object:
        return notifier.listen(Topic.DUE)

    listener = asyncio.run(listen())
    notifier.notify(Topic.DUE)
    assert len(notifier._listeners[Topic.DUE]) == 1
    del listener
    gc.collect()
    assert len(notifier._listeners[Topic.DUE]) == 0


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
async def test_workers_are_notified_of_events_due_within_a_second(due_in: list[float], is_notified: bool) -> None:
    notifier = Notifier()
    listener, other = notifier.listen(Topic.DUE), notifier.listen(Topic.LOGGED)
    now = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

    notifier.notify_if_due_soon([now + dt.timedelta(seconds=seconds) for seconds in due_in], now)

    await asyncio.sleep(0)
    assert await listener.wait(0.001) is is_notified
    assert not await other.wait(0.001)


def test_a_relay_is_called_while_its_block_runs() -> None:
    notifier = Notifier()
    relayed_topics: list[Topic] = []

    with notifier.relay_to(relayed_topics.append):
        notifier.notify(Topic.DUE)
        notifier.wake(Topic.LOGGED)
    notifier.notify(Topic.RECEIVED)

    assert relayed_topics == [Topic.DUE]


async def test_notifications_reach_other_processes_of_the_installation(processes: list[Notifier]) -> None:
    here, there, elsewhere = processes
    logged, received, mine = there.listen(Topic.LOGGED), there.listen(Topic.RECEIVED), here.listen(Topic.LOGGED)
    other = elsewhere.listen(Topic.LOGGED)
    thread = threading.Thread(target=here.notify, args=(Topic.LOGGED,))
    thread.start()
    assert await logged.wait(PATIENCE_SECONDS)
    assert await mine.wait(PATIENCE_SECONDS)
    thread.join()
    # The sender's own message comes back from Redis too, and must not wake it a second time.
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


async def test_many_notifications_at_once_become_a_few_messages(
    processes: list[Notifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, _ = processes
    wake_count = 0

    def count_wake(topic: Topic) -> None:
        nonlocal wake_count
        wake_count += 1

    monkeypatch.setattr(there, "wake", count_wake)
    for _ in range(1_000):
        here.notify(Topic.LOGGED)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wake_count == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert wake_count <= 10


async def test_notifications_in_quick_succession_share_messages(
    processes: list[Notifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, _ = processes
    woken_topics: list[Topic] = []
    monkeypatch.setattr(there, "wake", woken_topics.append)
    await asyncio.sleep(0.05)
    started = time.monotonic()
    for _ in range(300):
        here.notify(Topic.LOGGED)
        await asyncio.sleep(0)
    here.notify(Topic.RECEIVED)
    max_messages = 2 + (time.monotonic() - started) / (BATCH_SECONDS + PAUSE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while Topic.RECEIVED not in woken_topics:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)

    assert 1 <= woken_topics.count(Topic.LOGGED) <= max_messages
    assert woken_topics.count(Topic.RECEIVED) == 1


async def test_unknown_topics_of_a_newer_version_are_ignored(processes: list[Notifier], redis: RedisServer) -> None:
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


async def test_an_outage_of_redis_is_logged_once_and_all_listeners_wake_after_it(
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
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    sentence = "Redis does not answer, so other processes notice changes at their next poll"
    assert warnings == [sentence] * 3, "once in each process"


async def test_the_relay_ends_even_if_a_cancellation_is_swallowed(
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
    notifier = Notifier()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with relay_over_redis(notifier, redis.url, CHANNEL):
            notifier.notify(Topic.LOGGED)
            await publishing.wait()


async def test_a_missing_driver_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ringback.models.database.redis_notifications", None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[redis\]'"):
        async with share_notifications("redis://127.0.0.1:1"):
            raise AssertionError("not reached")
    async with share_notifications(""):
        pass
