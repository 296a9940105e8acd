"""The live log's SQL statements: as many for one subscriber as for many, and few for a burst."""

import asyncio

import pytest
from tortoise.transactions import in_transaction

from ringback.graphql_api.context.live_log import BURST
from ringback.models import delivery_log
from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.delivery_log import LogEntry, Position
from ringback.models.enums import EventStatus, LogKind, Role
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.services import api_tokens
from tests.support import builders
from tests.support.api import Api
from tests.support.live_log import caught_up, entries_of, subscribed, take
from tests.support.statements import counted

#: The tables that a burst of EVENT_RECORDED entries is read from, by one statement each.
PER_BURST = ('FROM "ringback_webhook"', 'FROM "ringback_event"')


async def publish(api: Api, followers: int, entries: int) -> list[str]:
    """Write log entries and return the SELECT statements that send them to the followers, except those on the log.

    Each follower has a filter or a cursor of its own.
    """
    webhook = await builders.webhook(name="Leads")
    events = [await builders.event(webhook) for _ in range(entries)]
    newest = (await delivery_log.read_end(await delivery_log.read_epoch())).cursor()
    streams = [
        await api.follow("DeliveryLog", filter={"models": ["lead"] * n} if n else None, after=newest if n % 2 else None)
        for n in range(followers)
    ]
    waiting = [asyncio.create_task(take(stream, entries)) for stream in streams]
    await subscribed(api, followers)
    with counted(everywhere=True) as statements:
        await write_one_for_each(events)
        results = [entries_of(await task) for task in waiting]
    assert [entry["event"]["id"] for entry in results[0]] == [encode(Prefix.EVENT, event.id) for event in events]
    assert {entry["webhook"]["name"] for entry in results[0]} == {"Leads"}
    assert all(entries_seen == results[0] for entries_seen in results)
    for stream in streams:
        await stream.aclose()
    return [s for s in statements if s.startswith("SELECT") and 'FROM "ringback_log"' not in s]


async def write_one_for_each(events: list[Event]) -> None:
    now = await clock.now()
    entries = [
        LogEntry(
            kind=LogKind.EVENT_RECORDED,
            message="recorded",
            at=now,
            webhook_id=e.webhook_id,
            event_id=e.id,
            model="lead",
        )
        for e in events
    ]
    async with in_transaction() as db:
        await LogEntry.bulk_create(entries, using_db=db)
    notifier.notify(Topic.LOGGED)


@pytest.mark.measures_cpu
@pytest.mark.parametrize("followers", [1, 2, 50])
async def test_an_entry_takes_as_many_statements_for_many_followers_as_for_one(api: Api, followers: int) -> None:
    statements = await publish(api, followers, 1)
    assert len(statements) == len(PER_BURST), statements
    assert all(any(table in s for s in statements) for table in PER_BURST)


async def test_different_documents_read_the_rows_of_an_entry_once(api: Api) -> None:
    event = await builders.event(await builders.webhook(name="Leads"))
    fields = "webhook { name } event { status }"
    documents = [f"subscription {{ deliveryLog {{ a{number}: cursor {fields} }} }}" for number in range(30)]
    streams = [await api.follow(document) for document in documents]
    first = [asyncio.create_task(take(stream, 1)) for stream in streams]
    await subscribed(api, len(streams))

    with counted(everywhere=True) as statements:
        await write_one_for_each([event])
        entries = [entries_of(await task)[0] for task in first]
    second = [asyncio.create_task(take(stream, 1)) for stream in streams]
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED)
    await write_one_for_each([event])
    later_entries = [entries_of(await task)[0] for task in second]

    assert {(entry["webhook"]["name"], entry["event"]["status"]) for entry in entries} == {("Leads", "PENDING")}
    assert {entry["event"]["status"] for entry in later_entries} == {"CANCELLED"}
    for table in PER_BURST:
        assert len([s for s in statements if table in s]) == 1
    for stream in streams:
        await stream.aclose()


@pytest.mark.parametrize("followers", [1, 20])
async def test_a_burst_is_loaded_together(api: Api, followers: int) -> None:
    statements = await publish(api, followers, 3 * BURST)
    assert len(statements) == 3 * len(PER_BURST), statements


async def test_subscribers_that_resume_at_the_same_cursor_share_pages(api: Api) -> None:
    webhook = await builders.webhook()
    await write_one_for_each([await builders.event(webhook) for _ in range(BURST)])
    start = Position(await delivery_log.read_epoch(), 0, 0).cursor()
    await caught_up(api.services.tailer)
    with counted(everywhere=True) as statements:
        streams = [await api.follow("DeliveryLog", after=start) for _ in range(10)]
        results = await asyncio.gather(*(take(stream, BURST) for stream in streams))
    for answers in results:
        assert all(answer is first for answer, first in zip(answers, results[0], strict=True))
    assert len([s for s in statements if 'FROM "ringback_log" WHERE "id">? AND "id"<=?' in s]) == 1
    assert len([s for s in statements if any(table in s for table in PER_BURST)]) == len(PER_BURST)
    for stream in streams:
        await stream.aclose()


async def test_the_subscriptions_of_a_token_share_its_check(api: Api) -> None:
    contexts = [api.context() for _ in range(20)]
    for context in contexts:
        context.trusted_until = 0.0
    with counted() as statements:
        await asyncio.gather(*(context.reauthenticate() for context in contexts))
    assert len([s for s in statements if "ringback_api_token" in s]) == 1


async def test_the_requests_of_a_token_share_its_look_up(api: Api) -> None:
    token, secret = await api_tokens.create_token("busy", Role.ADMIN)
    with counted() as statements:
        tokens = await asyncio.gather(*(api.services.authenticator.authenticate(f"Bearer {secret}") for _ in range(20)))
        unknown = await asyncio.gather(*(api.services.authenticator.authenticate("Bearer nobody's") for _ in range(2)))
    assert [row and row.id for row in (*tokens, *unknown)] == [token.id] * 20 + [None] * 2
    assert len([s for s in statements if 'FROM "ringback_api_token"' in s]) == 2
    api.services.authenticator.forget()
    with counted() as statements:
        assert await api.services.authenticator.authenticate(f"Bearer {secret}") is not None
    assert len([s for s in statements if 'FROM "ringback_api_token"' in s]) == 1


async def test_without_followers_the_log_is_not_read(api: Api) -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(3)]
    await caught_up(api.services.tailer)
    with counted(everywhere=True) as statements:
        for event in events[:2]:
            await write_one_for_each([event])
            await asyncio.sleep(0.05)
    assert not [s for s in statements if "LIMIT" in s and 'FROM "ringback_log"' in s]
    stream = await api.follow("DeliveryLog")
    waiting = asyncio.create_task(take(stream, 1))
    await subscribed(api, 1)
    await write_one_for_each(events[2:])
    assert [e["event"]["id"] for e in entries_of(await waiting)] == [encode(Prefix.EVENT, events[2].id)]
    await stream.aclose()
