"""Rows are read as Tortoise reads them, attribute by attribute, whatever they hold."""

import datetime as dt
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from tortoise import Tortoise
from tortoise.models import Model
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.row_decoding import load, load_by_id, read, row_maker
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


async def fill() -> None:
    """Rows of every kind, with and without what may be null."""
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
    kept = {"headers": [["a", "b"]], "body": "ё"}
    await Attempt.create(
        **attempt, number=2, outcome=OutcomeName.REJECTED, status_code=500, duration_ms=0, error="no", response=kept,
        request=kept,
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


def state(row: Model) -> dict[str, tuple[type, Any]]:
    return {name: (type(value), value) for name, value in vars(row).items()}


async def test_every_model_is_read_as_tortoise_reads_it(database: object) -> None:
    await fill()
    assert Tortoise.apps is not None
    models = Tortoise.apps["ringback"]
    read_models = set()
    for model in models.values():
        expected = await model.all().order_by(model._meta.pk_attr)
        found = await read(model.all().order_by(model._meta.pk_attr))
        assert [state(row) for row in found] == [state(row) for row in expected], model.__name__
        if expected:
            read_models.add(model.__name__)
    assert read_models >= {
        "ApiToken", "Attempt", "Change", "CustomerOrder", "Event", "Inbox", "InboxRequest", "Lead", "LogEntry",
        "OrderCustomer", "OrderItem", "SiteSettings", "Webhook",
    }  # fmt: skip


async def test_conditions_orders_and_limits_hold(database: object) -> None:
    events = [await builders.event(await builders.webhook()) for _ in range(3)]
    ids = [event.id for event in events]
    newest = await read(Event.filter(id__in=ids[:2], model="lead").order_by("-id").limit(1))
    assert [event.id for event in newest] == [ids[1]]
    assert await read(Event.filter(model="it's; --")) == []


async def test_what_was_read_can_be_saved(database: object) -> None:
    await builders.event(await builders.webhook())
    (event,) = await read(Event.all())
    event.status = EventStatus.CANCELLED
    await event.save()
    assert (await Event.get(id=event.id)).status is EventStatus.CANCELLED


async def test_a_transaction_reads_what_it_wrote(database: object) -> None:
    webhook = await builders.webhook()
    async with in_transaction() as db:
        await Webhook.filter(id=webhook.id).using_db(db).update(name="within")
        (within,) = await read(Webhook.filter(id=webhook.id).using_db(db))
        (outside,) = await read(Webhook.filter(id=webhook.id))
    assert (within.name, outside.name) == ("within", "within")


async def test_rows_that_sql_of_our_own_selects(database: object) -> None:
    webhook = await builders.webhook()
    first, second = [await builders.event(webhook) for _ in range(2)]
    found = await load(Event._meta.db, Event, "webhook_id = $1 ORDER BY id DESC LIMIT 5", webhook.id)
    assert [vars(row) for row in found] == [vars(await builders.stored(event)) for event in (second, first)]


async def test_rows_by_their_ids(database: object) -> None:
    event = await builders.event(await builders.webhook())
    assert await load_by_id(Event._meta.db, Event, []) == {}
    found = await load_by_id(Event._meta.db, Event, [new_key(), event.id])
    assert {key: vars(row) for key, row in found.items()} == {event.id: vars(await builders.stored(event))}


class Part(NamedTuple):
    """Some columns of `Event`, in an order of their own."""

    status: EventStatus
    id: UUID
    test_item: dict[str, Any] | None
    is_test: bool
    created_at: dt.datetime


async def test_rows_as_named_tuples(database: object) -> None:
    await fill()
    db = Event._meta.db
    made = row_maker(Event, Part, postgres=is_postgres(db))
    found = [made(row) for row in await fetch_rows(db, f"SELECT {', '.join(Part._fields)} FROM ringback_event")]
    expected = [tuple(getattr(event, name) for name in Part._fields) for event in await Event.all()]
    assert sorted(found) == sorted(expected)
    assert {type(part.status) for part in found} == {EventStatus}
    assert {type(part.is_test) for part in found} == {bool}
