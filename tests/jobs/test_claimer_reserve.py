"""The claimer and the slots that are reserved for prompt webhooks."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from ringback.jobs import claimer as claiming
from ringback.models.event import Event
from ringback.models.queue.claims import ClaimedBatch, claim
from ringback.models.queue.grants import ClaimRequest
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.every_database

MakeBench = Callable[..., Awaitable[Bench]]


@pytest.mark.usefixtures("_no_poll")
async def test_endpoints_that_hang_never_take_the_last_eighth_of_the_slots(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=16)
    prompt = await builders.webhook()
    await bench.start(await builders.event(prompt))
    await bench.wait_until_idle()
    hanging = [await builders.event(await builders.webhook(), due_in=number / 100 - 60) for number in range(30)]
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(15)
        await asyncio.sleep(0.05)
        assert bench.endpoint.event_ids[1:] == [event.id for event in hanging[:14]]

        event = await builders.event(prompt)
        await bench.claimer.accept_message()
        await bench.endpoint.wait_for_requests(16)
        assert bench.endpoint.event_ids[15:] == [event.id]

        bench.endpoint.release(hanging[0])
        await bench.endpoint.wait_for_requests(17)
        await asyncio.sleep(0.05)

    assert bench.endpoint.event_ids[16:] == [hanging[14].id]


@pytest.mark.usefixtures("_no_poll")
async def test_slow_webhooks_hide_no_prompt_one(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=16)
    for _ in range(60):
        await builders.event(await builders.webhook(), due_in=-60)
    prompt = await builders.webhook()
    bench.in_flight.set_prompt(prompt.id, True)
    event = await builders.event(prompt)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(15)

    assert bench.endpoint.event_ids[14:] == [event.id]
    assert len(bench.waits) <= 3, "webhook by webhook it would be 20 claims"


@pytest.mark.usefixtures("_no_poll")
async def test_webhooks_that_are_not_known_get_slots_beside_slow_ones(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=20)
    slow = [await builders.webhook() for _ in range(8)]
    for number in range(40):
        await builders.event(slow[number % 8], due_in=number / 100 - 60)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(16)
        await asyncio.sleep(0.05)
        assert len(bench.endpoint.requests) == 16

        event = await builders.event(await builders.webhook())
        await bench.claimer.accept_message()
        await bench.endpoint.wait_for_requests(17)

    assert bench.endpoint.event_ids[16:] == [event.id]


async def test_a_claimer_without_common_slots_does_not_claim_all_the_time(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=8)
    for _ in range(20):
        await builders.event(await builders.webhook(), due_in=-60)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(7)
        await asyncio.sleep(0.1)
        claims = len(bench.waits)
        await asyncio.sleep(1)

    assert len(bench.waits) - claims <= 6
    assert bench.waits[-1] == claiming.PROMPT_SECONDS
    assert len(bench.endpoint.requests) == 7


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return whether each claim searches for prompt webhooks only."""
    made: list[bool] = []

    async def claim_and_record(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
        made.append(request.only_prompt)
        return await claim(worker_id, request)

    monkeypatch.setattr(claiming, "claim", claim_and_record)
    return made


async def make_backlog(bench: Bench) -> list[Event]:
    """Return due events of webhooks of their own, the earliest first, and let another webhook be known as prompt."""
    bench.in_flight.set_prompt((await builders.webhook()).id, True)
    return [await builders.event(await builders.webhook(), due_in=number / 100 - 60) for number in range(100)]


@pytest.mark.parametrize(("ended", "is_search"), [(1, True), (4, False)])
async def test_prompt_webhooks_are_searched_for_while_others_have_most_common_slots(
    make_bench: MakeBench, searches: list[bool], monkeypatch: pytest.MonkeyPatch, ended: int, is_search: bool
) -> None:
    monkeypatch.setattr(claiming, "HIDDEN_SECONDS", 10 * PATIENCE_SECONDS)
    bench = await make_bench(slots=16)  # of which 14 are common
    events = await make_backlog(bench)
    bench.endpoint.hold()
    await bench.claimer._claim_once()
    await bench.endpoint.wait_for_requests(14)
    bench.endpoint.release(*events[:ended])
    await eventually(lambda: len(bench.in_flight) == 14 - ended and len(bench.recorder) == 0)

    await bench.claimer._claim_once()

    assert searches == [False, is_search]
    bench.endpoint.release()


async def test_prompt_webhooks_are_searched_for_at_times_while_others_end_quickly(
    make_bench: MakeBench, searches: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "HIDDEN_SECONDS", 0)
    bench = await make_bench(slots=16)
    await make_backlog(bench)

    for _ in range(4):
        await bench.claimer._claim_once()
        await bench.wait_until_idle()

    assert searches == [False, True, False, True]


@pytest.mark.usefixtures("_no_poll")
async def test_fewer_than_eight_slots_have_no_reserve(make_bench: MakeBench) -> None:
    bench = await make_bench(slots=7)
    for _ in range(9):
        await builders.event(await builders.webhook(), due_in=-60)
    bench.endpoint.hold()

    async with bench.run_claimer():
        await bench.endpoint.wait_for_requests(7)
        await asyncio.sleep(0.05)

    assert len(bench.endpoint.requests) == 7
