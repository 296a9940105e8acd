"""Customer orders. An order, its customer and its items are tracked as one object."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from tortoise import fields

from ringback.models.enums import OrderStatus
from ringback.models.ids import Prefix, new_key
from ringback.models.tracking.registry import Child, Computed, Tracking
from ringback.models.tracking.tracked import Tracked, TrackedChild

#: Digits of a price in total, and after the decimal point.
PRICE_DIGITS, PRICE_PLACES = 12, 2


def item_total(item: Mapping[str, Any]) -> str:
    """Return the price of an item times its quantity."""
    total = Decimal(item["price"]) * item["quantity"]
    return f"{total:.{PRICE_PLACES}f}"


def order_total(order: Mapping[str, Any]) -> str:
    """Return the sum of the items' totals, which must have been computed."""
    total = sum((Decimal(item["total"]) for item in order["items"]), Decimal(0))
    return f"{total:.{PRICE_PLACES}f}"


class CustomerOrder(Tracked):
    """A customer's order."""

    id = fields.UUIDField(primary_key=True, default=new_key, description="The order's id, ord_….")
    number = fields.CharField(max_length=64, description="The order's number in the shop.")
    status = fields.CharEnumField(
        OrderStatus, max_length=16, default=OrderStatus.NEW, description="NEW, IN_PROGRESS, DONE or CANCELLED."
    )
    comment = fields.TextField(null=True, description="Comment on the order, null if there is none.")
    created_at = fields.DatetimeField(auto_now_add=True, description="When the order was created.")
    updated_at = fields.DatetimeField(auto_now=True, description="When the order itself was last saved.")

    customer: fields.BackwardOneToOneRelation["OrderCustomer"]
    items: fields.ReverseRelation["OrderItem"]

    tracking = Tracking(
        name="customer_order",
        labels={"en": "Customer order", "ru": "Заказ клиента"},
        description="A customer's order with its customer and items.",
        id_prefix=Prefix.ORDER,
        children={
            "customer": Child(exclude=frozenset({"id"})),
            "items": Child(
                exclude=frozenset({"id", "position"}),
                computed={"total": Computed(item_total, "decimal", "Price times quantity.")},
            ),
        },
        computed={"total": Computed(order_total, "decimal", "Sum of the items' totals.")},
        sample={
            "id": "ord_01h455vb4pex5vsknk084sn02q",
            "number": "1001",
            "status": "NEW",
            "comment": None,
            "created_at": "2026-01-31T12:00:00.000000Z",
            "updated_at": "2026-01-31T12:00:00.000000Z",
            "customer": {"name": "Мария Иванова", "phone": "+7 900 000-00-00", "email": "maria@example.com"},
            "items": [
                {
                    "brand": "BOSCH",
                    "article": "0 986 494 524",
                    "name": "Brake pads",
                    "quantity": 2,
                    "price": "350.50",
                    "total": "701.00",
                }
            ],
            "total": "701.00",
        },
    )

    class Meta:
        table = "customer_order"
        app = "ringback"


class OrderCustomer(TrackedChild):
    """The customer of an order."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    order: fields.OneToOneRelation[CustomerOrder] = fields.OneToOneField(
        "ringback.CustomerOrder", related_name="customer", on_delete=fields.CASCADE
    )
    name = fields.CharField(max_length=200, description="The customer's name.")
    phone = fields.CharField(max_length=64, null=True, description="The customer's phone number, if known.")
    email = fields.CharField(max_length=254, null=True, description="The customer's e-mail address, if known.")

    order_id: UUID

    class Meta:
        table = "customer_order_customer"
        app = "ringback"


class OrderItem(TrackedChild):
    """One line of an order."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    order: fields.ForeignKeyRelation[CustomerOrder] = fields.ForeignKeyField(
        "ringback.CustomerOrder", related_name="items", on_delete=fields.CASCADE
    )
    position = fields.IntField(description="Position of the line in the order, starting at 0.")
    brand = fields.CharField(max_length=200, description="The part's brand.")
    article = fields.CharField(max_length=200, description="The part's article number.")
    name = fields.CharField(max_length=500, description="The part's name.")
    quantity = fields.IntField(description="Number of pieces.")
    price = fields.DecimalField(max_digits=PRICE_DIGITS, decimal_places=PRICE_PLACES, description="Price of one piece.")

    order_id: UUID

    class Meta:
        table = "customer_order_item"
        app = "ringback"
        ordering = ("position", "id")
