"""The claimer on a database that fails: lost commits, errors and ended sessions."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import asyncpg
import pytest

from ringback.jobs import claimer as claiming
from ringback.jobs import recorder as recording
from ringback.models.enums import EventStatus
from ringback.models.event import Attempt, Event
from ringback.models.queue.claims import ClaimedBatch, claim
from ringback.models.queue.grants import ClaimRequest
from ringback.models.queue.webhook_cache import WebhookCache
from ringback.models.settings import Settings
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.deliverers import Bench

pytestmark = pytest.mark.every_database

#: Ends the sessions of the test's database that are in a transaction.
END_OPEN_TRANSACTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""

MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
def _quick_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once after an error."""
    monkeypatch.setattr(claiming, "PAUSE_SECONDS", 0.01)


@pytest.mark.usefixtures("_quick_pause")
async def test_a_claim_whose_commit_got_no_answer_is_released_and_delivered_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[UUID] = []

    async def claim_without_answer(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        batch = await claim(worker_id, request)
        if batch.deliveries and not claimed:
            claimed.extend(delivery.event.id for delivery in batch.deliveries)
            raise ConnectionError("connection lost during COMMIT")
        return batch

    monkeypatch.setattr(claiming, "claim", claim_without_answer)
    events = [await builders.event(await builders.webhook()) for _ in range(3)]

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(3)
        await bench.wait_until_idle()

    assert sorted(claimed) == sorted(bench.endpoint.event_ids) == sorted(event.id for event in events)
    for event in events:
        assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]


@pytest.mark.usefixtures("_quick_pause")
async def test_a_lost_claim_releases_nothing_that_is_being_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = await builders.event(await builders.webhook(), due_in=-1)
    bench.endpoint.hold()
    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()
        lost = False

        async def claim_without_answer(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
            nonlocal lost
            batch = await claim(worker_id, request)
            if not lost:
                lost = True
                raise ConnectionError("connection lost during COMMIT")
            return batch

        monkeypatch.setattr(claiming, "claim", claim_without_answer)
        other = await builders.event(await builders.webhook())
        await bench.accept_message()
        await bench.endpoint.wait_for_requests(2)
        assert (await builders.stored(sent)).worker_id == bench.keeper.lease.worker_id
        bench.endpoint.release()
        await bench.wait_until_idle()

    assert bench.endpoint.event_ids == [sent.id, other.id]
    assert [a.outcome for a in await builders.attempts(sent)] == ["DELIVERED"]


@pytest.mark.usefixtures("_quick_pause", "_no_poll")
async def test_a_failing_database_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [OSError("disk"), KeyError("anything")]

    async def claim_or_fail(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        if failures:
            raise failures.pop()
        return await claim(worker_id, request)

    monkeypatch.setattr(claiming, "claim", claim_or_fail)
    event = await builders.event(await builders.webhook())

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()

    assert failures == []
    assert bench.endpoint.event_ids == [event.id]


@pytest.mark.usefixtures("_quick_pause", "_no_poll")
async def test_attempts_that_cannot_be_started_are_claimed_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [OSError("disk"), KeyError("anything")]
    read = WebhookCache.of

    async def read_or_fail(cache: WebhookCache, updated_at: Mapping[UUID, dt.datetime]) -> Mapping[UUID, Webhook]:
        if failures:
            raise failures.pop()
        return await read(cache, updated_at)

    monkeypatch.setattr(WebhookCache, "of", read_or_fail)
    event = await builders.event(await builders.webhook())

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()

    assert failures == []
    assert bench.endpoint.event_ids == [event.id]


@pytest.mark.on_postgres
@pytest.mark.usefixtures("_quick_pause")
async def test_sessions_ended_by_the_server_cost_no_event_and_no_duplicate(
    make_bench: MakeBench, database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "FIRST_PAUSE_SECONDS", 0.01)
    bench = await make_bench(slots=20)
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(60)]
    outside = await asyncpg.connect(database.database_url)
    ended = 0

    async with bench.run_claimer():
        while ended < 10 and len(bench.endpoint.requests) < 60:
            ended += len(await outside.fetch(END_OPEN_TRANSACTIONS))
            await asyncio.sleep(0.002)
        await bench.endpoint.wait_for_requests(60)
        await bench.wait_until_idle()
        await asyncio.sleep(0.1)

    await outside.close()
    assert ended > 0
    assert sorted(bench.endpoint.event_ids) == sorted(event.id for event in events)
    assert await Event.filter(status=EventStatus.SUCCEEDED).count() == 60
    assert await Attempt.all().count() == 60
