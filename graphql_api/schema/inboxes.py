"""Inboxes: built-in test addresses, what they received, live."""

import datetime as dt
from collections.abc import AsyncGenerator
from typing import Annotated, Self

import strawberry
from strawberry import ID

from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.arguments import parse_query_id
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute
from ringback.graphql_api.fields.descriptions import id_description, optional_field
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import After, Connection, First, Node, page
from ringback.graphql_api.fields.root_fields import mutation, query, subscription
from ringback.graphql_api.schema.delivery_types import InboxRequest
from ringback.models import inbox as rows
from ringback.models.database.notifications import Topic, notifier
from ringback.models.ids import Prefix
from ringback.models.services.inboxes import InboxResponse as Response

#: The longest sleep between two looks for new requests, in seconds: what a lost wake-up costs at most.
POLL_SECONDS = 1.0
PAGE = 100


@strawberry.type(description="What an inbox answers.")
class InboxResponse:
    """One of an inbox's answers."""

    status_code: int = strawberry.field(description="The status.")
    body: str = strawberry.field(description="The body.")
    content_type: str = strawberry.field(description="The body's media type.")
    delay_ms: int = strawberry.field(description="How long it waits before it answers, in milliseconds.")


@strawberry.type(description="A test address that keeps every request and answers as told.")
class Inbox(Node):
    """A stored inbox."""

    id: ID = id_attribute(Prefix.INBOX, id_description("inb"))
    name: str | None = attribute("row.name", "A name for people.")
    url: str = strawberry.field(
        description="Absolute, unguessable URL. Accepts HTTP and WebDAV methods, such as GET, POST and PROPFIND. "
        "Unknown methods get 400."
    )
    responses: list[InboxResponse] = strawberry.field(
        description="Its answers: the n-th request gets the n-th, and the last one repeats."
    )
    created_at: dt.datetime = attribute("row.created_at", "When it was made.")

    @classmethod
    def at(cls, row: rows.Inbox, info: Info) -> Self:
        """Return the object of a row, with its URL on this server."""
        url = info.context.services.inbox_addresses.url(row.token)
        responses = [InboxResponse(**response) for response in row.responses]
        return cls(row=row, url=url, responses=responses)

    @strawberry.field(description="What it received, newest first.")
    async def requests(self, first: First = 20, after: After = None) -> Connection[InboxRequest] | None:
        """A page of requests."""
        return await page(rows.InboxRequest.filter(inbox_id=self.row.id), first, after, InboxRequest.of)


@strawberry.input(description="An answer of an inbox.")
class InboxResponseInput:
    """One of an inbox's answers."""

    status_code: int = strawberry.field(default=200, description="The status, from 200 to 599.")
    body: str = strawberry.field(default="", description="The body.")
    content_type: str = strawberry.field(default="text/plain", description="The body's media type.")
    delay_ms: int = strawberry.field(default=0, description="How long to wait before answering, up to 60000 ms.")


@strawberry.input(description="A new inbox.")
class CreateInboxInput:
    """All that an inbox is."""

    name: str | None = optional_field("A name for people.")
    responses: list[InboxResponseInput] = strawberry.field(
        default_factory=lambda: [InboxResponseInput()],
        description="Its answers: the n-th request gets the n-th, and the last one repeats.",
    )
    signing_secret: str | None = optional_field(
        "A secret to verify requests with: `whsec_` and 24 to 64 bytes in base64. Without it, that of the "
        "event's webhook is taken."
    )


@strawberry.type(description="The answer to createInbox.")
class CreateInboxPayload:
    """The new inbox, or errors."""

    inbox: Inbox | None = optional_field("The new inbox.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to clearInbox.")
class ClearInboxPayload:
    """How much was forgotten, or errors."""

    deleted_count: int | None = optional_field("How many requests were deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteInbox.")
class DeleteInboxPayload:
    """The deleted inbox's id, or errors."""

    deleted_id: ID | None = optional_field("The id of the inbox that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


InboxId = Annotated[ID, strawberry.argument(description=id_description("inb"))]


@strawberry.type
class InboxQuery:
    """Root fields of this slice."""

    @query(
        "An inbox by its id; null when there is none.",
        """
        query {
          inbox(id: "inb_01h455vb4pex5vsknk084sn02q") {
            url
            requests(first: 20) { nodes { receivedAt method body signature } }
          }
        }
        """,
    )
    async def inbox(self, info: Info, id: InboxId) -> Inbox | None:
        """One inbox."""
        row = await rows.Inbox.get_or_none(id=parse_query_id(Prefix.INBOX, id))
        return Inbox.at(row, info) if row else None

    @query(
        "The inboxes, newest first.",
        """
        query {
          inboxes(first: 20) { nodes { id name url } pageInfo { hasNextPage endCursor } }
        }
        """,
    )
    async def inboxes(self, info: Info, first: First = 20, after: After = None) -> Connection[Inbox] | None:
        """A page of inboxes."""
        return await page(rows.Inbox.all(), first, after, lambda row: Inbox.at(row, info))


@strawberry.type
class InboxMutation:
    """Root fields of this slice."""

    @mutation(
        "Make a test address.",
        """
        mutation {
          createInbox(input: {name: "first fails", responses: [{statusCode: 500}, {statusCode: 200, body: "ok"}]}) {
            inbox { id url }
            errors { field message }
          }
        }
        """,
    )
    async def create_inbox(
        self, info: Info, input: Annotated[CreateInboxInput, strawberry.argument(description="The new inbox.")]
    ) -> CreateInboxPayload | None:
        """Create."""
        responses = [Response(r.status_code, r.body, r.content_type, r.delay_ms) for r in input.responses]
        row = await info.context.services.inboxes.create(input.name, responses, input.signing_secret)
        return CreateInboxPayload(inbox=Inbox.at(row, info))

    @mutation(
        "Forget what an inbox received; its answers begin anew.",
        """
        mutation {
          clearInbox(id: "inb_01h455vb4pex5vsknk084sn02q") { deletedCount errors { message } }
        }
        """,
    )
    async def clear_inbox(self, info: Info, id: InboxId) -> ClearInboxPayload | None:
        """Clear."""
        return ClearInboxPayload(deleted_count=await info.context.services.inboxes.clear(id))

    @mutation(
        "Delete an inbox and what it received.",
        """
        mutation {
          deleteInbox(id: "inb_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """,
    )
    async def delete_inbox(self, info: Info, id: InboxId) -> DeleteInboxPayload | None:
        """Delete."""
        await info.context.services.inboxes.delete(id)
        return DeleteInboxPayload(deleted_id=id)


@strawberry.type
class InboxSubscription:
    """Root fields of this slice."""

    @subscription(
        "Each request that an inbox receives, from now on; ends when it is deleted.",
        """
        subscription {
          inboxRequest(inboxId: "inb_01h455vb4pex5vsknk084sn02q") { receivedAt method url body event { id } }
        }
        """,
    )
    async def inbox_request(self, info: Info, inbox_id: InboxId) -> AsyncGenerator[InboxRequest | None, None]:
        """Follow an inbox."""
        key = parse_query_id(Prefix.INBOX, inbox_id, "inboxId")
        inbox = await rows.Inbox.get_or_none(id=key)
        if inbox is None:
            raise bad_user_input(f"inboxId: there is no inbox with the id {inbox_id}")
        last = inbox.received
        listener = notifier.listen(Topic.RECEIVED)
        while (found := await info.context.services.inboxes.received_after(key, last, PAGE)) is not None:
            for row in found:
                last = row.number
                yield InboxRequest.of(row)
            if not found:
                await listener.wait(POLL_SECONDS)
