"""Tests of the delivery log: positions, cursors, and the error for a cursor whose entries are gone."""

import base64
from typing import Any
from uuid import UUID, uuid4

import pytest
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from ringback.models import Settings, delivery_log
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry, LogFilter, Position
from ringback.models.enums import LogKind
from ringback.models.errors import CursorExpired, CursorInvalid

EPOCH = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


async def write(number: int, kind: LogKind = LogKind.EVENT_RECORDED, model: str = "lead") -> None:
    at = await clock.now()
    rows = [
        LogEntry(kind=kind, message=f"{n}", at=at, webhook_id=EPOCH, event_id=uuid4(), model=model)
        for n in range(number)
    ]
    await LogEntry.bulk_create(rows)


@pytest.mark.parametrize(
    "position", [Position(EPOCH, 0, 0), Position(EPOCH, 2**63 - 1, 2**63 - 1), Position(EPOCH, 7, 42)]
)
def test_a_cursor_parses_to_its_position(position: Position) -> None:
    cursor = position.cursor()
    assert Position.parse(cursor) == position
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_positions_are_ordered() -> None:
    assert Position(EPOCH, 0, 9) < Position(EPOCH, 0, 10) < Position(EPOCH, 1, 0)


def encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "not base64!",
        "é",
        "MQ",
        encode("1.2"),
        encode(f"{EPOCH.hex}.0.1.2"),
        encode(f"{EPOCH.hex}.0.-1"),
        encode(f"{EPOCH.hex}.-1.1"),
        encode(f"{EPOCH.hex}.0.{2**63:x}"),
        encode(f"{EPOCH.hex}.{2**63:x}.1"),
        encode(f"{EPOCH.hex}.0.zz"),
        encode(f"{EPOCH.hex[:-1]}.0.1"),
        encode(f"{EPOCH}.0.1"),  # Python's UUID accepts this spelling, but cursor() never writes it
        encode(f"{EPOCH.hex}.0.0x1"),
        encode(f"{EPOCH.hex}.0.1_0"),
        encode(f"{EPOCH.hex}.0. 1"),
        encode(f"{EPOCH.hex}.0.01"),
        encode(f"{EPOCH.hex.upper()}.0.1"),
        Position(EPOCH, 0, 1).cursor() + "=",
        Position(EPOCH, 0, 1).cursor() + "\n",
        "A" * 100_000,
    ],
)
def test_malformed_cursors(cursor: str) -> None:
    with pytest.raises(CursorInvalid, match="is not a cursor of the delivery log$") as caught:
        Position.parse(cursor)
    assert not isinstance(caught.value, CursorExpired)
    assert len(str(caught.value)) < 200


