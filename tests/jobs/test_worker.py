"""The worker as a whole: claimer, broker, deliverer, sender and recorder on a real database and real sockets."""

import asyncio
import contextlib
import datetime as dt
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import dramatiq
import pytest

from ringback.jobs import claimer, deliverer, lease_keeper, worker
from ringback.jobs.http.sender import Sender
from ringback.jobs.recorder import Recorder
from ringback.models.database.notifications import Topic, notifier
from ringback.models.enums import Action, EventStatus
from ringback.models.errors import ConfigurationError
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode
from ringback.models.queue import claims, grants
from ringback.models.queue.claims import ClaimedBatch
from ringback.models.queue.grants import ClaimRequest
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services import events as event_service
from ringback.models.settings import Settings
from ringback.models.webhook import Webhook
from ringback.models.worker import Worker
from tests.support import builders
from tests.support.eventually import eventually, eventually_found
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import LOOPBACK

#: Seconds; longer than any test takes.
FOREVER = 10 * PATIENCE_SECONDS


class Endpoint:
    """An HTTP endpoint on loopback: /ok responds at once, /wait when released, /hang never."""

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
async def serve_endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint, "127.0.0.1", 0, backlog=1024)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        await endpoint.close()


def run_worker(settings: Settings) -> contextlib.AbstractAsyncContextManager[asyncio.Event]:
    inboxes = InboxAddresses("http://127.0.0.1:8000")
    return worker.run_worker(settings, policy=LOOPBACK, secrets=builders.BOX, inboxes=inboxes)


