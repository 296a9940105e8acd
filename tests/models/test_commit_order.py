"""The log on Postgres, where transactions commit in another order than their rows were made in."""

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


async def wrote(message: str) -> None:
    async with in_transaction() as tx:
        await write(tx, message)


async def read(position: Position) -> tuple[list[str], Position]:
    """What follows a position, page by page."""
    found: list[str] = []
    while entries := (await delivery_log.tail(position, 7))[0]:
        found += [entry.message for entry in entries]
        position = delivery_log.place(entries[-1], position.epoch)
    return found, position


async def test_eight_writers_that_commit_out_of_order(database: Settings) -> None:
    """A reader that goes on from where it is misses nothing and sees all readers' one order; so do cursors later."""
    epoch = await delivery_log.epoch()
    position = beginning = Position(epoch, 0, 0)
    randomly = random.Random(11)
    written: list[str] = []

    async def writer(number: int) -> None:
        turns = count()
        # On a busy machine they go on until the reader has seen enough of them at work.
        while (turn := next(turns)) < 25 or (looks <= 10 and turn < 2_000):
            async with in_transaction() as tx:
                for part in range(randomly.randrange(1, 4)):
                    await write(tx, f"{number}.{turn}.{part}")
                    written.append(f"{number}.{turn}.{part}")
                    await asyncio.sleep(randomly.random() / 100)

    writers = asyncio.gather(*(asyncio.create_task(writer(n), context=copy_context()) for n in range(8)))
    seen: list[str] = []
    looks = 0
    while True:
        done = writers.done()
        found, position = await read(position)
        seen += found
        looks += bool(found)
        if done:
            break
        await asyncio.sleep(0.002)
    await writers
    assert sorted(seen) == sorted(written)
    assert looks > 10
    assert (await read(beginning))[0] == seen
    assert [entry.message for entry in await LogEntry.all().order_by("id")] != seen, (
        "the writers did commit out of order"
    )
    for number in range(8):
        mine = [message for message in seen if message.startswith(f"{number}.")]
        assert mine == [message for message in written if message.startswith(f"{number}.")]


async def test_a_transaction_that_runs_for_long(database: Settings) -> None:
    """It holds up what is committed after it began to write; nothing is lost, and its own entries come first."""
    position = Position(await delivery_log.epoch(), 0, 0)
    await wrote("before")
    release = asyncio.Event()
    began = asyncio.Event()

    async def slow() -> None:
        async with in_transaction() as tx:
            await write(tx, "slow")
            began.set()
            await release.wait()

    running = asyncio.create_task(slow(), context=copy_context())
    await began.wait()
    await wrote("after")
    found, position = await read(position)
    assert found == ["before"]
    assert (await delivery_log.tail(position, 10))[1]
    newest = await delivery_log.newest(position.epoch)
    assert newest >= position
    release.set()
    await running
    found, position = await read(position)
    assert found == ["slow", "after"]
    assert not (await delivery_log.tail(position, 10))[1]
    assert (await read(newest))[0] == ["slow", "after"]


async def test_a_transaction_that_only_reads_holds_up_nothing(database: Settings) -> None:
    position = Position(await delivery_log.epoch(), 0, 0)
    other = await asyncpg.connect(database.database_url)
    async with other.transaction(isolation="repeatable_read"):
        await other.execute("SELECT count(*) FROM ringback_log")
        await wrote("a")
        assert (await read(position))[0] == ["a"]
    await other.close()


async def test_filtered_reading_goes_the_same_way(database: Settings) -> None:
    epoch = await delivery_log.epoch()
    for name in "abcde":
        async with in_transaction() as tx:
            for part in range(4):
                await write(tx, f"{name}{part}")
    end = await delivery_log.newest(epoch)
    for page in (1, 3, 100):
        position, found = Position(epoch, 0, 0), list[str]()
        while position < end:
            entries, position = await delivery_log.between(
                position, end, LogFilter(webhook_ids=frozenset({WEBHOOK})), page
            )
            found += [entry.message for entry in entries]
        assert found == [f"{name}{part}" for name in "abcde" for part in range(4)]
    nothing, position = await delivery_log.between(Position(epoch, 0, 0), end, LogFilter(models=frozenset({"x"})), 5)
    assert (nothing, position) == ([], end)


async def test_a_filter_that_finds_little_is_read_in_portions(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_log, "MAX_SCANNED", 3)
    epoch = await delivery_log.epoch()
    async with in_transaction() as tx:
        for part in range(8):
            await write(tx, str(part))
    end, position, looks = await delivery_log.newest(epoch), Position(epoch, 0, 0), 0
    while position < end:
        found, position = await delivery_log.between(position, end, LogFilter(models=frozenset({"x"})), 5)
        assert found == []
        looks += 1
    assert looks == 3


async def test_cursors(database: Settings) -> None:
    epoch = await delivery_log.epoch()
    await delivery_log.check_resumable(Position(epoch, 0, 0), epoch)
    for message in "abc":
        await wrote(message)
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as tx:
            await write(tx, "a gap between the rows")
            raise ZeroDivisionError
    await wrote("d")
    entries = (await delivery_log.tail(Position(epoch, 0, 0), 10))[0]
    places = [delivery_log.place(entry, epoch) for entry in entries]
    assert [entry.message for entry in entries] == list("abcd")
    for position in (Position(epoch, 0, 0), *places, await delivery_log.newest(epoch)):
        if position.transaction:
            await delivery_log.check_resumable(position, epoch)
    await LogEntry.filter(id__lte=places[1].row).delete()
    with pytest.raises(CursorExpired, match="no longer kept") as caught:
        await delivery_log.check_resumable(places[0], epoch)
    assert [e.message for e in (await delivery_log.tail(Position.parse(caught.value.oldest), 10))[0]] == ["c", "d"]
    for position in places[2:]:
        await delivery_log.check_resumable(position, epoch)
    with pytest.raises(CursorExpired, match="was replaced"):
        await delivery_log.check_resumable(Position(uuid4(), places[2].transaction, 1), epoch)
    with pytest.raises(CursorExpired, match="was restored"):
        await delivery_log.check_resumable(Position(epoch, 2**40, 1), epoch)
    await LogEntry.all().delete()
    with pytest.raises(CursorExpired, match="no longer kept"):
        await delivery_log.check_resumable(places[0], epoch)
    await delivery_log.check_resumable(await delivery_log.newest(epoch), epoch)


async def test_a_database_that_moved_to_another_server(database: Settings) -> None:
    """Its transactions are numbered anew there: old entries stand before new ones, and old cursors have expired."""
    await delivery_log.recognise()
    epoch = await delivery_log.epoch()
    await wrote("old")
    ((old,), position) = await read(Position(epoch, 0, 0))
    await delivery_log.recognise()
    assert (await delivery_log.epoch(), old) == (epoch, "old")
    await LogEntry.all().update(transaction=2**50)
    await Installation.all().update(server="another/1")
    await delivery_log.recognise()
    moved = await delivery_log.epoch()
    assert moved != epoch
    await wrote("new")
    assert (await read(Position(moved, 0, 0)))[0] == ["old", "new"]
    with pytest.raises(CursorExpired, match="was replaced"):
        await delivery_log.check_resumable(position, moved)


async def test_transactions_are_numbered_by_postgres(database: Settings) -> None:
    async with in_transaction() as tx:
        await write(tx, "x")
        (row,) = await fetch(tx, "SELECT pg_current_xact_id()::text::bigint AS number")
    assert [entry.transaction for entry in await LogEntry.all()] == [row["number"]]
