"""Tests of the delivery log on Postgres, where transactions may commit in another order than they assign ids."""

import asyncio
import random
from contextvars import copy_context
from itertools import count
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tortoise.transactions import in_transaction

from ringback.models import Settings, delivery_log
from ringback.models.database import clock
from ringback.models.database.sql import fetch
from ringback.models.delivery_log import Installation, LogEntry, LogFilter, Position
from ringback.models.enums import LogKind
from ringback.models.errors import CursorExpired
from tests.support.inserting import insert

pytestmark = pytest.mark.on_postgres
WEBHOOK = uuid4()


async def write(db: Any, message: str) -> None:
    at = await clock.now(db)
    row = LogEntry(
        kind=LogKind.EVENT_RECORDED, message=message, at=at, webhook_id=WEBHOOK, event_id=uuid4(), model="lead"
    )
    await insert(db, [row])


async def commit(message: str) -> None:
    async with in_transaction() as tx:
        await write(tx, message)


async def read(position: Position) -> tuple[list[str], Position]:
    """Return the messages after a position and the position of the last one, reading page by page."""
    messages: list[str] = []
    while entries := (await delivery_log.read_after(position, 7))[0]:
        messages += [entry.message for entry in entries]
        position = delivery_log.get_position(entries[-1], position.epoch)
    return messages, position


@pytest.mark.measures_cpu
async def test_eight_writers_that_commit_out_of_order(database: Settings) -> None:
    """A reader that continues from its position misses nothing and sees the same order as a later reader."""
    epoch = await delivery_log.read_epoch()
    position = start = Position(epoch, 0, 0)
    randomly = random.Random(11)
    written: list[str] = []

    async def writer(number: int) -> None:
        turns = count()
        # On a busy machine the writers continue until the reader has read often enough between their commits.
        while (turn := next(turns)) < 25 or (reads <= 10 and turn < 2_000):
            async with in_transaction() as tx:
                for part in range(randomly.randrange(1, 4)):
                    await write(tx, f"{number}.{turn}.{part}")
                    written.append(f"{number}.{turn}.{part}")
                    await asyncio.sleep(randomly.random() / 100)

    writers = asyncio.gather(*(asyncio.create_task(writer(n), context=copy_context()) for n in range(8)))
    seen: list[str] = []
    reads = 0
    while True:
        done = writers.done()
        messages, position = await read(position)
        seen += messages
        reads += bool(messages)
        if done:
            break
        await asyncio.sleep(0.002)
    await writers
    assert sorted(seen) == sorted(written)
    assert reads > 10
    assert (await read(start))[0] == seen
    assert [entry.message for entry in await LogEntry.all().order_by("id")] != seen, (
        "the writers must have committed out of order"
    )
    for number in range(8):
        mine = [message for message in seen if message.startswith(f"{number}.")]
        assert mine == [message for message in written if message.startswith(f"{number}.")]


async def test_a_long_transaction_delays_entries_but_loses_none(database: Settings) -> None:
    """Entries committed after its first write become readable when it ends, after its own entries."""
    position = Position(await delivery_log.read_epoch(), 0, 0)
    await commit("before")
    release = asyncio.Event()
    started = asyncio.Event()

    async def slow() -> None:
        async with in_transaction() as tx:
            await write(tx, "slow")
            started.set()
            await release.wait()

    running = asyncio.create_task(slow(), context=copy_context())
    await started.wait()
    await commit("after")
    messages, position = await read(position)
    assert messages == ["before"]
    assert (await delivery_log.read_after(position, 10))[1]
    newest = await delivery_log.read_end(position.epoch)
    assert newest >= position
    release.set()
    await running
    messages, position = await read(position)
    assert messages == ["slow", "after"]
    assert not (await delivery_log.read_after(position, 10))[1]
    assert (await read(newest))[0] == ["slow", "after"]


async def test_a_transaction_that_only_reads_delays_nothing(database: Settings) -> None:
    position = Position(await delivery_log.read_epoch(), 0, 0)
    other = await asyncpg.connect(database.database_url)
    async with other.transaction(isolation="repeatable_read"):
        await other.execute("SELECT count(*) FROM ringback_log")
        await commit("a")
        assert (await read(position))[0] == ["a"]
    await other.close()