async def test_the_newest_position_and_the_entries_after_a_position(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    assert await delivery_log.read_end(epoch) == Position(epoch, 0, 0)
    assert (await delivery_log.read_after(Position(epoch, 0, 0), 10))[0] == []
    await write(5)
    assert await delivery_log.read_end(epoch) == Position(epoch, 0, 5)
    assert [e.id for e in (await delivery_log.read_after(Position(epoch, 0, 1), 3))[0]] == [2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        async with in_transaction():
            await write(2)
            raise ZeroDivisionError
    assert await delivery_log.read_end(epoch) == Position(epoch, 0, 5)
    assert (await delivery_log.read_after(Position(epoch, 0, 5), 10))[0] == []


async def test_every_position_of_a_complete_log_is_resumable(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    await delivery_log.check_resumable(Position(epoch, 0, 0), epoch)
    await write(3)
    for row in range(4):
        await delivery_log.check_resumable(Position(epoch, 0, row), epoch)


async def test_an_entry_committed_during_the_check_does_not_expire_a_cursor(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = delivery_log._in_order

    class CommittedAfterwards:
        """A query after which another process commits the very first entry."""

        def __init__(self, query: QuerySet[LogEntry]) -> None:
            self._query = in_order(query)

        async def first(self) -> LogEntry | None:
            entry = await self._query.first()
            await write(1)
            return entry

    monkeypatch.setattr(delivery_log, "_in_order", CommittedAfterwards)
    epoch = await delivery_log.read_epoch()
    await delivery_log.check_resumable(Position(epoch, 0, 0), epoch)
    assert await LogEntry.all().count() == 1


async def test_a_cursor_before_deleted_entries_has_expired(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    await write(5)
    await LogEntry.filter(id__lte=3).delete()
    for row in (3, 4, 5):
        await delivery_log.check_resumable(Position(epoch, 0, row), epoch)
    with pytest.raises(CursorExpired, match="^the entries after this cursor have been deleted$") as caught:
        await delivery_log.check_resumable(Position(epoch, 0, 2), epoch)
    assert Position.parse(caught.value.oldest) == Position(epoch, 0, 3)
    assert [e.id for e in (await delivery_log.read_after(Position.parse(caught.value.oldest), 10))[0]] == [4, 5]


async def test_a_log_whose_entries_are_all_deleted(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    await write(5)
    await LogEntry.all().delete()
    assert await delivery_log.read_end(epoch) == Position(epoch, 0, 5)
    await delivery_log.check_resumable(Position(epoch, 0, 5), epoch)
    with pytest.raises(CursorExpired) as caught:
        await delivery_log.check_resumable(Position(epoch, 0, 4), epoch)
    assert Position.parse(caught.value.oldest) == Position(epoch, 0, 5)
    await write(1)
    assert [e.id for e in (await delivery_log.read_after(Position(epoch, 0, 5), 10))[0]] == [6]  # ids are never reused


async def test_a_cursor_of_another_database_has_expired(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    await write(2)
    with pytest.raises(CursorExpired, match="^this cursor belongs to a database that was replaced$") as caught:
        await delivery_log.check_resumable(Position(EPOCH, 0, 2), epoch)
    assert Position.parse(caught.value.oldest) == Position(epoch, 0, 0)


async def test_a_cursor_ahead_of_a_restored_database_has_expired(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    await write(2)
    with pytest.raises(CursorExpired, match="^this cursor is ahead of a database that was restored$"):
        await delivery_log.check_resumable(Position(epoch, 0, 3), epoch)


async def test_filters(database: Settings) -> None:
    await write(1)
    await write(1, LogKind.EVENT_FAILED, "customer_order")
    first, second = await LogEntry.all().order_by("id")
    for log_filter, accepted in [
        (LogFilter(), [first, second]),
        (LogFilter(models=frozenset({"lead"})), [first]),
        (LogFilter(kinds=frozenset({LogKind.EVENT_FAILED})), [second]),
        (LogFilter(event_ids=frozenset({second.event_id})), [second]),
        (LogFilter(webhook_ids=frozenset({EPOCH}), models=frozenset({"lead"})), [first]),
        (LogFilter(webhook_ids=frozenset({uuid4()})), []),
        (LogFilter(models=frozenset()), []),
    ]:
        assert [entry for entry in (first, second) if log_filter.accepts(entry)] == accepted


async def test_matching_entries_between_two_positions(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    for kind, model in [(LogKind.EVENT_RECORDED, "lead"), (LogKind.EVENT_FAILED, "customer_order")] * 5:
        await write(1, kind, model)

    async def between(start: int, end: int, limit: int, **wanted: Any) -> tuple[list[int], int]:
        position, until = Position(epoch, 0, start), Position(epoch, 0, end)
        entries, reached = await delivery_log.read_between(position, until, LogFilter(**wanted), limit)
        assert (reached.epoch, reached.transaction) == (epoch, 0)
        return [entry.id for entry in entries], reached.row

    assert await between(0, 10, 100) == ([*range(1, 11)], 10)
    assert await between(3, 6, 100) == ([4, 5, 6], 6)
    assert await between(0, 10, 4) == ([1, 2, 3, 4], 4)
    assert await between(0, 9, 100, models=frozenset({"customer_order"})) == ([2, 4, 6, 8], 9)
    assert await between(0, 9, 2, kinds=frozenset({LogKind.EVENT_FAILED})) == ([2, 4], 4)
    assert await between(0, 9, 2, webhook_ids=frozenset({EPOCH}), models=frozenset({"lead"})) == ([1, 3], 3)
    assert await between(0, 9, 2, event_ids=frozenset({EPOCH})) == ([], 9)
    assert await between(0, 9, 2, models=frozenset()) == ([], 9)
    assert await between(10, 10, 2) == ([], 10)


async def test_one_call_reads_a_limited_number_of_rows(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_log, "MAX_SCANNED", 3)
    epoch = await delivery_log.read_epoch()
    await write(10)
    entries, reached = await delivery_log.read_between(
        Position(epoch, 0, 0), Position(epoch, 0, 10), LogFilter(models=frozenset({"other"})), 5
    )
    assert (entries, reached) == ([], Position(epoch, 0, 3))
    entries, reached = await delivery_log.read_between(Position(epoch, 0, 8), Position(epoch, 0, 10), LogFilter(), 5)
    assert ([entry.id for entry in entries], reached) == ([9, 10], Position(epoch, 0, 10))


async def test_a_webhooks_entries_are_found_by_an_index(database: Settings) -> None:
    query = (
        LogEntry.filter(id__gt=1, id__lte=100, webhook_id__in=[EPOCH]).order_by("id").limit(10).sql(params_inline=True)
    )
    plan = await LogEntry._meta.db.execute_query_dict(f"EXPLAIN QUERY PLAN {query}")
    assert "webhook_id=? AND id>? AND id<?" in str(plan[0]["detail"])
