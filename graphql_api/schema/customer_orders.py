"""Customer orders."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.fields.arguments import Update, given_fields, or_none, parse_query_id
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute
from ringback.graphql_api.fields.descriptions import id_description, optional_field
from ringback.graphql_api.fields.enums import OrderStatus
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.loaded_field import loaded_field
from ringback.graphql_api.fields.relay import After, Connection, First, Node, page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import customer_order as rows
from ringback.models.ids import Prefix
from ringback.models.services import customer_orders as order_service


@strawberry.type(description="Who placed an order.")
class Customer:
    """A stored customer, as it is kept: its row."""

    name: str = strawberry.field(description="The customer's name.")
    phone: str | None = strawberry.field(description="The customer's phone number, if known.")
    email: str | None = strawberry.field(description="The customer's e-mail address, if known.")


@strawberry.type(description="A line of an order.")
class OrderItem:
    """A stored line, as it is kept: its row."""

    brand: str = strawberry.field(description="The part's brand.")
    article: str = strawberry.field(description="The part's article number.")
    name: str = strawberry.field(description="The part's name.")
    quantity: int = strawberry.field(description="How many pieces.")
    price: Decimal = attribute(lambda item: _money(item.price), "The price of one piece.")
    total: Decimal = attribute(lambda item: _money(item.price * item.quantity), "Price times quantity.")


def _total(_: Any, items: list[rows.OrderItem]) -> Decimal:
    return _money(sum((item.price * item.quantity for item in items), Decimal(0)))


@strawberry.type(description="A customer's order, with its customer and items.")
class CustomerOrder(Node):
    """A stored order."""

    id: ID = id_attribute(Prefix.ORDER, id_description("ord"))
    number: str = attribute("row.number", "The order's number as the shop writes it.")
    status: OrderStatus = attribute("row.status", "How far it has come.")
    comment: str | None = attribute("row.comment", "A remark on the order.")
    created_at: dt.datetime = attribute("row.created_at", "When it was placed.")
    updated_at: dt.datetime = attribute("row.updated_at", "When it was last changed; give it as expectedUpdatedAt.")
    customer: Customer | None = loaded_field(dataloaders.customer_of_order, "row.id", "Who placed it.")
    items: list[OrderItem] = loaded_field(dataloaders.items_of_order, "row.id", "Its lines, in order.")
    total: Decimal = loaded_field(dataloaders.items_of_order, "row.id", "The sum of its lines.", _total)


@strawberry.input(description="Who places the order.")
class CustomerInput:
    """A customer."""

    name: str = strawberry.field(description="The customer's name.")
    phone: str | None = optional_field("The customer's phone number, if known.")
    email: str | None = optional_field("The customer's e-mail address, if known.")


@strawberry.input(description="A line of an order.")
class OrderItemInput:
    """A line."""

    brand: str = strawberry.field(description="The part's brand.")
    article: str = strawberry.field(description="The part's article number.")
    name: str = strawberry.field(description="The part's name.")
    quantity: int = strawberry.field(description="How many pieces; at least one.")
    price: Decimal = strawberry.field(description='The price of one piece, such as "350.50".')


@strawberry.input(description="A new order.")
class CreateCustomerOrderInput:
    """All that an order is."""

    number: str = strawberry.field(description="The order's number as the shop writes it.")
    customer: CustomerInput = strawberry.field(description="Who places it.")
    items: list[OrderItemInput] = strawberry.field(description="Its lines, in order.")
    comment: str | None = optional_field("A remark on the order.")
    status: OrderStatus = strawberry.field(default=OrderStatus.NEW, description="How far it has come.")


@strawberry.input(description="Changes to an order; what is left out stays as it is.")
class UpdateCustomerOrderInput(Update):
    """What may be changed."""

    id: ID = strawberry.field(description=id_description("ord"))
    number: str | None = optional_field("The order's number.", UNSET)
    customer: CustomerInput | None = optional_field("The customer, replaced as a whole.", UNSET)
    items: list[OrderItemInput] | None = optional_field("The lines, replaced as a whole.", UNSET)
    comment: str | None = optional_field("A remark on the order. Null clears it.", UNSET)
    status: OrderStatus | None = optional_field("How far it has come.", UNSET)


@strawberry.type(description="The answer to createCustomerOrder.")
class CreateCustomerOrderPayload:
    """The new order, or errors."""

    order: CustomerOrder | None = optional_field("The new order.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateCustomerOrder.")
class UpdateCustomerOrderPayload:
    """The order, or errors."""

    order: CustomerOrder | None = optional_field("The order as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteCustomerOrder.")
class DeleteCustomerOrderPayload:
    """The deleted order's id, or errors."""

    deleted_id: ID | None = optional_field("The id of the order that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


OrderId = Annotated[ID, strawberry.argument(description=id_description("ord"))]


@strawberry.type
class OrderQuery:
    """Root fields of this slice."""

    @query(
        "An order by its id; null when there is none.",
        """
        query {
          customerOrder(id: "ord_01h455vb4pex5vsknk084sn02q") { number items { article quantity } total }
        }
        """,
    )
    async def customer_order(self, id: OrderId) -> CustomerOrder | None:
        """One order."""
        row = await rows.CustomerOrder.get_or_none(id=parse_query_id(Prefix.ORDER, id))
        return CustomerOrder.of(row) if row else None

    @query(
        "The orders, newest first.",
        """
        query {
          customerOrders(first: 20) { nodes { id number status total } pageInfo { hasNextPage endCursor } }
        }
        """,
    )
    async def customer_orders(self, first: First = 20, after: After = None) -> Connection[CustomerOrder] | None:
        """A page of orders."""
        return await page(rows.CustomerOrder.all(), first, after, CustomerOrder.of)


@strawberry.type
class OrderMutation:
    """Root fields of this slice."""

    @mutation(
        "Place an order.",
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
        """,
    )
    async def create_customer_order(
        self, input: Annotated[CreateCustomerOrderInput, strawberry.argument(description="The new order.")]
    ) -> CreateCustomerOrderPayload | None:
        """Create."""
        row = await order_service.create_order(**_values(input))
        return CreateCustomerOrderPayload(order=CustomerOrder.of(row))

    @mutation(
        "Change an order.",
        """
        mutation {
          updateCustomerOrder(input: {id: "ord_01h455vb4pex5vsknk084sn02q", status: IN_PROGRESS}) {
            order { status updatedAt }
            errors { field message }
          }
        }
        """,
    )
    async def update_customer_order(
        self, input: Annotated[UpdateCustomerOrderInput, strawberry.argument(description="What to change.")]
    ) -> UpdateCustomerOrderPayload | None:
        """Update."""
        row = await order_service.update_order(input.id, _values(input), or_none(input.expected_updated_at))
        return UpdateCustomerOrderPayload(order=CustomerOrder.of(row))

    @mutation(
        "Delete an order with its customer and items.",
        """
        mutation {
          deleteCustomerOrder(id: "ord_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """,
    )
    async def delete_customer_order(self, id: OrderId) -> DeleteCustomerOrderPayload | None:
        """Delete."""
        await order_service.delete_order(id)
        return DeleteCustomerOrderPayload(deleted_id=id)


def _values(input: CreateCustomerOrderInput | UpdateCustomerOrderInput) -> dict[str, Any]:
    values = given_fields(input)
    if values.get("customer") is not None:
        values["customer"] = order_service.Customer(**given_fields(values["customer"]))
    if values.get("items") is not None:
        values["items"] = [order_service.Item(**given_fields(item)) for item in values["items"]]
    return values


def _money(amount: Decimal) -> Decimal:
    return Decimal(f"{amount:.{rows.PRICE_PLACES}f}")
