"""The live log in one process: no entry missed or repeated, limited queues, and no trace of readers that left."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
import pytest_asyncio

from ringback.graphql_api.context.live_log import BURST, PAGE, SubscriberBehind, TailedEntry, Tailer
from ringback.models import delivery_log
from ringback.models.delivery_log import LogEntry, LogFilter, Position
from ringback.models.enums import LogKind
from ringback.models.ids import Prefix, encode, new_key
from tests.support import builders
from tests.support.api import Api
from tests.support.live_log import CURSORS, caught_up, entries_of, joined, subscribed, take, write
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.every_database

ALL = LogFilter()


async def place(number: int) -> Position:
    """Return the position of the n-th entry."""
    return delivery_log.get_position((await LogEntry.all().order_by("id"))[number - 1], await delivery_log.read_epoch())


async def committed() -> list[str]:
    """Return all messages in commit order."""
    return [entry.message for entry in await LogEntry.all().order_by("transaction", "id")]


@pytest.mark.measures_cpu
async def test_2000_entries_by_four_writers_while_readers_drop_and_resume(api: Api) -> None:
    total, writers = 2_000, 4
    await write("first")  # so that a cursor at the start of the log is valid

    async def writer(name: int) -> None:
        chance, remaining = random.Random(name), [f"{name}.{n}" for n in range(total // writers)]
        while remaining:
            size = chance.randint(1, 40)
            batch, remaining = remaining[:size], remaining[size:]
            await write(*batch)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.01)

    async def reader(name: int) -> list[str]:
        chance = random.Random(100 + name)
        seen: list[str] = []
        cursor = Position(await delivery_log.read_epoch(), 0, 0).cursor()
        while len(seen) < total + 1:
            stream = await api.follow(CURSORS, after=cursor)
            async with aclosing(stream):
                count = min(chance.choice([1, 7, 90, 400, 700]), total + 1 - len(seen))
                for _ in range(count):
                    (entry,) = entries_of([await anext(stream)])
                    seen.append(entry["message"])
                    cursor = entry["cursor"]
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.02)
        return seen

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        readers = [group.create_task(reader(name)) for name in range(5)]
        for name in range(writers):
            group.create_task(writer(name))
    expected = await committed()
    assert len(expected) == total + 1
    for task in readers:
        assert task.result() == expected
    assert api.services.tailer.audience.size == 0


async def test_without_a_cursor_it_starts_now(api: Api) -> None:
    await write("before")
    await caught_up(api.services.tailer)
    stream = await api.follow(CURSORS, after=None)
    waiting = asyncio.create_task(take(stream, 2))
    await subscribed(api, 1)
    await write("first", "second")
    assert [entry["message"] for entry in entries_of(await waiting)] == ["first", "second"]
    await stream.aclose()


async def test_all_missed_entries_come_first(api: Api) -> None:
    count = 2 * PAGE + 7
    await write(*(str(n) for n in range(count)))
    stream = await api.follow(CURSORS, after=(await place(3)).cursor())
    missed = entries_of(await take(stream, count - 3))
    assert [entry["message"] for entry in missed] == [str(n) for n in range(3, count)]
    assert missed[-1]["cursor"] == (await delivery_log.read_end(await delivery_log.read_epoch())).cursor()
    await write("live")
    assert [entry["message"] for entry in entries_of(await take(stream, 1))] == ["live"]
    await stream.aclose()


KEYS = [UUID(int=n) for n in range(4)]
WEBHOOK = encode(Prefix.WEBHOOK, KEYS[1])
EVENT = encode(Prefix.EVENT, KEYS[2])


@pytest.mark.parametrize("missed", [True, False], ids=["missed", "live"])
@pytest.mark.parametrize(
    ("entry_filter", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"webhookIds": None, "eventIds": None, "models": None, "kinds": None}, ["a", "b", "c"]),
        ({"models": ["lead"]}, ["a", "b"]),
        ({"models": ["lead"], "kinds": ["EVENT_FAILED"]}, ["b"]),
        ({"kinds": ["EVENT_FAILED", "EVENT_CANCELLED"]}, ["b", "c"]),
        ({"webhookIds": [WEBHOOK]}, ["a", "c"]),
        ({"eventIds": [EVENT]}, ["b"]),
        ({"webhookIds": [WEBHOOK], "eventIds": [EVENT]}, []),
    ],
)
async def test_filters(api: Api, missed: bool, entry_filter: dict[str, Any], expected: list[str]) -> None:
    document = """
    subscription ($filter: DeliveryLogFilter, $after: String) {
      deliveryLog(filter: $filter, after: $after) { message }
    }
    """
    start = Position(await delivery_log.read_epoch(), 0, 0).cursor()
    if missed:
        await write_three()
    stream = await api.follow(document, filter=entry_filter, after=start if missed else None)
    waiting = asyncio.create_task(take(stream, len(expected) + 1))
    if not missed:
        await subscribed(api, 1)
        await write_three()
    # All of these filters accept this one, so it comes last.
    await write("end", webhook_id=KEYS[1], event_id=KEYS[2], kind=LogKind.EVENT_FAILED)
    assert [entry["message"] for entry in entries_of(await waiting)] == [*expected, "end"]
    await stream.aclose()


async def write_three() -> None:
    await write("a", webhook_id=KEYS[1], event_id=KEYS[1])
    await write("b", webhook_id=KEYS[2], event_id=KEYS[2], kind=LogKind.EVENT_FAILED)
    await write("c", webhook_id=KEYS[1], event_id=KEYS[3], kind=LogKind.EVENT_CANCELLED, model="customer_order")


@pytest.mark.parametrize(
    ("entry_filter", "message"),
    [
        ({"webhookIds": ["whk_x"]}, "filter.webhookIds[0]: 'whk_x' is not an id"),
        ({"eventIds": [EVENT, WEBHOOK]}, "filter.eventIds[1]: "),
        ({"models": ["x" * 101]}, "filter.models[0] has 101 characters. Enter at most 100."),
        ({"models": ["lead"] * 1_001}, "filter.models has 1,001 entries. Enter at most 1,000."),
    ],
)
async def test_an_invalid_filter_is_refused(api: Api, entry_filter: dict[str, Any], message: str) -> None:
    stream = await api.follow("DeliveryLog", filter=entry_filter)
    ((result),) = [result async for result in stream]
    ((error),) = result.errors or ()
    assert error.message.startswith(message)
    assert error.extensions == {"code": "BAD_USER_INPUT"}


async def test_the_event_of_an_entry_is_current(api: Api) -> None:
    webhook = await builders.webhook(name="Leads")
    event = await builders.event(webhook)
    await write("recorded", webhook_id=webhook.id, event_id=event.id)
    stream = await api.follow("DeliveryLog", after=Position(await delivery_log.read_epoch(), 0, 0).cursor())
    await take(stream, 0)
    event.attempt_count = 2
    await event.save()
    ((entry),) = entries_of(await take(stream, 1))
    assert entry["kind"] == "EVENT_RECORDED"
    assert entry["webhook"] == {"id": encode(Prefix.WEBHOOK, webhook.id), "name": "Leads"}
    assert entry["event"]["id"] == encode(Prefix.EVENT, event.id)
    assert (entry["event"]["status"], entry["event"]["attemptCount"], entry["attempt"]) == ("PENDING", 2, None)
    assert entry["at"].endswith("Z") and len(entry["at"]) == len("2026-01-31T12:00:00.000000Z")
    await stream.aclose()


async def refusal(api: Api, after: str) -> dict[str, Any]:
    """Return the message and extensions of the only error, which is all that the refused subscription yields."""
    stream = await api.follow(CURSORS, after=after)
    results = [result async for result in stream]
    ((result),) = results
    assert not (result.data or {}).get("deliveryLog")
    (error,) = result.errors or ()
    return {"message": error.message, **(error.extensions or {})}


@pytest.mark.parametrize("cursor", ["", " ", "garbage", "é", "\x00", "\ud800", "AAAA", "x" * 100_000, "MTIz", "Li4u"])
async def test_a_malformed_cursor_is_refused(api: Api, cursor: str) -> None:
    refused = await refusal(api, cursor)
    assert refused.pop("message").startswith("after: ")
    assert refused == {"code": "BAD_USER_INPUT"}


async def test_the_error_for_an_expired_cursor_has_one_to_resume_from(api: Api) -> None:
    await write("1", "2", "3", "4")
    start = Position(await delivery_log.read_epoch(), 0, 0).cursor()
    await LogEntry.filter(message__in=["1", "2"]).delete()
    refused = await refusal(api, start)
    assert refused["code"] == "CURSOR_EXPIRED"
    stream = await api.follow(CURSORS, after=refused["oldestCursor"])
    assert [entry["message"] for entry in entries_of(await take(stream, 2))] == ["3", "4"]
    await stream.aclose()


@pytest.mark.parametrize("foreign", [True, False], ids=["another database", "a later state"])
async def test_a_cursor_of_another_database_or_a_later_state_has_expired(api: Api, foreign: bool) -> None:
    await write("1")
    ahead = await delivery_log.read_end(await delivery_log.read_epoch())
    cursor = Position(new_key(), 0, 1) if foreign else replace(ahead, transaction=ahead.transaction * 2, row=10)
    refused = await refusal(api, cursor.cursor())
    assert refused["code"] == "CURSOR_EXPIRED"
    assert refused["oldestCursor"] == Position(await delivery_log.read_epoch(), 0, 0).cursor()


@pytest_asyncio.fixture
async def small(database: object) -> AsyncIterator[Tailer]:
    """Run a tailer whose subscribers may have ten entries waiting."""
    tailer = Tailer(await delivery_log.read_epoch(), max_waiting=10)
    tailing = asyncio.create_task(tailer.run())
    yield tailer
    tailing.cancel()


async def behind(stream: Any) -> SubscriberBehind:
    """Return the SubscriberBehind error that the next read raises at once."""
    with pytest.raises(SubscriberBehind) as raised:
        await take(stream, 1)
    return raised.value


async def test_a_slow_subscriber_is_ended_and_resumes_without_loss(small: Tailer) -> None:
    following = small.follow(ALL, None)
    waiting = asyncio.create_task(take(following, 1))
    await joined(small, 1)
    await write("0")
    await waiting
    await write(*numbered(1, 101))
    await caught_up(small)
    assert messages(last := await take(following, 1)) == numbered(1, 11)
    error = await behind(following)
    assert error.position == last[0][-1].position
    assert str(error).startswith("The subscriber is 90 log entries behind. ")
    assert small.audience.size == 0
    async with aclosing(small.follow(ALL, error.position)) as resumed:
        assert messages(await take(resumed, 1)) == numbered(11, 101)


async def test_a_subscriber_that_was_slow_for_a_while_goes_on_from_the_table(small: Tailer) -> None:
    following = small.follow(ALL, None)
    waiting = asyncio.create_task(take(following, 1))
    await joined(small, 1)
    await write("0")
    await waiting
    await write(*numbered(1, 21))
    await caught_up(small)
    assert messages(await take(following, 2)) == numbered(1, 21)
    await write("live")
    assert messages(await take(following, 1)) == ["live"]
    await following.aclose()


async def test_a_full_queue_has_not_overflowed(small: Tailer) -> None:
    following = small.follow(ALL, None)
    waiting = asyncio.create_task(take(following, 1))
    await joined(small, 1)
    await write("0")
    await waiting
    await write(*numbered(1, 6))
    await caught_up(small)
    await write(*numbered(6, 11))
    await caught_up(small)
    assert messages(await take(following, 1)) == numbered(1, 11)
    await following.aclose()


async def test_queues_are_short_while_many_subscribe_and_nothing_is_lost(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringback.graphql_api.context.live_log.MAX_QUEUED", 1)
    tailer = Tailer(await delivery_log.read_epoch())
    tailing = asyncio.create_task(tailer.run())
    following = tailer.follow(ALL, None)
    waiting = asyncio.create_task(take(following, 1))
    await joined(tailer, 1)
    await write("0")
    await waiting

    await write(*numbered(1, 3 * PAGE))
    await caught_up(tailer)
    (subscriber,) = tailer.audience._subscribers[None]
    queued = len(subscriber._queue)
    seen: list[str] = []
    while len(seen) < 3 * PAGE - 1:
        seen += messages(await take(following, 1))

    assert queued == PAGE
    assert seen == numbered(1, 3 * PAGE)
    await following.aclose()
    tailing.cancel()


async def test_reading_many_missed_entries_is_not_ended_by_new_ones(small: Tailer) -> None:
    await write(*numbered(0, 5 * BURST))
    await caught_up(small)
    following = small.follow(ALL, Position(await delivery_log.read_epoch(), 0, 0))
    seen = await take(following, 1)
    await write(*numbered(5 * BURST, 6 * BURST))
    await caught_up(small)
    seen += await take(following, 6)
    assert messages(seen) == numbered(0, 6 * BURST)
    await following.aclose()


async def test_a_subscriber_that_falls_further_behind_is_ended(small: Tailer) -> None:
    await write(*numbered(0, 20))
    await caught_up(small)
    following = small.follow(ALL, Position(await delivery_log.read_epoch(), 0, 0))
    assert messages(await take(following, 1)) == numbered(0, 20)
    await write(*numbered(20, 51))
    await caught_up(small)
    assert messages(await take(following, 1)) == numbered(20, 30)
    assert (await behind(following)).position.row == 30


async def test_entries_that_the_filter_rejects_do_not_fill_the_queue(small: Tailer) -> None:
    following = small.follow(LogFilter(kinds=frozenset({LogKind.EVENT_FAILED})), None)
    waiting = asyncio.create_task(take(following, 1))
    await joined(small, 1)
    await write(*numbered(0, 500))
    await write("wanted", kind=LogKind.EVENT_FAILED)
    assert messages(await waiting) == ["wanted"]
    await following.aclose()


def numbered(start: int, end: int) -> list[str]:
    return [str(n) for n in range(start, end)]


def messages(bursts: list[list[TailedEntry]]) -> list[str]:
    return [tailed.entry.message for burst in bursts for tailed in burst]


async def test_a_slow_subscriber_gets_cursor_behind(api: Api, small: Tailer) -> None:
    object.__setattr__(api.services, "tailer", small)
    stream = await api.follow(CURSORS, after=None)
    waiting = asyncio.create_task(take(stream, 1))
    await subscribed(api, 1)
    await write("0")
    await waiting
    await write(*numbered(1, 51))
    await caught_up(small)
    seen = entries_of(await take(stream, 10))
    ((result),) = [result async for result in stream]
    assert orjson.loads(result.json) == {
        "errors": [
            {
                "message": "The subscriber is 40 log entries behind. "
                "Subscribe again with `after` set to `extensions.cursor`.",
                "locations": [{"line": 1, "column": 33}],
                "path": ["deliveryLog"],
                "extensions": {"code": "CURSOR_BEHIND", "cursor": seen[-1]["cursor"]},
            }
        ]
    }
    stream = await api.follow(CURSORS, after=seen[-1]["cursor"])
    assert [entry["message"] for entry in entries_of(await take(stream, 40))] == numbered(11, 51)
    await stream.aclose()


async def test_a_slow_subscriber_does_not_delay_the_others(small: Tailer) -> None:
    slow, quick = small.follow(ALL, None), small.follow(ALL, None)
    both = [asyncio.create_task(take(stream, 1)) for stream in (slow, quick)]
    await joined(small, 2)
    await write("0")
    await asyncio.gather(*both)
    for start in range(1, 101, 5):
        await write(*numbered(start, start + 5))
        assert messages(await take(quick, 1)) == numbered(start, start + 5)
    await slow.aclose()
    await quick.aclose()


@pytest.mark.parametrize("waiting", [True, False], ids=["while it waits", "between two entries"])
async def test_a_subscriber_that_leaves_is_removed(api: Api, waiting: bool) -> None:
    stream = await api.follow(CURSORS, after=None)
    task = asyncio.create_task(take(stream, 1))
    await subscribed(api, 1)
    if waiting:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    else:
        await write("1")
        await task
    await stream.aclose()
    assert api.services.tailer.audience.size == 0


async def test_a_refused_cursor_leaves_no_subscriber(api: Api) -> None:
    await refusal(api, "garbage")
    assert api.services.tailer.audience.size == 0
