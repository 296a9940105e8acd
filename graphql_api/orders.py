"""Customer orders."""

import datetime as dt
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Self

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.descriptions import described, like
from ringback.graphql_api.edges import edge
from ringback.graphql_api.enums import OrderStatus
from ringback.graphql_api.errors import InputError, answered
from ringback.graphql_api.inputs import given, or_none, query_key
from ringback.graphql_api.relay import After, Connection, First, Node, page
from ringback.models import order as rows
from ringback.models import orders
from ringback.models.ids import Prefix, encode


@strawberry.type(description="Who placed an order.")
class Customer:
    """A stored customer."""

    name: str = strawberry.field(description="The customer's name.")
    phone: str | None = strawberry.field(description="The customer's phone number, if known.")
    email: str | None = strawberry.field(description="The customer's e-mail address, if known.")


@strawberry.type(description="A line of an order.")
class OrderItem:
    """A stored line."""

    brand: str = strawberry.field(description="The part's brand.")
    article: str = strawberry.field(description="The part's article number.")
    name: str = strawberry.field(description="The part's name.")
    quantity: int = strawberry.field(description="How many pieces.")
    price: Decimal = strawberry.field(description="The price of one piece.")
    total: Decimal = strawberry.field(description="Price times quantity.")

    @classmethod
    def of(cls, row: rows.OrderItem) -> Self:
        """The GraphQL object of a row."""
        return cls(
            brand=row.brand,
            article=row.article,
            name=row.name,
            quantity=row.quantity,
            price=Decimal(_money(row.price)),
            total=Decimal(_money(row.price * row.quantity)),
        )


