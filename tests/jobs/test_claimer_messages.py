"""Messages at the claimer: how long it keeps each, and when it passes one on to another worker."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from ringback.jobs import claimer as claiming
from ringback.models.queue.claims import ClaimedBatch, claim
from ringback.models.queue.grants import ClaimRequest
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.every_database

MakeBench = Callable[..., Awaitable[Bench]]


@pytest.mark.usefixtures("_no_poll")
async def test_a_message_is_kept_until_its_claim_has_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "KEEP_MESSAGE_SECONDS", PATIENCE_SECONDS)
    may_claim = asyncio.Event()

    async def claim_late(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        await may_claim.wait()
        return await claim(worker_id, request)

    async with bench.run_claimer():
        monkeypatch.setattr(claiming, "claim", claim_late)
        accepting = asyncio.create_task(bench.accept_message())
        await asyncio.sleep(0.05)
        assert not accepting.done()

        may_claim.set()

        assert await accepting


@pytest.mark.usefixtures("_no_poll")
async def test_a_full_worker_alone_keeps_the_message(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=1)
    await builders.event(await builders.webhook())
    bench.endpoint.hold()
    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()

        assert await bench.accept_message()


@pytest.mark.usefixtures("_no_poll")
async def test_a_full_worker_keeps_a_message_that_reaches_no_peer(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=1, can_pass_on=False)
    bench.keeper.has_peers = True
    await builders.event(await builders.webhook())
    bench.endpoint.hold()
    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()

        assert await bench.accept_message()


@pytest.mark.usefixtures("_no_poll")
async def test_a_full_worker_with_peers_passes_the_message_on(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=1)
    bench.keeper.has_peers = True
    await builders.event(await builders.webhook())
    bench.endpoint.hold()
    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests()

        assert not await bench.accept_message()


@pytest.mark.usefixtures("_no_poll")
async def test_a_full_worker_with_peers_waits_for_a_slot(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "KEEP_MESSAGE_SECONDS", PATIENCE_SECONDS)
    bench = await make_bench(slots=2)
    bench.keeper.has_peers = True
    held = [await builders.event(await builders.webhook()) for _ in range(2)]
    bench.endpoint.hold()
    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(2)
        accepting = asyncio.create_task(bench.accept_message())
        await asyncio.sleep(0.05)
        assert not accepting.done()

        bench.endpoint.release(held[0])

        assert await accepting


@pytest.mark.usefixtures("_no_poll")
async def test_a_worker_that_leaves_due_events_behind_passes_the_message_on(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "KEEP_MESSAGE_SECONDS", PATIENCE_SECONDS)
    bench = await make_bench(slots=2)
    bench.keeper.has_peers = True
    bench.endpoint.hold()
    async with bench.run_claimer():
        webhook = await builders.webhook()
        for _ in range(5):
            await builders.event(webhook)

        assert not await bench.accept_message()


@pytest.mark.usefixtures("_no_poll")
async def test_a_stopped_worker_with_peers_passes_the_message_on(bench: Bench) -> None:
    bench.keeper.has_peers = True
    async with bench.run_claimer():
        pass

    assert not await bench.accept_message()


@pytest.mark.usefixtures("_no_poll")
async def test_an_announced_message_leads_to_one_claim(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "KEEP_MESSAGE_SECONDS", PATIENCE_SECONDS)
    claims: list[ClaimedBatch] = []

    async def count_claim(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        claims.append(await claim(worker_id, request))
        return claims[-1]

    async with bench.run_claimer():
        monkeypatch.setattr(claiming, "claim", count_claim)
        for number in (1, 2):
            event = await builders.event(await builders.webhook())

            await bench.claimer.expect_message()
            assert len(claims) == number
            await bench.endpoint.wait_for_requests()
            assert await bench.accept_message()
            await bench.wait_until_idle()

            assert bench.endpoint.event_ids[-1] == event.id
        await asyncio.sleep(0.05)

    assert [len(batch.deliveries) for batch in claims] == [1, 1]
