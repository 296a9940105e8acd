"""Create, update and delete customer orders."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.customer_order import PRICE_DIGITS, PRICE_PLACES, CustomerOrder, OrderCustomer, OrderItem
from ringback.models.database.sql import lock_row
from ringback.models.enums import OrderStatus
from ringback.models.ids import Prefix
from ringback.models.services.validation import Problems, check_unchanged, parse_id, require_found

MAX_NUMBER_CHARS = 64
MAX_COMMENT_CHARS = 10_000
MAX_NAME_CHARS = 200
MAX_PHONE_CHARS = 64
MAX_EMAIL_CHARS = 254
MAX_ITEM_NAME_CHARS = 500
MAX_ITEMS = 1_000
MAX_QUANTITY = 1_000_000
#: The least price that the column cannot hold.
_PRICE_LIMIT = Decimal(10) ** (PRICE_DIGITS - PRICE_PLACES)
_PRICE_STEP = Decimal(1).scaleb(-PRICE_PLACES)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class Customer:
    """The customer of an order."""

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
    """Create an order. Raises InputRejected."""
    values = _check_changes(
        {"number": number, "customer": customer, "items": items, "comment": comment, "status": status}
    )
    customer, items = values.pop("customer"), values.pop("items")
    async with in_transaction() as db:
        order = await CustomerOrder.create(**values, using_db=db)
        await OrderCustomer.create(order_id=order.id, **asdict(customer), using_db=db)
        await _add_items(db, order, items)
        return order


async def update_order(
    order_id: str, changes: Mapping[str, Any], expected_updated_at: dt.datetime | None = None
) -> CustomerOrder:
    """Change the given fields of an order. `customer` and `items` are replaced as a whole. Raises InputRejected."""
    key = parse_id(Prefix.ORDER, order_id)
    values = _check_changes(changes)
    customer, items = values.pop("customer", None), values.pop("items", None)
    async with in_transaction() as db:
        order = require_found(await lock_row(db, CustomerOrder, id=key), "order", order_id)
        check_unchanged(order.updated_at, expected_updated_at)
        is_changed = any(getattr(order, name) != value for name, value in values.items())
        if await _replace_customer(db, order, customer):
            is_changed = True
        if await _replace_items(db, order, items):
            is_changed = True
        if is_changed:
            await order.update_from_dict(values).save(using_db=db)
        return order


async def delete_order(order_id: str) -> None:
    """Delete an order with its customer and items. Raises InputRejected."""
    key = parse_id(Prefix.ORDER, order_id)
    async with in_transaction() as db:
        order = require_found(await lock_row(db, CustomerOrder, id=key), "order", order_id)
        await order.delete(using_db=db)


async def _replace_customer(db: BaseDBAsyncClient, order: CustomerOrder, customer: Customer | None) -> bool:
    """Store the customer of an order unless it is None. Return whether it has changed."""
    if customer is None:
        return False
    # Orders that other code created may have no customer.
    row = await lock_row(db, OrderCustomer, order_id=order.id) or OrderCustomer(order_id=order.id)
    if customer == Customer(name=row.name, phone=row.phone, email=row.email):
        return False
    await row.update_from_dict(asdict(customer)).save(using_db=db)
    return True


async def _replace_items(db: BaseDBAsyncClient, order: CustomerOrder, items: Sequence[Item] | None) -> bool:
    """Store the items of an order unless they are None. Return whether they have changed."""
    if items is None:
        return False
    rows = await OrderItem.filter(order_id=order.id).using_db(db)
    if items == [_item_of(row) for row in rows]:
        return False
    await OrderItem.filter(order_id=order.id).using_db(db).delete()
    await _add_items(db, order, items)
    return True


async def _add_items(db: BaseDBAsyncClient, order: CustomerOrder, items: Sequence[Item]) -> None:
    rows = [OrderItem(order_id=order.id, position=position, **asdict(item)) for position, item in enumerate(items)]
    await OrderItem.bulk_create(rows, using_db=db)


def _item_of(row: OrderItem) -> Item:
    return Item(brand=row.brand, article=row.article, name=row.name, quantity=row.quantity, price=row.price)


def _check_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with their texts stripped. Raises InputRejected with all problems."""
    problems = Problems()
    values = dict(changes)
    problems.check_nulls(values, clearable={"comment"})
    if values.get("number") is not None:
        values["number"] = problems.check_form_line("number", values["number"], max_chars=MAX_NUMBER_CHARS)
    if "comment" in values:
        values["comment"] = problems.check_text("comment", values["comment"], max_chars=MAX_COMMENT_CHARS)
    if values.get("customer") is not None:
        values["customer"] = _check_customer(problems, values["customer"])
    if values.get("items") is not None:
        values["items"] = _check_items(problems, values["items"])
    problems.raise_if_any()
    return values


def _check_customer(problems: Problems, customer: Customer) -> Customer:
    email = problems.check_form_line("customer.email", customer.email, max_chars=MAX_EMAIL_CHARS, required=False)
    if email is not None and not _EMAIL.fullmatch(email):
        message = f"customer.email is {email!r:.80}. Enter an e-mail address, such as maria@example.com."
        problems.add("customer.email", message)
    return Customer(
        name=problems.check_form_line("customer.name", customer.name, max_chars=MAX_NAME_CHARS) or "",
        phone=problems.check_form_line("customer.phone", customer.phone, max_chars=MAX_PHONE_CHARS, required=False),
        email=email,
    )


def _check_items(problems: Problems, items: Sequence[Item]) -> list[Item]:
    if not items:
        problems.add("items", "items is empty. Add at least one item.")
    if len(items) > MAX_ITEMS:
        problems.add_too_large("items", len(items), "entries", MAX_ITEMS)
    return [_check_item(problems, f"items[{index}]", item) for index, item in enumerate(items[:MAX_ITEMS])]


def _check_item(problems: Problems, field: str, item: Item) -> Item:
    if not 1 <= item.quantity <= MAX_QUANTITY:
        problems.add(f"{field}.quantity", f"{field}.quantity is {item.quantity}. Enter 1 to {MAX_QUANTITY:,}.")
    return Item(
        price=_check_price(problems, f"{field}.price", item.price),
        brand=problems.check_form_line(f"{field}.brand", item.brand, max_chars=MAX_NAME_CHARS) or "",
        article=problems.check_form_line(f"{field}.article", item.article, max_chars=MAX_NAME_CHARS) or "",
        name=problems.check_form_line(f"{field}.name", item.name, max_chars=MAX_ITEM_NAME_CHARS) or "",
        quantity=item.quantity,
    )


def _check_price(problems: Problems, field: str, price: Decimal) -> Decimal:
    """Check a price and return it with all its decimal places, and zero without a sign."""
    if not price.is_finite() or not 0 <= price < _PRICE_LIMIT:
        problems.add(field, f"{field} is {price!s:.40}. Enter a price from 0 to less than {_PRICE_LIMIT:,}.")
        return price
    rounded = price.quantize(_PRICE_STEP)
    if price != rounded:
        problems.add(field, f"{field} is {price!s:.40}. Enter at most {PRICE_PLACES} decimal places.")
        return price
    return abs(rounded)
