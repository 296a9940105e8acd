"""The budget of bytes: what it refuses, and the turns of large operations."""

import asyncio
from uuid import UUID

import pytest

from ringback.graphql_api.execution.byte_budget import SMALL_BYTES, OperationBudget, ResponseTooLarge, count_text
from ringback.models import Settings
from ringback.models.database import clock
from ringback.models.database.byte_budget import ROW_BYTES, ReadWithin, SizedRows
from ringback.models.database.row_decoding import read_instances
from ringback.models.enums import SignatureCheck
from ringback.models.event import Event
from ringback.models.fair_slots import FairSlots
from ringback.models.inbox import REQUEST_WITHOUT_BODY, Inbox, InboxRequest
from tests.support import builders
from tests.support.eventually import eventually

TOKEN = UUID(int=1)
LIMIT = 4 * SMALL_BYTES


def rows_of(size: int) -> ReadWithin:
    async def read_within(max_bytes: int) -> SizedRows:
        return SizedRows(["row"], size)

    return read_within


async def test_reads_are_added_up_and_refused_beyond_the_limit() -> None:
    with OperationBudget(LIMIT, FairSlots(1), TOKEN) as budget:
        assert await budget.read(rows_of(LIMIT)) == ["row"]

        with pytest.raises(ResponseTooLarge, match="RINGBACK_API_MAX_RESPONSE_BYTES"):
            await budget.read(rows_of(1))


@pytest.mark.every_database
async def test_each_row_counts(database: Settings) -> None:
    webhook = await builders.webhook()
    for _ in range(20):
        await builders.event(webhook)

    with OperationBudget(10 * ROW_BYTES, None, TOKEN):
        assert len(await read_instances(Event.all().limit(10))) == 10
    with OperationBudget(10 * ROW_BYTES, None, TOKEN), pytest.raises(ResponseTooLarge):
        await read_instances(Event.all().limit(11))


@pytest.mark.every_database
async def test_rows_without_a_large_column_count(database: Settings) -> None:
    inbox = await Inbox.create(token="t", responses=[], created_at=await clock.now())
    for _ in range(20):
        await InboxRequest.create(
            inbox_id=inbox.id, received_at=await clock.now(), method="POST", url="", headers=[], body=b"x" * 10_000,
            response_status_code=200, signature=SignatureCheck.ABSENT,
        )  # fmt: skip
    requests = InboxRequest.all().only(*REQUEST_WITHOUT_BODY)

    with OperationBudget(11 * ROW_BYTES, None, TOKEN):
        assert len(await read_instances(requests.limit(10))) == 10
    with OperationBudget(11 * ROW_BYTES, None, TOKEN), pytest.raises(ResponseTooLarge):
        await read_instances(requests.limit(12))


async def test_each_copy_of_a_long_text_counts() -> None:
    text = "x" * SMALL_BYTES
    with OperationBudget(LIMIT, FairSlots(1), TOKEN):
        for _ in range(3):
            count_text(text)

        with pytest.raises(ResponseTooLarge):
            count_text(text)


async def test_a_large_operation_waits_for_another_and_a_small_one_does_not() -> None:
    turns = FairSlots(1)
    small, second = OperationBudget(LIMIT, turns, TOKEN), OperationBudget(LIMIT, turns, TOKEN)
    with OperationBudget(LIMIT, turns, TOKEN) as first:
        await first.read(rows_of(SMALL_BYTES + 1))
        waiting = asyncio.create_task(second.read(rows_of(SMALL_BYTES + 1)))
        await small.read(rows_of(SMALL_BYTES))
        assert not waiting.done()

    assert await waiting == ["row"]


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no operation hold its turn or slot while others wait."""
    monkeypatch.setattr("ringback.graphql_api.execution.byte_budget.MAX_SECONDS_IF_OTHERS_WAIT", 0.0)


@pytest.mark.usefixtures("no_patience")
async def test_others_get_the_turn_between_two_fields() -> None:
    turns = FairSlots(1)
    with OperationBudget(LIMIT, turns, TOKEN) as first:
        with OperationBudget(LIMIT, turns, TOKEN) as second:
            await first.read(rows_of(SMALL_BYTES + 1))
            waiting = asyncio.create_task(second.read(rows_of(SMALL_BYTES + 1)))
            await eventually(first.is_late)

            assert await first.may_start_field()
            await waiting
            reading = asyncio.create_task(first.read(rows_of(1)))
            await asyncio.sleep(0.01)
            assert not reading.done()
            assert second.is_large

        assert await reading == ["row"]
        assert first.is_large
        with pytest.raises(ResponseTooLarge):
            await first.read(rows_of(LIMIT))


@pytest.mark.usefixtures("no_patience")
async def test_an_operation_with_a_large_response_keeps_its_turn_and_ends() -> None:
    turns = FairSlots(1)
    with OperationBudget(LIMIT, turns, TOKEN) as first, OperationBudget(LIMIT, turns, TOKEN) as second:
        await first.read(rows_of(SMALL_BYTES + 1))
        first.write(SMALL_BYTES + 1)
        assert await first.may_start_field()

        waiting = asyncio.create_task(second.read(rows_of(SMALL_BYTES + 1)))
        await eventually(first.is_late)

        assert not await first.may_start_field()
        assert not waiting.done()
        waiting.cancel()


async def test_a_field_is_late_only_after_a_while_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = FairSlots(1)
    async with slots.hold(TOKEN) as slot:
        with OperationBudget(LIMIT, None, TOKEN, slot) as budget:
            monkeypatch.setattr("ringback.graphql_api.execution.byte_budget.MAX_SECONDS_IF_OTHERS_WAIT", 0.2)
            await asyncio.sleep(0.3)
            assert await budget.may_start_field()
            waiting = asyncio.create_task(slots.acquire(TOKEN))
            await asyncio.sleep(0)

            assert not budget.is_late()
            await eventually(budget.is_late)
    await waiting


@pytest.mark.usefixtures("no_patience")
async def test_others_get_the_slot_and_the_turn_between_two_fields() -> None:
    slots, turns = FairSlots(1, max_interrupted=1), FairSlots(1)

    async def run() -> None:
        async with slots.hold(None):
            with OperationBudget(LIMIT, turns, TOKEN) as budget:
                await budget.read(rows_of(SMALL_BYTES + 1))

    async with slots.hold(TOKEN) as slot:
        with OperationBudget(LIMIT, turns, TOKEN, slot) as budget:
            await budget.read(rows_of(SMALL_BYTES + 1))
            other = asyncio.create_task(run())
            await eventually(budget.is_late)

            assert await budget.may_start_field()
            assert other.done()
            assert slot.is_held


@pytest.mark.usefixtures("no_patience")
async def test_an_operation_ends_if_too_many_have_passed_on_their_slots() -> None:
    slots = FairSlots(1)
    async with slots.hold(TOKEN) as slot:
        with OperationBudget(LIMIT, FairSlots(1), TOKEN, slot) as budget:
            await budget.read(rows_of(SMALL_BYTES + 1))
            waiting = asyncio.create_task(slots.acquire(TOKEN))
            await eventually(budget.is_late)

            assert not await budget.may_start_field()
    await waiting


async def test_a_token_does_not_wait_for_all_large_operations_of_another() -> None:
    turns, order = FairSlots(1), list[str]()

    async def run(token_id: UUID, name: str) -> None:
        with OperationBudget(LIMIT, turns, token_id) as budget:
            await budget.read(rows_of(SMALL_BYTES + 1))
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*(run(TOKEN, "one") for _ in range(5)), run(UUID(int=2), "other"))

    assert order == ["one", "one", "other", "one", "one", "one"]
