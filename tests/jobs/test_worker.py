"""The worker as a whole: dispatcher, broker, deliverer, sender and recorder on a real database and real sockets."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ringback.jobs import dispatcher as dispatching
from ringback.jobs import worker
from ringback.jobs.worker import Working
from ringback.models import interventions
from ringback.models.errors import ConfigurationError
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode
from ringback.models.inboxes import InboxAddresses
from ringback.models.settings import Settings
from ringback.models.states import EventStatus
from ringback.models.wakeups import Topic, wakeups
from ringback.models.webhook import Action, Webhook
from tests.support import builders
from tests.support.eventually import eventually, eventually_found
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import LOOPBACK

#: Seconds; longer than any test takes.
FOREVER = 10 * PATIENCE_SECONDS


class Endpoint:
    """An HTTP endpoint on loopback: /ok answers at once, /wait when it is released, /hang never."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.released = asyncio.Event()
        self.port = 0
        self._connections: set[asyncio.Task[Any]] = set()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode().lstrip("/")
                self.arrived.append(path)
                if path == "hang":
                    await reader.read()
                    break
                if path == "wait":
                    await self.released.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        self._connections.discard(task)

    async def close(self) -> None:
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@contextlib.asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    server = await asyncio.start_server(made, "127.0.0.1", 0, backlog=1024)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()


def at_work(settings: Settings) -> contextlib.AbstractAsyncContextManager[Working]:
    inboxes = InboxAddresses("http://127.0.0.1:8000")
    return worker.working(settings, policy=LOOPBACK, secrets=builders.BOX, inboxes=inboxes)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker that stops wait for longer than any test takes, so that nothing is given up on a slow machine."""
    monkeypatch.setattr(worker, "DRAIN_SECONDS", FOREVER)
    monkeypatch.setattr(worker, "WRITE_SECONDS", PATIENCE_SECONDS)


async def has_ended(event: Event) -> bool:
    return (await builders.stored(event)).status.ended


async def test_a_test_fire_arrives_at_once(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "POLL_SECONDS", FOREVER)  # so that it arrives at once or never
    async with endpoint() as there, at_work(database):
        webhook = await builders.webhook(url=there.url("ok"))
        for _ in range(2):  # the second one surely finds the dispatcher asleep
            event = await interventions.test_fire(encode(Prefix.WEBHOOK, webhook.id), Action.CREATED, None)
            await eventually_found(lambda: has_ended(event))  # noqa: B023
            await asyncio.sleep(0.1)
    assert there.arrived == ["ok", "ok"]
    (attempt,) = await builders.attempts(event)
    assert attempt.response is not None
    assert attempt.response["body"] == "ok"


async def test_no_more_attempts_are_under_way_than_the_setting_allows(database: Settings) -> None:
    async with endpoint() as there:
        hanging = await builders.webhook(url=there.url("hang"), timeout_seconds=FOREVER)
        healthy = await builders.webhook(url=there.url("ok"))
        for _ in range(6):
            await builders.event(hanging, due_in=-1)
        later = await builders.event(healthy, due_in=0)
        async with at_work(database.model_copy(update={"worker_concurrency": 3})) as working:
            await eventually(lambda: len(there.arrived) >= 2)
            await asyncio.sleep(0.3)
            assert Counter(there.arrived)["hang"] <= 3
            await eventually_found(lambda: has_ended(later))
            assert Counter(there.arrived)["hang"] <= 3
            working.hurry()


async def time_to_deliver(webhook: Webhook) -> float:
    """Deliver an event that is due in 0.2 s; returns how long it took until its result was stored, in seconds."""
    began = time.monotonic()
    event = await builders.event(webhook, due_in=0.2)
    wakeups.notify(Topic.DUE)
    await eventually_found(lambda: has_ended(event))
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
    return time.monotonic() - began


async def test_a_hanging_endpoint_does_not_hold_up_a_healthy_webhook(database: Settings) -> None:
    async with endpoint() as there:
        hanging = await builders.webhook(url=there.url("hang"), max_concurrency=1_000, timeout_seconds=FOREVER)
        healthy = await builders.webhook(url=there.url("ok"))
        async with at_work(database) as working:
            control = await time_to_deliver(healthy)
            for _ in range(300):
                await builders.event(hanging, due_in=0)
            wakeups.notify(Topic.DUE)
            await eventually(lambda: there.arrived.count("hang") >= 300)
            # One at a time too: each would have kept a thread of the broker's to itself.
            for _ in range(40):
                await builders.event(hanging, due_in=0)
                wakeups.notify(Topic.DUE)
                await asyncio.sleep(0.005)
            assert await time_to_deliver(healthy) < 1.0 + 5 * control
            assert await Attempt.filter(webhook_id=hanging.id).count() == 0, "all of them still hang"
            working.hurry()


async def test_stopping_lets_what_is_under_way_end_and_leaves_no_lease(database: Settings) -> None:
    async with endpoint() as there:
        webhook = await builders.webhook(url=there.url("wait"), timeout_seconds=FOREVER)
        async with asyncio.timeout(2 * PATIENCE_SECONDS), at_work(database):
            under_way = await builders.event(webhook)
            waiting = await builders.event(webhook, due_in=FOREVER)
            wakeups.notify(Topic.DUE)
            await eventually(lambda: "wait" in there.arrived)
            asyncio.get_running_loop().call_later(0.3, there.released.set)  # the worker is stopping by then
    assert [a.outcome for a in await builders.attempts(under_way)] == ["DELIVERED"]
    assert await builders.attempts(waiting) == []
    assert await Event.filter(lease__isnull=False).count() == 0


async def test_in_a_hurry_what_is_under_way_is_recorded_as_abandoned(database: Settings) -> None:
    async with asyncio.timeout(2 * PATIENCE_SECONDS), endpoint() as there, at_work(database) as working:
        event = await builders.event(await builders.webhook(url=there.url("hang"), timeout_seconds=FOREVER))
        wakeups.notify(Topic.DUE)
        await eventually(lambda: "hang" in there.arrived)
        working.hurry()
    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    assert (await builders.stored(event)).lease is None


async def test_what_a_killed_worker_left_is_delivered_by_the_next_one(database: Settings) -> None:
    async with endpoint() as there:
        webhook = await builders.webhook(url=there.url("ok"))
        claimed, begun = await builders.event(webhook), await builders.event(webhook)
        await builders.claimed(claimed)
        await builders.begun(begun)
        async with at_work(database):
            await eventually_found(lambda: has_ended(claimed))
            await eventually_found(lambda: has_ended(begun))
    assert [(a.number, a.outcome) for a in await builders.attempts(claimed)] == [(1, "DELIVERED")]
    assert [(a.number, a.outcome) for a in await builders.attempts(begun)] == [(1, "ABANDONED"), (2, "DELIVERED")]


async def test_a_second_worker_is_refused(database: Settings) -> None:
    async with at_work(database):
        with pytest.raises(ConfigurationError, match=r"^another worker is running on .*ringback\.db: end it, or"):
            async with at_work(database):
                pass
    async with at_work(database):
        pass
