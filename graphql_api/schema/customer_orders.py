"""Queries and mutations of customer orders."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.fields.arguments import Update, given_fields, or_none, parse_query_id
from ringback.graphql_api.fields.attribute_field import RowObject, attribute, computed_field, id_attribute, row_paths
from ringback.graphql_api.fields.descriptions import describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import OrderStatus
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.loaded_field import loaded_field
from ringback.graphql_api.fields.relay import After, Connection, First, Node, read_page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import customer_order as rows
from ringback.models.ids import Prefix
from ringback.models.services import customer_orders as order_service

ORDER = row_paths(rows.CustomerOrder)
ORDER_ID = describe_id("Order id", Prefix.ORDER)
ORDER_NUMBER = "Order number of the shop."
CUSTOMER_NAME = "Name of the customer."
CUSTOMER_PHONE = "Phone number. Null if unknown."
CUSTOMER_EMAIL = "Email address. Null if unknown."
ITEM_BRAND = "Brand of the part."
ITEM_ARTICLE = "Article number of the part."
ITEM_NAME = "Name of the part."


@object_type
class Customer:
    """The customer of an order."""

    # Resolved from a row of rows.OrderCustomer.
    name: str = strawberry.field(description=CUSTOMER_NAME)
    phone: str | None = strawberry.field(description=CUSTOMER_PHONE)
    email: str | None = strawberry.field(description=CUSTOMER_EMAIL)


def _price(item: rows.OrderItem) -> Decimal:
    return _round(item.price)


def _item_total(item: rows.OrderItem) -> Decimal:
    return _round(item.price * item.quantity)


@object_type
class OrderItem:
    """A line of an order."""

    # Resolved from a row of rows.OrderItem.
    brand: str = strawberry.field(description=ITEM_BRAND)
    article: str = strawberry.field(description=ITEM_ARTICLE)
    name: str = strawberry.field(description=ITEM_NAME)
    quantity: int = strawberry.field(description="Number of pieces.")
    price: Decimal = computed_field(_price, "Price of one piece.")
    total: Decimal = computed_field(_item_total, "Price times quantity.")


def _order_customer(_: RowObject, customer: rows.OrderCustomer | None) -> Any:
    return customer


def _order_items(_: RowObject, items: list[rows.OrderItem]) -> Any:
    return items


def _order_total(_: RowObject, items: list[rows.OrderItem]) -> Decimal:
    return _round(sum((item.price * item.quantity for item in items), Decimal(0)))


@object_type
class CustomerOrder(Node):
    """An order with its customer and items."""

    id: ID = id_attribute(Prefix.ORDER, ORDER_ID)
    number: str = attribute(ORDER.number, ORDER_NUMBER)
    status: OrderStatus = attribute(ORDER.status, "Progress of the order.")
    comment: str | None = attribute(ORDER.comment, "Comment on the order. Null if there is none.")
    created_at: dt.datetime = attribute(ORDER.created_at, "Time when the order was placed.")
    updated_at: dt.datetime = attribute(
        ORDER.updated_at, "Time when the order was last changed. Send it as `expectedUpdatedAt` to detect conflicts."
    )
    customer: Customer | None = loaded_field(
        dataloaders.customer_of_order, ORDER.id, "Customer who placed the order.", _order_customer
    )
    items: list[OrderItem] = loaded_field(
        dataloaders.items_of_order, ORDER.id, "Lines of the order, in sequence.", _order_items
    )
    total: Decimal = loaded_field(dataloaders.items_of_order, ORDER.id, "Sum of the lines' totals.", _order_total)


@input_type
class CustomerInput:
    """The customer of an order."""

    name: str = strawberry.field(description=CUSTOMER_NAME)
    phone: str | None = optional_field(CUSTOMER_PHONE)
    email: str | None = optional_field(CUSTOMER_EMAIL)


@input_type
class OrderItemInput:
    """A line of an order."""

    brand: str = strawberry.field(description=ITEM_BRAND)
    article: str = strawberry.field(description=ITEM_ARTICLE)
    name: str = strawberry.field(description=ITEM_NAME)
    quantity: int = strawberry.field(description="Number of pieces, at least 1.")
    price: Decimal = strawberry.field(description='Price of one piece. Example: `"350.50"`.')


@input_type
class CreateCustomerOrderInput:
    """A new order."""

    number: str = strawberry.field(description=ORDER_NUMBER)
    customer: CustomerInput = strawberry.field(description="Customer who places the order.")
    items: list[OrderItemInput] = strawberry.field(description="Lines of the order, in sequence.")
    comment: str | None = optional_field("Comment on the order.")
    status: OrderStatus = strawberry.field(default=OrderStatus.NEW, description="Progress of the order.")


@input_type
class UpdateCustomerOrderInput(Update):
    """Changes to an order. Omitted fields keep their values."""

    id: ID = strawberry.field(description=ORDER_ID)
    number: str | None = optional_field(ORDER_NUMBER, UNSET)
    customer: CustomerInput | None = optional_field("Customer, replaced as a whole.", UNSET)
    items: list[OrderItemInput] | None = optional_field("Lines of the order, replaced as a whole.", UNSET)
    comment: str | None = optional_field("Comment on the order. Null clears it.", UNSET)
    status: OrderStatus | None = optional_field("Progress of the order.", UNSET)


@object_type
class CreateCustomerOrderPayload:
    """Result of createCustomerOrder."""

    order: CustomerOrder | None = optional_field("The new order.")
    errors: list[InputError] = errors_field()


@object_type
class UpdateCustomerOrderPayload:
    """Result of updateCustomerOrder."""

    order: CustomerOrder | None = optional_field("The updated order.")
    errors: list[InputError] = errors_field()


@object_type
class DeleteCustomerOrderPayload:
    """Result of deleteCustomerOrder."""

    deleted_id: ID | None = optional_field("Id of the deleted order.")
    errors: list[InputError] = errors_field()


OrderId = Annotated[ID, strawberry.argument(description=ORDER_ID)]


@strawberry.type
class CustomerOrderQuery:
    """The queries `customerOrder` and `customerOrders`."""

    @query(
        """
        query {
          customerOrder(id: "ord_01h455vb4pex5vsknk084sn02q") { number items { article quantity } total }
        }
        """
    )
    async def customer_order(self, id: OrderId) -> CustomerOrder | None:
        """Look up an order by id. Null if there is none."""
        row = await rows.CustomerOrder.get_or_none(id=parse_query_id(Prefix.ORDER, id))
        return None if row is None else CustomerOrder.of(row)

    @query(
        """
        query {
          customerOrders(first: 20) { nodes { id number status total } pageInfo { hasNextPage endCursor } }
        }
        """
    )
    async def customer_orders(self, first: First = 20, after: After = None) -> Connection[CustomerOrder] | None:
        """List orders, newest first."""
        return await read_page(rows.CustomerOrder.all(), first, after, CustomerOrder.of)


@strawberry.type
class CustomerOrderMutation:
    """The mutations `createCustomerOrder`, `updateCustomerOrder` and `deleteCustomerOrder`."""

    @mutation(
        """
        mutation {
          createCustomerOrder(
            input: {
              number: "2026-17"
              customer: {name: "Ada"}
              items: [{brand: "Bosch", article: "0 986 479 098", name: "Brake pads", quantity: 2, price: "350.50"}]
            }
          ) {
            order { id total }
            errors { field message }
          }
        }
        """
    )
    async def create_customer_order(
        self, input: Annotated[CreateCustomerOrderInput, strawberry.argument(description="The new order.")]
    ) -> CreateCustomerOrderPayload | None:
        """Create an order."""
        row = await order_service.create_order(
            input.number, _customer(input.customer), _items(input.items), comment=input.comment, status=input.status
        )
        return CreateCustomerOrderPayload(order=CustomerOrder.of(row))

    @mutation(
        """
        mutation {
          updateCustomerOrder(input: {id: "ord_01h455vb4pex5vsknk084sn02q", status: IN_PROGRESS}) {
            order { status updatedAt }
            errors { field message }
          }
        }
        """
    )
    async def update_customer_order(
        self, input: Annotated[UpdateCustomerOrderInput, strawberry.argument(description="The changes.")]
    ) -> UpdateCustomerOrderPayload | None:
        """Update an order."""
        row = await order_service.update_order(input.id, _changes(input), or_none(input.expected_updated_at))
        return UpdateCustomerOrderPayload(order=CustomerOrder.of(row))

    @mutation(
        """
        mutation {
          deleteCustomerOrder(id: "ord_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """
    )
    async def delete_customer_order(self, id: OrderId) -> DeleteCustomerOrderPayload | None:
        """Delete an order with its customer and items."""
        await order_service.delete_order(id)
        return DeleteCustomerOrderPayload(deleted_id=id)


def _changes(input: UpdateCustomerOrderInput) -> dict[str, Any]:
    """Return the given fields, by their names and with their types in the service."""
    changes = given_fields(input)
    if changes.get("customer") is not None:
        changes["customer"] = _customer(changes["customer"])
    if changes.get("items") is not None:
        changes["items"] = _items(changes["items"])
    return changes


def _customer(input: CustomerInput) -> order_service.Customer:
    return order_service.Customer(name=input.name, phone=input.phone, email=input.email)


def _items(items: list[OrderItemInput]) -> list[order_service.Item]:
    return [
        order_service.Item(
            brand=item.brand, article=item.article, name=item.name, quantity=item.quantity, price=item.price
        )
        for item in items
    ]


def _round(amount: Decimal) -> Decimal:
    return Decimal(f"{amount:.{rows.PRICE_PLACES}f}")