@pytest.fixture(autouse=True)
def _long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker that stops wait for longer than any test takes, so that a slow machine abandons nothing."""
    monkeypatch.setattr(worker, "DRAIN_SECONDS", FOREVER)
    monkeypatch.setattr(worker, "WRITE_SECONDS", PATIENCE_SECONDS)


async def has_ended(event: Event) -> bool:
    return (await builders.stored(event)).status.ended


@pytest.mark.usefixtures("_no_poll")
async def test_a_test_fire_arrives_at_once_by_the_message(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = 0
    accept_message = claimer.Claimer.accept_message

    async def count_message(claimer_: claimer.Claimer) -> bool:
        nonlocal messages
        messages += 1
        return await accept_message(claimer_)

    monkeypatch.setattr(claimer.Claimer, "accept_message", count_message)
    async with serve_endpoint() as endpoint, run_worker(database):
        webhook = await builders.webhook(url=endpoint.url("ok"))
        for number in (1, 2):  # the claimer waits when the second one comes
            event = await event_service.test_fire(encode(Prefix.WEBHOOK, webhook.id), Action.CREATED, None)
            await eventually_found(lambda: has_ended(event))  # noqa: B023
            await asyncio.sleep(0.1)
            assert messages == number

    assert endpoint.arrived == ["ok", "ok"]
    (attempt,) = await builders.attempts(event)
    assert attempt.response is not None
    assert attempt.response["body"] == "ok"


async def test_no_more_attempts_are_in_flight_than_the_setting_allows(database: Settings) -> None:
    async with serve_endpoint() as endpoint:
        hanging = await builders.webhook(url=endpoint.url("hang"), timeout_seconds=FOREVER)
        healthy = await builders.webhook(url=endpoint.url("ok"))
        for _ in range(6):
            await builders.event(hanging, due_in=-1)
        later = await builders.event(healthy, due_in=0)

        async with run_worker(database.model_copy(update={"worker_concurrency": 3})) as hurried:
            await eventually(lambda: len(endpoint.arrived) >= 2)
            await asyncio.sleep(0.3)
            assert Counter(endpoint.arrived)["hang"] <= 2
            await eventually_found(lambda: has_ended(later))
            assert Counter(endpoint.arrived)["hang"] <= 2
            hurried.set()


async def time_to_deliver(webhook: Webhook) -> float:
    """Deliver an event that is due in 0.2 s; returns the seconds until its result was stored."""
    started = time.monotonic()
    event = await builders.event(webhook, due_in=0.2)
    notifier.notify(Topic.DUE)
    await eventually_found(lambda: has_ended(event))
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
    return time.monotonic() - started


async def test_a_hanging_endpoint_does_not_delay_a_healthy_webhook(database: Settings) -> None:
    async with serve_endpoint() as endpoint:
        hanging = await builders.webhook(url=endpoint.url("hang"), max_concurrency=1_000, timeout_seconds=FOREVER)
        healthy = await builders.webhook(url=endpoint.url("ok"))
        async with run_worker(database) as hurried:
            control = await time_to_deliver(healthy)
            for _ in range(300):
                await builders.event(hanging, due_in=0)
            notifier.notify(Topic.DUE)
            await eventually(lambda: endpoint.arrived.count("hang") >= 300)

            assert await time_to_deliver(healthy) < 1.0 + 5 * control
            assert await Attempt.filter(webhook_id=hanging.id).count() == 0, "all of them must still hang"
            hurried.set()


async def test_a_stop_awaits_answers_and_leaves_no_claim(database: Settings) -> None:
    async with serve_endpoint() as endpoint:
        webhook = await builders.webhook(url=endpoint.url("wait"), timeout_seconds=FOREVER)
        async with asyncio.timeout(2 * PATIENCE_SECONDS), run_worker(database):
            sent = await builders.event(webhook)
            later = await builders.event(webhook, due_in=FOREVER)
            notifier.notify(Topic.DUE)
            await eventually(lambda: "wait" in endpoint.arrived)
            asyncio.get_running_loop().call_later(0.3, endpoint.released.set)  # the worker is stopping by then

    assert [a.outcome for a in await builders.attempts(sent)] == ["DELIVERED"]
    assert await builders.attempts(later) == []
    assert await Event.filter(worker_id__isnull=False).count() == 0


async def test_a_stop_releases_events_that_wait_for_their_start(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()
    wait_until_due = deliverer.Deliverer._wait_until_due

    async def note_wait(deliverer_: deliverer.Deliverer, attempt: deliverer._Attempt) -> None:
        waiting.set()
        await wait_until_due(deliverer_, attempt)

    monkeypatch.setattr(deliverer.Deliverer, "_wait_until_due", note_wait)
    for module in (claims, grants):
        monkeypatch.setattr(module, "AHEAD", dt.timedelta(seconds=2 * FOREVER))
    async with serve_endpoint() as endpoint:
        event = await builders.event(await builders.webhook(url=endpoint.url("ok")), due_in=FOREVER)
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with run_worker(database):
                await waiting.wait()
                assert (await builders.stored(event)).worker_id is not None

    assert endpoint.arrived == []
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.next_attempt_at) == (
        EventStatus.PENDING,
        None,
        event.next_attempt_at,
    )
    assert await builders.attempts(event) == []


async def test_a_stop_releases_a_claim_whose_answer_never_comes(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimer.claim  # type: ignore[attr-defined]
    has_claimed = asyncio.Event()

    async def claim_without_answer(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        batch = await claim(worker_id, request)
        if batch.deliveries:
            has_claimed.set()
            await asyncio.Event().wait()
        return batch

    monkeypatch.setattr(claimer, "claim", claim_without_answer)
    event = await builders.event(await builders.webhook())
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with run_worker(database):
            await has_claimed.wait()
            assert (await builders.stored(event)).worker_id is not None

    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.attempt_count) == (EventStatus.PENDING, None, 0)
    assert await builders.attempts(event) == []


async def test_a_stop_in_a_hurry_abandons_sent_requests(database: Settings) -> None:
    async with asyncio.timeout(2 * PATIENCE_SECONDS), serve_endpoint() as endpoint, run_worker(database) as hurried:
        event = await builders.event(await builders.webhook(url=endpoint.url("hang"), timeout_seconds=FOREVER))
        notifier.notify(Topic.DUE)
        await eventually(lambda: "hang" in endpoint.arrived)
        hurried.set()

    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    assert (await builders.stored(event)).worker_id is None


async def test_the_parts_stop_in_order(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[str] = []

    def note(owner: type[Any], method: str, step: str) -> None:
        original = getattr(owner, method)

        def noting(*args: Any) -> Any:
            stops.append(step)
            return original(*args)

        monkeypatch.setattr(owner, method, noting)

    note(dramatiq.Worker, "stop", "consumer")
    note(claimer.Claimer, "stop", "claimer")
    note(deliverer.Deliverer, "stop", "deliverer")
    note(Recorder, "drain", "recorder")
    note(lease_keeper.LeaseKeeper, "leave", "lease")
    note(Sender, "__aexit__", "sender")
    async with run_worker(database):
        pass

    assert stops == ["consumer", "claimer", "deliverer", "recorder", "lease", "sender"]


@pytest.mark.every_database
async def test_a_running_worker_has_one_row_and_a_stopped_one_none(database: Settings) -> None:
    async with run_worker(database):
        (row,) = await Worker.all()
        assert row.pid == os.getpid()
        assert (row.alive_until is None) is database.is_embedded

    assert await Worker.all().count() == 0


async def test_on_sqlite_the_lease_of_a_running_worker_does_not_expire(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "LOOK_SECONDS", 0.01)
    keepers: list[lease_keeper.LeaseKeeper] = []
    start = lease_keeper.LeaseKeeper.start

    async def noting(keeper: lease_keeper.LeaseKeeper) -> None:
        keepers.append(keeper)
        await start(keeper)

    monkeypatch.setattr(lease_keeper.LeaseKeeper, "start", noting)
    async with run_worker(database.model_copy(update={"lease_seconds": 0.05})):
        await asyncio.sleep(0.3)
        (keeper,) = keepers
        assert not keeper.lease.is_expired()
        assert await Worker.filter(id=keeper.lease.worker_id).count() == 1


async def test_attempts_of_a_killed_worker_are_abandoned_and_made_again(database: Settings) -> None:
    async with serve_endpoint() as endpoint:
        event = await builders.event(await builders.webhook(url=endpoint.url("ok")))
        await builders.claim(event)  # by a worker whose row `run_worker` deletes
        async with run_worker(database):
            await eventually_found(lambda: has_ended(event))

    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "ABANDONED"), (2, "DELIVERED")]
    assert endpoint.arrived == ["ok"]


@pytest.mark.on_postgres
async def test_two_workers_on_postgres_deliver_each_event_once(database: Settings) -> None:
    async with serve_endpoint() as endpoint, run_worker(database), run_worker(database):
        webhook = await builders.webhook(url=endpoint.url("ok"))
        events = [await builders.event(webhook) for _ in range(60)]
        notifier.notify(Topic.DUE)
        for event in events:
            await eventually_found(lambda: has_ended(event))  # noqa: B023

    assert endpoint.arrived == ["ok"] * 60
    assert await Attempt.filter(outcome="DELIVERED").count() == await Attempt.all().count() == 60
    assert await Worker.all().count() == 0


async def test_a_second_worker_on_sqlite_is_refused(database: Settings) -> None:
    async with run_worker(database):
        with pytest.raises(ConfigurationError, match=r"^Another worker is running on .*ringback\.db\. End it, or"):
            async with run_worker(database):
                pass
        assert await Worker.all().count() == 1

    async with run_worker(database):
        pass
