"""Tests of concurrent transactions: Postgres must keep the order that SQLite gets from its single writer."""

import asyncio
import datetime as dt
from collections import Counter
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import pytest
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from ringback.models import Settings, bootstrap, delivery_log
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus
from ringback.models.errors import InputRejected
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.queue.claims import claim
from ringback.models.queue.grants import ClaimRequest
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services import events as event_service
from ringback.models.services.webhooks import Webhooks
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.recorded import watch
from tests.support.shop import Branch

pytestmark = pytest.mark.every_database


def start_apart(work: Any) -> asyncio.Task[Any]:
    """Start a task that inherits no transaction."""
    return asyncio.create_task(work, context=copy_context())


@pytest.fixture
def webhooks() -> Webhooks:
    return Webhooks(AddressPolicy(()), InboxAddresses("http://127.0.0.1:8000"), builders.BOX)


async def test_no_event_of_a_webhook_waits_after_its_deactivation(shop: Settings, webhooks: Webhooks) -> None:
    """Rule 9 in docs/architecture.md holds in whichever order the transactions commit."""
    for turn in range(8):
        webhook = await watch("branch", actions=("CREATED",))
        has_some = asyncio.Event()

        async def create(number: int, turn: int = turn, has_some: asyncio.Event = has_some) -> None:
            await asyncio.sleep(number / 2000)
            await Branch.create(town=f"{turn}.{number}")
            has_some.set()

        async def deactivate(webhook: Webhook = webhook, turn: int = turn, has_some: asyncio.Event = has_some) -> None:
            await asyncio.sleep(turn / 1000)
            if turn == 7:
                await has_some.wait()
            await webhooks.update(encode(Prefix.WEBHOOK, webhook.id), {"is_active": False})

        await asyncio.gather(*(start_apart(create(number)) for number in range(10)), start_apart(deactivate()))
        statuses = await Event.filter(webhook_id=webhook.id).values_list("status", flat=True)
        assert set(statuses) <= {EventStatus.CANCELLED}, turn
        await Branch.create(town=f"{turn}.later")
        assert await Event.filter(webhook_id=webhook.id).count() == len(statuses)
    assert await Change.all().count() > 0, "some changes came before the deactivation"


async def test_two_writers_of_one_object_record_what_each_changed(shop: Settings) -> None:
    """Each change names only its own fields, and the later snapshot holds both."""
    await watch("branch", actions=("UPDATED",))
    for turn in range(10):
        branch = await Branch.create(town=str(turn), staff=0)
        before = await Change.all().count()

        async def rename(branch: Branch = branch, turn: int = turn) -> None:
            await Branch.filter(id=branch.id).update(town=f"{turn} renamed")

        async def hire(branch: Branch = branch) -> None:
            await Branch.filter(id=branch.id).update(staff=7)

        await asyncio.gather(start_apart(rename()), start_apart(hire()))
        first, second = (await Change.all().order_by("id"))[before:]
        assert sorted([first.changed_fields, second.changed_fields]) == [["staff"], ["town"]]
        last = max((first, second), key=lambda change: (change.item["staff"] == 7) + ("renamed" in change.item["town"]))
        assert (last.item["staff"], last.item["town"]) == (7, f"{turn} renamed")


async def test_concurrent_claims_get_disjoint_events(database: Settings) -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(60)]

    async def claim_until_nothing_is_due() -> list[UUID]:
        worker_id, claimed = uuid4(), []
        request = ClaimRequest(free_slots=20, retry_slots=20, max_concurrency=1_000)
        while (batch := await claim(worker_id, request)).seen:
            claimed += [delivery.event.id for delivery in batch.deliveries]
        assert await Event.filter(worker_id=worker_id).count() == len(claimed)
        return claimed

    claims = await asyncio.gather(*(start_apart(claim_until_nothing_is_due()) for _ in range(6)))

    assert Counter(key for claimed in claims for key in claimed) == Counter(event.id for event in events)


async def test_concurrent_redeliveries_start_one_round(database: Settings) -> None:
    webhook = await builders.webhook()
    failed = await builders.event(webhook, status=EventStatus.FAILED, attempt_count=3, due_in=0)
    await Event.filter(id=failed.id).update(next_attempt_at=None)

    async def redeliver() -> str:
        try:
            await event_service.redeliver(encode(Prefix.EVENT, failed.id))
        except InputRejected as rejected:
            return str(rejected)
        return "done"

    results = Counter(await asyncio.gather(*(start_apart(redeliver()) for _ in range(5))))
    stored = await builders.stored(failed)
    assert results == {"done": 5}
    assert (stored.status, stored.max_attempts) == (EventStatus.RETRYING, 3 + len(webhook.retry_delays))
    assert await LogEntry.filter(event_id=failed.id).count() == 5


async def test_concurrent_updates_of_different_fields_both_apply(database: Settings, webhooks: Webhooks) -> None:
    for turn in range(10):
        webhook = await builders.webhook(name="before")
        key = encode(Prefix.WEBHOOK, webhook.id)
        await asyncio.gather(
            start_apart(webhooks.update(key, {"name": f"name {turn}"})),
            start_apart(webhooks.update(key, {"send_json": True})),
        )
        stored = await Webhook.get(id=webhook.id)
        assert (stored.name, stored.send_json) == (f"name {turn}", True)


async def test_the_clock_follows_the_server(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock advances without statements between two readings, also in a transaction, and stays near the server."""
    from ringback.models.database.sql import fetch, is_postgres
    from tests.support.statements import counted

    connection = get_connection(bootstrap.CONNECTION)
    monkeypatch.setattr(clock, "READING_SECONDS", 0.0)
    for _ in range(5):  # the most exact reading is used, so a busy machine does no harm
        await clock.now()
    monkeypatch.setattr(clock, "READING_SECONDS", 3_600.0)
    with counted() as statements:
        before = await clock.now()
        async with in_transaction() as tx:
            within = await clock.now(tx)
        after = await clock.now()
    assert statements == []
    assert before <= within <= after
    if is_postgres(connection):
        before = await clock.now()
        (row,) = await fetch(connection, "SELECT clock_timestamp() AS now")
        after, second = await clock.now(), dt.timedelta(seconds=1)
        assert before - second < row["now"] < after + second
        monkeypatch.setattr(clock, "READING_SECONDS", 0.0)
        with counted() as statements:
            await clock.now()
        assert [statement.split(":")[0] for statement in statements] == ["SELECT clock_timestamp() AS now"]
    assert (await delivery_log.read_epoch()).version == 7