async def test_entries_read_with_a_filter_are_in_the_same_order(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    for name in "abcde":
        async with in_transaction() as tx:
            for part in range(4):
                await write(tx, f"{name}{part}")
    end = await delivery_log.read_end(epoch)
    for page in (1, 3, 100):
        position, messages = Position(epoch, 0, 0), list[str]()
        while position < end:
            entries, position = await delivery_log.read_between(
                position, end, LogFilter(webhook_ids=frozenset({WEBHOOK})), page
            )
            messages += [entry.message for entry in entries]
        assert messages == [f"{name}{part}" for name in "abcde" for part in range(4)]
    entries, position = await delivery_log.read_between(
        Position(epoch, 0, 0), end, LogFilter(models=frozenset({"x"})), 5
    )
    assert (entries, position) == ([], end)


async def test_a_filter_with_few_matches_is_read_in_several_statements(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_log, "MAX_SCANNED", 3)
    epoch = await delivery_log.read_epoch()
    async with in_transaction() as tx:
        for part in range(8):
            await write(tx, str(part))
    end, position, reads = await delivery_log.read_end(epoch), Position(epoch, 0, 0), 0
    while position < end:
        entries, position = await delivery_log.read_between(position, end, LogFilter(models=frozenset({"x"})), 5)
        assert entries == []
        reads += 1
    assert reads == 3


async def test_cursors_are_checked(database: Settings) -> None:
    epoch = await delivery_log.read_epoch()
    await delivery_log.check_resumable(Position(epoch, 0, 0), epoch)
    for message in "abc":
        await commit(message)
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as tx:
            await write(tx, "a gap between the rows")
            raise ZeroDivisionError
    await commit("d")
    entries = (await delivery_log.read_after(Position(epoch, 0, 0), 10))[0]
    positions = [delivery_log.get_position(entry, epoch) for entry in entries]
    assert [entry.message for entry in entries] == list("abcd")
    for position in (Position(epoch, 0, 0), *positions, await delivery_log.read_end(epoch)):
        if position.transaction:
            await delivery_log.check_resumable(position, epoch)
    await LogEntry.filter(id__lte=positions[1].row).delete()
    with pytest.raises(CursorExpired, match="have been deleted") as caught:
        await delivery_log.check_resumable(positions[0], epoch)
    assert [e.message for e in (await delivery_log.read_after(Position.parse(caught.value.oldest), 10))[0]] == [
        "c",
        "d",
    ]
    for position in positions[2:]:
        await delivery_log.check_resumable(position, epoch)
    with pytest.raises(CursorExpired, match="was replaced"):
        await delivery_log.check_resumable(Position(uuid4(), positions[2].transaction, 1), epoch)
    with pytest.raises(CursorExpired, match="was restored"):
        await delivery_log.check_resumable(Position(epoch, 2**40, 1), epoch)
    await LogEntry.all().delete()
    with pytest.raises(CursorExpired, match="have been deleted"):
        await delivery_log.check_resumable(positions[0], epoch)
    await delivery_log.check_resumable(await delivery_log.read_end(epoch), epoch)


async def test_a_database_that_moved_to_another_server(database: Settings) -> None:
    """The new server numbers transactions anew: old entries come before new ones, and old cursors have expired."""
    await delivery_log.detect_move()
    epoch = await delivery_log.read_epoch()
    await commit("old")
    ((old,), position) = await read(Position(epoch, 0, 0))
    await delivery_log.detect_move()
    assert (await delivery_log.read_epoch(), old) == (epoch, "old")
    await LogEntry.all().update(transaction=2**50)
    await Installation.all().update(server="another/1")
    await delivery_log.detect_move()
    new_epoch = await delivery_log.read_epoch()
    assert new_epoch != epoch
    await commit("new")
    assert (await read(Position(new_epoch, 0, 0)))[0] == ["old", "new"]
    with pytest.raises(CursorExpired, match="was replaced"):
        await delivery_log.check_resumable(position, new_epoch)


async def test_transactions_are_numbered_by_postgres(database: Settings) -> None:
    async with in_transaction() as tx:
        await write(tx, "x")
        (row,) = await fetch(tx, "SELECT pg_current_xact_id()::text::bigint AS number")
    assert [entry.transaction for entry in await LogEntry.all()] == [row["number"]]
