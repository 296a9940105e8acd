"""Tests of the outbox: one change with an event for each webhook that matches, and nothing if none does."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.models import Settings
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus
from ringback.models.errors import TemplateError
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.templates.scope import build_event_facts, build_scope
from ringback.models.templates.template import compile_condition
from tests.support.recorded import counts, watch
from tests.support.shop import Branch, Maker, Product

pytestmark = pytest.mark.every_database


async def test_without_a_webhook_nothing_is_written(shop: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await branch.delete()
    assert await counts() == (0, 0, 0)


@pytest.mark.parametrize(
    "values", [{"is_active": False}, {"is_active": False, "deleted_at": "now"}, {"deleted_at": "now"}]
)
async def test_inactive_and_deleted_webhooks_get_no_event(shop: Settings, values: dict[str, Any]) -> None:
    given: dict[str, Any] = {k: await clock.now() if v == "now" else v for k, v in values.items()}
    await watch("branch", **given)
    await Branch.create(town="Riga")
    assert await counts() == (0, 0, 0)


async def test_a_webhook_for_another_model_or_action_gets_no_event(shop: Settings) -> None:
    await watch("product")
    await watch("branch", ("UPDATED", "DELETED"))
    branch = await Branch.create(town="Riga")
    assert await counts() == (0, 0, 0)
    await branch.delete()
    assert [c.action for c in await Change.all()] == ["DELETED"]


async def test_several_webhooks_share_one_change(shop: Settings) -> None:
    hooks = [await watch("branch"), await watch("branch", ("CREATED",)), await watch("branch", ("UPDATED",))]
    await Branch.create(town="Riga")
    assert await counts() == (1, 2, 2)
    events = await Event.all().order_by("id")
    assert [e.webhook_id for e in events] == [hooks[0].id, hooks[1].id]
    assert len({e.change_id for e in events}) == 1


async def test_a_webhook_whose_condition_is_false_gets_no_event(shop: Settings) -> None:
    matching = await watch("branch", condition="item.staff > 3 and event.action == 'created'")
    await watch("branch", condition="item.staff > 5")
    await watch("product", condition="item.name == 'x'")
    await Branch.create(town="Riga", staff=4)
    await Product.create(name="lamp")
    assert [e.webhook_id for e in await Event.all()] == [matching.id]
    assert [c.model for c in await Change.all()] == ["branch"]


async def test_conditions_compare_decimals_as_numbers(shop: Settings) -> None:
    above = await watch("product", condition="item.price > 1000")
    equal = await watch("product", condition="item.price == 1500")
    saved_earlier = await watch("product", condition="item.price > '999.5'")
    await watch("product", condition="item.price < 99")

    product = await Product.create(name="lamp", price=Decimal(1500))
    await Product.filter(id=product.id).update(price=Decimal("999.00"))

    fired = [e.webhook_id for e in await Event.all().order_by("id")]
    assert fired == [above.id, equal.id, saved_earlier.id]
    assert (await Change.get()).item["price"] == "1500.00"


@pytest.mark.parametrize("condition", ["item.town | no_such_filter", "item.town > 3"])
async def test_a_condition_that_cannot_be_evaluated_passes(shop: Settings, condition: str) -> None:
    await watch("branch", condition=condition)
    await Branch.create(town="Riga")
    assert await counts() == (1, 1, 1)
    change, event = await Change.get(), await Event.get()
    with pytest.raises(TemplateError):
        compile_condition(condition).holds(build_scope(change.item, build_event_facts(event, change)))


async def test_all_columns_of_an_event_and_its_change_and_log_entry(shop: Settings) -> None:
    hook = await watch("branch", retry_delays=[7, 8])
    started_at = await clock.now()
    branch = await Branch.create(town="Riga")
    ended_at = await clock.now()
    change, event, entry = await Change.get(), await Event.get(), await LogEntry.get()
    assert started_at <= event.created_at == change.created_at == entry.at <= ended_at
    due = event.created_at + dt.timedelta(seconds=7)
    assert (event.next_attempt_at, event.max_attempts) == (due, 2)
    assert (event.status, event.attempt_count, event.is_test) == (EventStatus.PENDING, 0, False)
    assert (event.worker_id, event.claimed_at) == (None, None)
    object_id = encode("brn", branch.id)
    assert (event.model, event.action, event.object_id) == ("branch", "CREATED", object_id)
    assert (change.model, change.action, change.object_id, change.changed_fields) == (
        "branch",
        "CREATED",
        object_id,
        [],
    )
    assert change.item == {"id": object_id, "town": "Riga", "staff": 0, "maker_id": None}
    assert (entry.kind, entry.webhook_id, entry.event_id, entry.model) == (
        "EVENT_RECORDED",
        hook.id,
        event.id,
        "branch",
    )
    due_text = due.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert entry.message == f"Event recorded for branch.created of {object_id}; first attempt due at {due_text}"
    assert encode(Prefix.EVENT, event.id).startswith("evt_")


async def test_events_follow_the_order_of_the_writes(shop: Settings) -> None:
    await watch("product")
    await watch("branch")
    async with in_transaction():
        await Product.create(name="lamp")
        await Branch.create(town="Riga")
        await Product.create(name="bulb")
        await (await Maker.create(name="Acme")).delete()
    assert [(e.model, e.action) for e in await Event.all().order_by("id")] == [
        ("product", "CREATED"),
        ("branch", "CREATED"),
        ("product", "CREATED"),
    ]
