"""Orders: each operation is recorded as one change, with customer and items."""

from decimal import Decimal
from typing import Any

import pytest

from ringback.models.customer_order import CustomerOrder, OrderCustomer, OrderItem
from ringback.models.enums import OrderStatus
from ringback.models.errors import InputRejected
from ringback.models.event import Change
from ringback.models.ids import Prefix, encode
from ringback.models.services import customer_orders
from ringback.models.services.customer_orders import Customer, Item
from tests.support import builders

ADA = Customer("Ада", "+7 900", "ada@example.com")
PADS = Item("BOSCH", "0 986", "Brake pads", 2, Decimal("350.50"))
OIL = Item("MOBIL", "1", "Oil", 1, Decimal("0.10"))
EMPTY = "items is empty. Add at least one item."


async def create_watched_order(items: tuple[Item, ...] = (PADS,)) -> CustomerOrder:
    """Create an order, and before it a webhook that watches orders."""
    await builders.webhook(model="customer_order", actions=["CREATED", "UPDATED", "DELETED"])
    return await customer_orders.create_order("1001", ADA, items, status=OrderStatus.NEW)


def id_of(order: CustomerOrder) -> str:
    return encode(Prefix.ORDER, order.id)


async def changes() -> list[tuple[str, list[str]]]:
    return [(str(c.action), c.changed_fields) for c in await Change.all().order_by("id")]


async def last_item() -> dict[str, Any]:
    return (await Change.all().order_by("-id").limit(1))[0].item


async def test_a_new_order_is_one_change_with_customer_and_items(database: object) -> None:
    order = await create_watched_order((PADS, OIL))
    assert await changes() == [("CREATED", [])]
    item = await last_item()
    assert (item["id"], item["number"], item["total"]) == (id_of(order), "1001", "701.10")
    assert item["customer"] == {"name": "Ада", "phone": "+7 900", "email": "ada@example.com"}
    assert [(line["name"], line["price"], line["total"]) for line in item["items"]] == [
        ("Brake pads", "350.50", "701.00"),
        ("Oil", "0.10", "0.10"),
    ]


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"comment": "call first"}, ["comment"]),
        ({"status": OrderStatus.DONE, "number": "1002"}, ["number", "status"]),
        ({"customer": Customer("Grace")}, ["customer"]),
        ({"items": [PADS, OIL]}, ["items"]),
        ({"items": [OIL], "comment": "x"}, ["comment", "items"]),
        ({}, None),
        ({"number": "1001", "comment": None, "customer": ADA, "items": [PADS]}, None),
        ({"number": " 1001 ", "comment": " "}, None),
    ],
)
async def test_an_update_is_one_change_or_none(
    database: object, given: dict[str, Any], changed: list[str] | None
) -> None:
    order = await create_watched_order()
    updated = await customer_orders.update_order(id_of(order), given)
    expected = [] if changed is None else [("UPDATED", changed)]
    assert [(action, sorted(names)) for action, names in (await changes())[1:]] == expected
    assert (updated.updated_at > order.updated_at) is bool(expected)


async def test_a_new_order_without_items_is_refused(database: object) -> None:
    with pytest.raises(InputRejected) as caught:
        await create_watched_order(())

    assert [(problem.field, problem.message) for problem in caught.value.problems] == [("items", EMPTY)]
    assert await CustomerOrder.all().count() == 0
    assert await changes() == []


async def test_the_last_item_of_an_order_cannot_be_removed(database: object) -> None:
    order = await create_watched_order()

    with pytest.raises(InputRejected) as caught:
        await customer_orders.update_order(id_of(order), {"items": [], "comment": "x"})

    assert [(problem.field, problem.message) for problem in caught.value.problems] == [("items", EMPTY)]
    assert await changes() == [("CREATED", [])]
    assert await OrderItem.filter(order_id=order.id).count() == 1


async def test_items_keep_their_order(database: object) -> None:
    order = await create_watched_order((PADS, OIL))
    await customer_orders.update_order(id_of(order), {"items": [OIL, PADS]})
    assert [line["name"] for line in (await last_item())["items"]] == ["Oil", "Brake pads"]
    assert await OrderItem.all().count() == 2


async def test_an_order_without_a_customer_can_be_updated(database: object) -> None:
    order = await CustomerOrder.create(number="7")
    await customer_orders.update_order(id_of(order), {"comment": "x"})
    assert await OrderCustomer.all().count() == 0
    await customer_orders.update_order(id_of(order), {"customer": ADA})
    assert (await OrderCustomer.get(order_id=order.id)).name == "Ада"


async def test_deleting_an_order_deletes_its_customer_and_items(database: object) -> None:
    order = await create_watched_order()
    await customer_orders.delete_order(id_of(order))
    assert await changes() == [("CREATED", []), ("DELETED", [])]
    assert (await last_item())["items"][0]["name"] == "Brake pads"
    assert [await model.all().count() for model in (CustomerOrder, OrderCustomer, OrderItem)] == [0, 0, 0]
    with pytest.raises(InputRejected, match="There is no order with the id ord_"):
        await customer_orders.delete_order(id_of(order))


async def test_a_negative_zero_price_is_stored_as_zero(database: object) -> None:
    order = await create_watched_order((Item("a", "b", "c", 1, Decimal("-0")),))
    assert (await last_item())["items"][0]["price"] == "0.00"
    assert (
        await customer_orders.update_order(id_of(order), {"items": [Item("a", "b", "c", 1, Decimal("0E+2"))]})
    ).id == order.id
    assert len(await changes()) == 1
