"""Tests of row decoding: every attribute equals the one that Tortoise reads."""

import asyncio
import datetime as dt
from contextlib import suppress
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tortoise import Tortoise
from tortoise.models import Model
from tortoise.transactions import in_transaction

from ringback.models.database import clock, row_decoding
from ringback.models.database.row_decoding import build_row_decoder, load_by_id, load_where, read_instances
from ringback.models.database.sql import fetch_rows, is_postgres
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus, LogKind, OrderStatus, OutcomeName, Role, SignatureCheck
from ringback.models.event import Attempt, Event
from ringback.models.ids import new_key
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.lead import Lead
from ringback.models.services import api_tokens
from ringback.models.services.customer_orders import Customer, Item, create_order
from ringback.models.webhook import Webhook
from tests.support import builders


async def insert_all_kinds() -> None:
    """Insert rows of every model, with and without values in nullable columns."""
    now = await clock.now()
    webhook = await builders.webhook(
        headers=[["X-Shop", "ё"]], timeout_seconds=0.5, condition="item.name", deleted_at=now
    )
    event = await builders.event(webhook)
    await builders.event(
        await builders.webhook(), due_in=-3.5, status=EventStatus.RETRYING, is_test=True, test_item={"a": [1]}
    )
    attempt: dict[str, Any] = {"event_id": event.id, "webhook_id": webhook.id, "started_at": now}
    await Attempt.create(**attempt, number=1, outcome=OutcomeName.ABANDONED)
    message = {"headers": [["a", "b"]], "body": "ё"}
    await Attempt.create(
        **attempt, number=2, outcome=OutcomeName.REJECTED, status_code=500, duration_ms=0, error="no", response=message,
        request=message,
    )  # fmt: skip
    inbox = await Inbox.create(token="t", responses=[{"status_code": 200}], created_at=now)
    await InboxRequest.create(
        inbox_id=inbox.id, received_at=now, method="POST", url="/", headers=[], body=b"\x00\xff", event_id=event.id,
        attempt_number=1, response_status_code=200, signature=SignatureCheck.VALID,
    )  # fmt: skip
    await LogEntry.create(
        kind=LogKind.EVENT_RECORDED, message="recorded", at=now, webhook_id=webhook.id, event_id=event.id, model="lead"
    )
    await api_tokens.create_token("one", Role.ADMIN, expires_at=now + dt.timedelta(days=1))
    await Lead.create(name="Ада", phone="1", created_at=now, updated_at=now)
    pads = Item(brand="Bosch", article="1", name="Pads", quantity=2, price=Decimal("350.50"))
    await create_order("1", Customer("Ada"), [pads], status=OrderStatus.NEW)


def describe(row: Model) -> dict[str, tuple[type, Any]]:
    return {name: (type(value), value) for name, value in vars(row).items()}


async def test_every_model_is_read_as_tortoise_reads_it(database: object) -> None:
    await insert_all_kinds()
    assert Tortoise.apps is not None
    models = Tortoise.apps["ringback"]
    read_models = set()
    for model in models.values():
        expected = await model.all().order_by(model._meta.pk_attr)
        rows = await read_instances(model.all().order_by(model._meta.pk_attr))
        assert [describe(row) for row in rows] == [describe(row) for row in expected], model.__name__
        if expected:
            read_models.add(model.__name__)
    assert read_models >= {
        "ApiToken", "Attempt", "Change", "CustomerOrder", "Event", "Inbox", "InboxRequest", "Lead", "LogEntry",
        "OrderCustomer", "OrderItem", "SiteSettings", "Webhook",
    }  # fmt: skip


async def test_conditions_orders_and_limits_apply(database: object) -> None:
    events = [await builders.event(await builders.webhook()) for _ in range(3)]
    ids = [event.id for event in events]

    newest = await read_instances(Event.filter(id__in=ids[:2], model="lead").order_by("-id").limit(1))

    assert [event.id for event in newest] == [ids[1]]
    assert await read_instances(Event.filter(model="it's; --")) == []


async def test_the_event_loop_gets_turns_while_many_rows_are_decoded(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    turn_counts: list[int] = []

    def note_turn(*arguments: Any) -> list[Any]:
        turn_counts.append(turns)
        return build(*arguments)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    build = row_decoding._build_instances
    monkeypatch.setattr(row_decoding, "_build_instances", note_turn)
    monkeypatch.setattr(row_decoding, "_ROWS_PER_TURN", 2)
    webhook = await builders.webhook()
    ids = [(await builders.event(webhook)).id for _ in range(5)]
    counting = asyncio.create_task(count_turns())

    events = await read_instances(Event.all().order_by("id"))

    counting.cancel()
    with suppress(asyncio.CancelledError):
        await counting
    assert [event.id for event in events] == ids
    assert len(set(turn_counts)) == 3


async def test_an_instance_that_was_read_can_be_saved(database: object) -> None:
    await builders.event(await builders.webhook())
    (event,) = await read_instances(Event.all())
    event.status = EventStatus.CANCELLED

    await event.save()

    assert (await Event.get(id=event.id)).status is EventStatus.CANCELLED


async def test_a_transaction_reads_its_own_writes(database: object) -> None:
    webhook = await builders.webhook()
    async with in_transaction() as db:
        await Webhook.filter(id=webhook.id).using_db(db).update(name="within")
        (within,) = await read_instances(Webhook.filter(id=webhook.id).using_db(db))
        (outside,) = await read_instances(Webhook.filter(id=webhook.id))

    assert (within.name, outside.name) == ("within", "within")


async def test_load_where_selects_rows_with_an_sql_condition(database: object) -> None:
    webhook = await builders.webhook()
    first, second = [await builders.event(webhook) for _ in range(2)]

    rows = await load_where(Event._meta.db, Event, "webhook_id = $1 ORDER BY id DESC LIMIT 5", webhook.id)

    assert [vars(row) for row in rows] == [vars(await builders.stored(event)) for event in (second, first)]


async def test_load_by_id_leaves_out_unknown_ids(database: object) -> None:
    event = await builders.event(await builders.webhook())
    assert await load_by_id(Event._meta.db, Event, []) == {}
    rows = await load_by_id(Event._meta.db, Event, [new_key(), event.id])
    assert {key: vars(row) for key, row in rows.items()} == {event.id: vars(await builders.stored(event))}


@dataclass(slots=True)
class EventPart:
    """Some columns of `Event`, not in the order of the table."""

    status: EventStatus
    id: UUID
    test_item: dict[str, Any] | None
    is_test: bool
    created_at: dt.datetime


async def test_rows_as_dataclasses(database: object) -> None:
    await insert_all_kinds()
    db = Event._meta.db
    make_row = build_row_decoder(Event, EventPart, postgres=is_postgres(db))

    names = [field.name for field in fields(EventPart)]
    rows = await fetch_rows(db, f"SELECT {', '.join(names)} FROM ringback_event ORDER BY id")
    parts = [make_row(row) for row in rows]

    expected = [EventPart(*(getattr(event, name) for name in names)) for event in await Event.all().order_by("id")]
    assert parts == expected
    assert {type(part.status) for part in parts} == {EventStatus}
    assert {type(part.is_test) for part in parts} == {bool}
