"""Decimals in deliveries: templates compute with those of tracked and of declared models, in test events too."""

from typing import Any

import pytest

from ringback.models.enums import Action
from ringback.models.event import Change, Event
from ringback.models.services import events as event_service
from ringback.models.services.declared_models import declare_model
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.interventions import key
from tests.support.statements import counted

pytestmark = pytest.mark.usefixtures("database")

BODY = "{{ item.total }};{{ item.total | plus: 1 }};{% if item.total > 99 %}over{% endif %};{{ item.total | json }}"
AS_DECIMAL = '350.50;351.50;over;"350.50"'
ORDER = {"id": "1", "total": "350.50"}


async def make_event(webhook: Webhook, item: dict[str, Any]) -> Event:
    event = await builders.event(webhook)
    await Change.filter(id=event.change_id).update(item=item)
    return event


async def deliver(bench: Bench, *events: Event) -> list[str]:
    """Return the bodies that are sent."""
    bench.endpoint.requests.clear()
    await bench.start(*events)
    await bench.wait_until_idle()
    return [(request.body or b"").decode() for request in bench.endpoint.requests]


async def declare(total: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"total": total, "lines": {"type": "array", "items": {"type": "object"}}}}
    await declare_model("sale", "Sale", None, schema, {})


async def test_a_stored_snapshot_of_a_tracked_model(bench: Bench) -> None:
    webhook = await builders.webhook(
        model="customer_order",
        body_template=BODY + "{{ item.items | sort: 'price' | map: 'price' | join }};{{ item.items | sum: 'price' }}",
        url="https://hooks.example/{{ item.total | round }}",
        headers=[["X-Total", "{{ item.total | times: 2 }}"]],
        condition="item.total > 99 and item.total != '0.00'",
    )
    event = await make_event(webhook, {**ORDER, "items": [{"price": "10.00"}, {"price": "9.00"}]})

    assert await deliver(bench, event) == [AS_DECIMAL + "9.00 10.00;19.00"]
    (request,) = bench.endpoint.requests
    assert request.template.target.path_and_query == "/351"
    assert ("X-Total", "701.00") in request.headers


async def test_a_body_without_a_template_is_the_snapshot(bench: Bench) -> None:
    webhook = await builders.webhook(model="customer_order", send_json=True, condition="item.total > 99")
    assert await deliver(bench, await make_event(webhook, ORDER)) == ['{"id":"1","total":"350.50"}']


@pytest.mark.parametrize(("total", "body"), [("350.50", AS_DECIMAL), ("abc", 'abc;1;;"abc"')])
async def test_a_test_event_with_an_item_of_the_caller(bench: Bench, total: str, body: str) -> None:
    template = BODY.replace("item.total > 99", "item.total != 'abc'")
    webhook = await builders.webhook(model="customer_order", body_template=template)
    event = await event_service.test_fire(key(webhook), Action.CREATED, {"total": total})

    assert await deliver(bench, event) == [body]


@pytest.mark.parametrize(
    "total", [{"type": "string", "format": "decimal"}, {"type": ["string", "null"], "format": "decimal"}]
)
async def test_a_declared_decimal(bench: Bench, total: dict[str, Any]) -> None:
    await declare(total)
    webhook = await builders.webhook(model="sale", body_template=BODY)
    stored = await make_event(webhook, ORDER)
    test = await event_service.test_fire(key(webhook), Action.CREATED, ORDER)

    assert await deliver(bench, stored, test) == [AS_DECIMAL] * 2


async def test_a_declared_number(bench: Bench) -> None:
    await declare({"type": "number"})
    body = "{{ item.total | divided_by: 2 }};{{ item.total | json }}"
    webhook = await builders.webhook(model="sale", body_template=body)

    events = [await make_event(webhook, {"total": total}) for total in (5, 350.5)]

    assert await deliver(bench, *events) == ["2.5;5", "175.25;350.5"]


async def test_a_new_declaration_counts_from_the_next_delivery(bench: Bench) -> None:
    webhook = await builders.webhook(model="sale", body_template="{{ item.total | plus: 1 }}")

    bodies = []
    for total in ({"type": "string"}, {"type": "string", "format": "decimal"}, {"type": "string"}):
        await declare(total)
        bodies += await deliver(bench, await make_event(webhook, ORDER))

    assert bodies == ["351.5", "351.50", "351.5"]


async def test_a_model_that_is_gone_has_no_decimals(bench: Bench) -> None:
    webhook = await builders.webhook(model="gone", body_template="{{ item.total | plus: 1 }}")
    assert await deliver(bench, await make_event(webhook, ORDER)) == ["351.5"]


@pytest.mark.parametrize(
    ("fields", "reads"),
    [
        ({"model": "sale", "body_template": BODY}, [2, 1]),
        ({"model": "sale", "send_json": True, "body_template": BODY}, [0, 0]),
        ({"model": "customer_order", "body_template": BODY}, [0, 0]),
    ],
)
async def test_a_declaration_is_read_once(bench: Bench, fields: dict[str, Any], reads: list[int]) -> None:
    await declare({"type": "string", "format": "decimal"})
    webhook = await builders.webhook(**fields)

    seen = []
    for _ in range(2):
        event = await make_event(webhook, ORDER)
        with counted() as statements:
            await deliver(bench, event)
        seen.append(sum("ringback_declared_model" in statement for statement in statements))

    assert seen == reads
