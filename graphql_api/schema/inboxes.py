"""Queries, mutations and the subscription of inboxes: built-in test addresses that record what they receive."""

import datetime as dt
from collections.abc import AsyncGenerator
from typing import Annotated, Self

import strawberry
from strawberry import ID

from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.errors import ApiError, bad_user_input
from ringback.graphql_api.fields.arguments import parse_query_id
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute, row_paths
from ringback.graphql_api.fields.descriptions import describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import After, Connection, First, Node, read_page
from ringback.graphql_api.fields.root_fields import mutation, query, subscription
from ringback.graphql_api.schema.delivery_types import InboxRequest
from ringback.models import inbox as rows
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.row_decoding import find_row
from ringback.models.ids import Prefix
from ringback.models.services import inboxes as inbox_service
from ringback.models.services.inboxes import RequestsRemoved

#: Longest wait between two reads for new requests, which is what a lost notification costs.
POLL_SECONDS = 1.0
#: Requests per read: a subscriber that reads slowly holds as many bodies of up to 1 MiB.
PAGE = 4

INBOX = row_paths(rows.Inbox)
INBOX_ID = describe_id("Inbox id", Prefix.INBOX)
INBOX_NAME = "Display name."
RESPONSES = "Responses in order: the n-th request gets the n-th response. The last one repeats."


@object_type
class InboxResponse:
    """A response of an inbox."""

    status_code: int = strawberry.field(description="HTTP status.")
    body: str = strawberry.field(description="Body.")
    content_type: str = strawberry.field(description="Media type of the body.")
    delay_ms: int = strawberry.field(description="Delay before the response in milliseconds.")


@object_type
class Inbox(Node):
    """A test address that records every request and sends predefined responses."""

    id: ID = id_attribute(Prefix.INBOX, INBOX_ID)
    name: str | None = attribute(INBOX.name, f"{INBOX_NAME} Null if the inbox has none.")
    url: str = strawberry.field(
        description="Absolute, unguessable URL. Accepts HTTP and WebDAV methods, such as GET, POST and PROPFIND. "
        "Unknown methods get 400."
    )
    responses: list[InboxResponse] = strawberry.field(description=RESPONSES)
    created_at: dt.datetime = attribute(INBOX.created_at, "Time when the inbox was created.")

    @classmethod
    def with_url(cls, row: rows.Inbox, info: Info) -> Self:
        """Return the object of a row, with its URL on this server."""
        responses = [InboxResponse(**stored_response) for stored_response in row.responses]
        return cls(row=row, url=info.context.services.inbox_addresses.url(row.token), responses=responses)

    @strawberry.field(description="Received requests, newest first.")
    async def requests(self, first: First = 20, after: After = None) -> Connection[InboxRequest] | None:
        """Return a page of the requests that were received since the inbox was created or cleared."""
        requests = rows.InboxRequest.filter(inbox_id=self.row.id).only(*rows.REQUEST_WITHOUT_BODY)
        return await read_page(requests, first, after, InboxRequest.of)


@input_type
class InboxResponseInput:
    """A response of an inbox."""

    status_code: int = strawberry.field(default=200, description="HTTP status, from 200 to 599.")
    body: str = strawberry.field(default="", description="Body.")
    content_type: str = strawberry.field(default="text/plain", description="Media type of the body.")
    delay_ms: int = strawberry.field(
        default=0, description="Delay before the response in milliseconds, from 0 to 60000."
    )


def _default_responses() -> list[InboxResponseInput]:
    return [InboxResponseInput()]


@input_type
class CreateInboxInput:
    """A new inbox."""

    name: str | None = optional_field(INBOX_NAME)
    responses: list[InboxResponseInput] = strawberry.field(default_factory=_default_responses, description=RESPONSES)
    signing_secret: str | None = optional_field(
        "Secret to verify requests with: `whsec_` followed by 24 to 64 bytes in base64. Null means the secret of the "
        "event's webhook."
    )


@object_type
class CreateInboxPayload:
    """Result of createInbox."""

    inbox: Inbox | None = optional_field("The new inbox.")
    errors: list[InputError] = errors_field()


@object_type
class ClearInboxPayload:
    """Result of clearInbox."""

    deleted_count: int | None = optional_field("Number of deleted requests.")
    errors: list[InputError] = errors_field()