@strawberry.type(description="A customer's order, with its customer and items.")
class CustomerOrder(Node):
    """A stored order."""

    row: strawberry.Private[rows.CustomerOrder]
    id: ID = strawberry.field(description=like("ord"))
    number: str = strawberry.field(description="The order's number as the shop writes it.")
    status: OrderStatus = strawberry.field(description="How far it has come.")
    comment: str | None = strawberry.field(description="A remark on the order.")
    created_at: dt.datetime = strawberry.field(description="When it was placed.")
    updated_at: dt.datetime = strawberry.field(description="When it was last changed; give it as expectedUpdatedAt.")

    @classmethod
    def of(cls, row: rows.CustomerOrder) -> Self:
        """The GraphQL object of a row."""
        return cls(
            row=row,
            id=ID(encode(Prefix.ORDER, row.id)),
            number=row.number,
            status=row.status,
            comment=row.comment,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @edge(lambda loaders: loaders.customer_of_order, key=attrgetter("row.id"), description="Who placed it.")
    def customer(self, row: rows.OrderCustomer | None) -> Customer | None:
        """The order's customer."""
        return Customer(name=row.name, phone=row.phone, email=row.email) if row else None

    @edge(lambda loaders: loaders.items_of_order, key=attrgetter("row.id"), description="Its lines, in order.")
    def items(self, lines: list[rows.OrderItem]) -> list[OrderItem]:
        """The order's lines."""
        return [OrderItem.of(line) for line in lines]

    @edge(lambda loaders: loaders.items_of_order, key=attrgetter("row.id"), description="The sum of its lines.")
    def total(self, lines: list[rows.OrderItem]) -> Decimal:
        """Computed from the lines."""
        return Decimal(_money(sum((line.price * line.quantity for line in lines), Decimal(0))))


@strawberry.input(description="Who places the order.")
class CustomerInput:
    """A customer."""

    name: str = strawberry.field(description="The customer's name.")
    phone: str | None = strawberry.field(default=None, description="The customer's phone number, if known.")
    email: str | None = strawberry.field(default=None, description="The customer's e-mail address, if known.")


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
    comment: str | None = strawberry.field(default=None, description="A remark on the order.")
    status: OrderStatus = strawberry.field(default=OrderStatus.NEW, description="How far it has come.")


@strawberry.input(description="Changes to an order; what is left out stays as it is.")
class UpdateCustomerOrderInput:
    """What may be changed."""

    id: ID = strawberry.field(description=like("ord"))
    expected_updated_at: dt.datetime | None = strawberry.field(
        default=UNSET, description="The `updatedAt` that you have seen; a CONFLICT when it was changed since."
    )
    number: str | None = strawberry.field(default=UNSET, description="The order's number.")
    customer: CustomerInput | None = strawberry.field(default=UNSET, description="The customer, replaced as a whole.")
    items: list[OrderItemInput] | None = strawberry.field(default=UNSET, description="The lines, replaced as a whole.")
    comment: str | None = strawberry.field(default=UNSET, description="A remark on the order. Null clears it.")
    status: OrderStatus | None = strawberry.field(default=UNSET, description="How far it has come.")


@strawberry.type(description="The answer to createCustomerOrder.")
class CreateCustomerOrderPayload:
    """The new order, or errors."""

    order: CustomerOrder | None = strawberry.field(default=None, description="The new order.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateCustomerOrder.")
class UpdateCustomerOrderPayload:
    """The order, or errors."""

    order: CustomerOrder | None = strawberry.field(default=None, description="The order as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteCustomerOrder.")
class DeleteCustomerOrderPayload:
    """The deleted order's id, or errors."""

    deleted_id: ID | None = strawberry.field(default=None, description="The id of the order that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


OrderId = Annotated[ID, strawberry.argument(description=like("ord"))]


@strawberry.type
class OrderQuery:
    """Root fields of this slice."""

    @strawberry.field(
        description=described(
            "An order by its id; null when there is none.",
            """
            query {
              customerOrder(id: "ord_01h455vb4pex5vsknk084sn02q") { number items { article quantity } total }
            }
            """,
        )
    )
    async def customer_order(self, id: OrderId) -> CustomerOrder | None:
        """One order."""
        row = await rows.CustomerOrder.get_or_none(id=query_key(Prefix.ORDER, id))
        return CustomerOrder.of(row) if row else None

    @strawberry.field(
        description=described(
            "The orders, newest first.",
            """
            query {
              customerOrders(first: 20) { nodes { id number status total } pageInfo { hasNextPage endCursor } }
            }
            """,
        )
    )
    async def customer_orders(self, first: First = 20, after: After = None) -> Connection[CustomerOrder] | None:
        """A page of orders."""
        return await page(rows.CustomerOrder.all(), first, after, CustomerOrder.of)


@strawberry.type
class OrderMutation:
    """Root fields of this slice."""

    @strawberry.mutation(
        description=described(
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
    )
    async def create_customer_order(
        self, input: Annotated[CreateCustomerOrderInput, strawberry.argument(description="The new order.")]
    ) -> CreateCustomerOrderPayload | None:
        """Create."""

        async def work() -> CreateCustomerOrderPayload:
            row = await orders.create_order(**_values(input))
            return CreateCustomerOrderPayload(order=CustomerOrder.of(row))

        return await answered(CreateCustomerOrderPayload, work())

    @strawberry.mutation(
        description=described(
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
    )
    async def update_customer_order(
        self, input: Annotated[UpdateCustomerOrderInput, strawberry.argument(description="What to change.")]
    ) -> UpdateCustomerOrderPayload | None:
        """Update."""

        async def work() -> UpdateCustomerOrderPayload:
            row = await orders.update_order(input.id, _values(input), or_none(input.expected_updated_at))
            return UpdateCustomerOrderPayload(order=CustomerOrder.of(row))

        return await answered(UpdateCustomerOrderPayload, work())

    @strawberry.mutation(
        description=described(
            "Delete an order with its customer and items.",
            """
            mutation {
              deleteCustomerOrder(id: "ord_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
            }
            """,
        )
    )
    async def delete_customer_order(self, id: OrderId) -> DeleteCustomerOrderPayload | None:
        """Delete."""

        async def work() -> DeleteCustomerOrderPayload:
            await orders.delete_order(id)
            return DeleteCustomerOrderPayload(deleted_id=id)

        return await answered(DeleteCustomerOrderPayload, work(), prefix="")


def _values(input: CreateCustomerOrderInput | UpdateCustomerOrderInput) -> dict[str, Any]:
    values = given(input)
    if values.get("customer") is not None:
        values["customer"] = orders.Customer(**given(values["customer"]))
    if values.get("items") is not None:
        values["items"] = [orders.Item(**given(item)) for item in values["items"]]
    return values


def _money(amount: Decimal) -> str:
    return f"{amount:.{rows.PRICE_PLACES}f}"
