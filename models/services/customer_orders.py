"""What people do with customer orders: place, change, delete."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.customer_order import PRICE_DIGITS, PRICE_PLACES, CustomerOrder, OrderCustomer, OrderItem
from ringback.models.database.sql import lock
from ringback.models.enums import OrderStatus
from ringback.models.errors import ProblemCode
from ringback.models.ids import Prefix
from ringback.models.services.validation import Problems, check_unchanged, parse_id, require_found

#: Longest texts, in characters, and the longest order, in lines.
MAX_NUMBER, MAX_NAME, MAX_ITEM_NAME, MAX_PHONE, MAX_EMAIL, MAX_COMMENT = 64, 200, 500, 64, 254, 10_000
MAX_ITEMS = 1_000
MAX_QUANTITY = 1_000_000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class Customer:
    """Who orders."""

    name: str
    phone: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an order."""

    brand: str
    article: str
    name: str
    quantity: int
    price: Decimal


async def create_order(
    number: str, customer: Customer, items: Sequence[Item], *, comment: str | None = None, status: OrderStatus
) -> CustomerOrder:
    """Place an order; raises InputRejected."""
    values = _checked({"number": number, "customer": customer, "items": items, "comment": comment, "status": status})
    customer, items = values.pop("customer"), values.pop("items")
    async with in_transaction() as db:
        order = await CustomerOrder.create(**values, using_db=db)
        await OrderCustomer.create(order_id=order.id, **asdict(customer), using_db=db)
        await _add_items(db, order, items)
        return order


async def update_order(
    order_id: str, changes: Mapping[str, Any], expected_updated_at: dt.datetime | None = None
) -> CustomerOrder:
    """Change the given fields of an order; `customer` and `items` replace the whole. Raises InputRejected."""
    key = parse_id(Prefix.ORDER, order_id)
    values = _checked(changes)
    async with in_transaction() as db:
        order = require_found(await lock(db, CustomerOrder, id=key), "order", order_id)
        check_unchanged(order.updated_at, expected_updated_at)
        # An order that other code made may have no customer.
        customer = await lock(db, OrderCustomer, order_id=key) or OrderCustomer(order_id=key)
        items = await OrderItem.filter(order_id=key).using_db(db)
        new_customer, new_items = values.pop("customer", None), values.pop("items", None)
        touched = any(getattr(order, name) != value for name, value in values.items())
        if new_customer is not None and new_customer != _customer(customer):
            await customer.update_from_dict(asdict(new_customer)).save(using_db=db)
            touched = True
        if new_items is not None and new_items != [_item(i) for i in items]:
            await OrderItem.filter(order_id=key).using_db(db).delete()
            await _add_items(db, order, new_items)
            touched = True
        if touched:
            await order.update_from_dict(values).save(using_db=db)
        return order


async def delete_order(order_id: str) -> None:
    """Delete an order with its customer and items; raises InputRejected."""
    key = parse_id(Prefix.ORDER, order_id)
    async with in_transaction() as db:
        order = require_found(await lock(db, CustomerOrder, id=key), "order", order_id)
        await order.delete(using_db=db)


async def _add_items(db: BaseDBAsyncClient, order: CustomerOrder, items: Sequence[Item]) -> None:
    rows = [OrderItem(order_id=order.id, position=position, **asdict(item)) for position, item in enumerate(items)]
    if rows:
        await OrderItem.bulk_create(rows, using_db=db)


def _customer(row: OrderCustomer) -> Customer:
    return Customer(row.name, row.phone, row.email)


def _item(row: OrderItem) -> Item:
    return Item(row.brand, row.article, row.name, row.quantity, row.price)


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values, tidied up; raises InputRejected with all that is wrong."""
    problems = Problems()
    values = dict(changes)
    problems.no_nulls(values, clearable={"comment"})
    if values.get("number") is not None:
        values["number"] = problems.line("number", values["number"], longest=MAX_NUMBER)
    if "comment" in values:
        values["comment"] = problems.text("comment", values["comment"], longest=MAX_COMMENT)
    if values.get("customer") is not None:
        values["customer"] = _checked_customer(problems, values["customer"])
    if values.get("items") is not None:
        values["items"] = _checked_items(problems, values["items"])
    problems.refuse_if_any()
    return values


def _checked_customer(problems: Problems, customer: Customer) -> Customer:
    email = problems.line("customer.email", customer.email, longest=MAX_EMAIL, required=False)
    if email is not None and not _EMAIL.fullmatch(email):
        problems.add("customer.email", "must be an e-mail address, such as maria@example.com")
    return Customer(
        name=problems.line("customer.name", customer.name, longest=MAX_NAME) or "",
        phone=problems.line("customer.phone", customer.phone, longest=MAX_PHONE, required=False),
        email=email,
    )


def _checked_items(problems: Problems, items: Sequence[Item]) -> list[Item]:
    if len(items) > MAX_ITEMS:
        problems.add("items", f"has {len(items):,} entries; {MAX_ITEMS:,} are allowed", ProblemCode.TOO_LARGE)
    return [_checked_item(problems, f"items[{index}]", item) for index, item in enumerate(items[:MAX_ITEMS])]


def _checked_item(problems: Problems, field: str, item: Item) -> Item:
    if not 1 <= item.quantity <= MAX_QUANTITY:
        problems.add(f"{field}.quantity", f"must be from 1 to {MAX_QUANTITY:,}")
    price = item.price
    limit = Decimal(10) ** (PRICE_DIGITS - PRICE_PLACES)
    if not price.is_finite() or not 0 <= price < limit:
        problems.add(f"{field}.price", f"must be a price from 0 to less than {limit:,}")
    elif price != (rounded := price.quantize(Decimal(1).scaleb(-PRICE_PLACES))):
        problems.add(f"{field}.price", f"may have at most {PRICE_PLACES} decimal places")
    else:
        price = abs(rounded)  # there is a negative zero
    return Item(
        brand=problems.line(f"{field}.brand", item.brand, longest=MAX_NAME) or "",
        article=problems.line(f"{field}.article", item.article, longest=MAX_NAME) or "",
        name=problems.line(f"{field}.name", item.name, longest=MAX_ITEM_NAME) or "",
        quantity=item.quantity,
        price=price,
    )