@object_type
class DeleteInboxPayload:
    """Result of deleteInbox."""

    deleted_id: ID | None = optional_field("Id of the deleted inbox.")
    errors: list[InputError] = errors_field()


InboxId = Annotated[ID, strawberry.argument(description=INBOX_ID)]


@strawberry.type
class InboxQuery:
    """The queries `inbox` and `inboxes`."""

    @query(
        """
        query {
          inbox(id: "inb_01h455vb4pex5vsknk084sn02q") {
            url
            requests(first: 20) { nodes { receivedAt method body signature } }
          }
        }
        """
    )
    async def inbox(self, info: Info, id: InboxId) -> Inbox | None:
        """Look up an inbox by id. Null if there is none."""
        row = await find_row(rows.Inbox, parse_query_id(Prefix.INBOX, id))
        return None if row is None else Inbox.with_url(row, info)

    @query(
        """
        query {
          inboxes(first: 20) { nodes { id name url } pageInfo { hasNextPage endCursor } }
        }
        """
    )
    async def inboxes(self, info: Info, first: First = 20, after: After = None) -> Connection[Inbox] | None:
        """List inboxes, newest first."""
        return await read_page(rows.Inbox.all(), first, after, lambda row: Inbox.with_url(row, info))


@strawberry.type
class InboxMutation:
    """The mutations `createInbox`, `clearInbox` and `deleteInbox`."""

    @mutation(
        """
        mutation {
          createInbox(input: {name: "first fails", responses: [{statusCode: 500}, {statusCode: 200, body: "ok"}]}) {
            inbox { id url }
            errors { field message }
          }
        }
        """
    )
    async def create_inbox(
        self, info: Info, input: Annotated[CreateInboxInput, strawberry.argument(description="The new inbox.")]
    ) -> CreateInboxPayload | None:
        """Create an inbox. Its URL can be the target of a webhook."""
        responses = [
            inbox_service.InboxResponse(
                status_code=response.status_code,
                body=response.body,
                content_type=response.content_type,
                delay_ms=response.delay_ms,
            )
            for response in input.responses
        ]
        row = await info.context.services.inboxes.create(input.name, responses, input.signing_secret)
        return CreateInboxPayload(inbox=Inbox.with_url(row, info))

    @mutation(
        """
        mutation {
          clearInbox(id: "inb_01h455vb4pex5vsknk084sn02q") { deletedCount errors { message } }
        }
        """
    )
    async def clear_inbox(self, info: Info, id: InboxId) -> ClearInboxPayload | None:
        """Delete the requests of an inbox. Its responses start again with the first."""
        return ClearInboxPayload(deleted_count=await info.context.services.inboxes.clear(id))

    @mutation(
        """
        mutation {
          deleteInbox(id: "inb_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """
    )
    async def delete_inbox(self, info: Info, id: InboxId) -> DeleteInboxPayload | None:
        """Delete an inbox and its requests. Its URL responds with 404."""
        await info.context.services.inboxes.delete(id)
        return DeleteInboxPayload(deleted_id=id)


@strawberry.type
class InboxSubscription:
    """The subscription to an inbox."""

    @subscription(
        """
        subscription {
          inboxRequest(inboxId: "inb_01h455vb4pex5vsknk084sn02q") { receivedAt method url body event { id } }
        }
        """
    )
    async def inbox_request(self, info: Info, inbox_id: InboxId) -> AsyncGenerator[InboxRequest | None, None]:
        """Follow the requests that an inbox receives from now on. Ends when the inbox is deleted."""
        key = parse_query_id(Prefix.INBOX, inbox_id, "inboxId")
        inbox = await find_row(rows.Inbox, key)
        if inbox is None:
            raise bad_user_input(f"inboxId: There is no inbox with the id {inbox_id}.")
        last_number = inbox.received
        listener = notifier.listen(Topic.RECEIVED)
        while True:
            try:
                requests = await info.context.services.inboxes.received_after(key, last_number, PAGE)
            except RequestsRemoved as error:
                message = f"inboxId: The subscriber is too slow: {error}. Query the inbox and subscribe again."
                raise ApiError("LIMIT_EXCEEDED", message, limit="inbox_quota") from error
            if requests is None:  # the inbox was deleted
                return
            for row in requests:
                last_number = row.number
                yield InboxRequest.of(row)
            if not requests:
                await listener.wait(POLL_SECONDS)
