"""The delivery graph: webhook, change, event, attempt and the request that an inbox received, linked with one another.

Plain values are read from the row; what lies behind an edge comes through a loader (graphql_api.edges), so that a page
costs a constant number of statements.
"""

import base64
import datetime as dt
from operator import attrgetter
from typing import Any, Self

import strawberry
from strawberry import ID
from strawberry.scalars import JSON

from ringback.graphql_api.catalog import WebhookModel, webhook_model
from ringback.graphql_api.descriptions import like
from ringback.graphql_api.edges import edge
from ringback.graphql_api.enums import Action, EventStatus, HttpMethod, OutcomeName, SignatureCheck, SuccessPolicy
from ringback.graphql_api.relay import Node
from ringback.models import event as rows
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import InboxRequest as InboxRequestRow
from ringback.models.webhook import Webhook as WebhookRow

#: Descriptions that a webhook's type and its inputs share.
ABOUT = {
    "name": "A name for people, of at most 200 characters.",
    "actions": "Which actions it fires on; at least one.",
    "is_active": "It fires only while it is active.",
    "method": "The HTTP method. GET and DELETE send no body unless there is a template or sendJson is on.",
    "url": "Where requests go, http or https. May hold Liquid: `https://crm.example/leads/{{ item.id }}`.",
    "send_json": "Send the whole object as JSON; the template is not used then.",
    "body_template": "The Liquid template of the body, whose root object is `item`: "
    "`phone={{ item.phone | url_encode }}`. At most 64 KiB.",
    "content_type": "The body's media type, such as `application/xml`; null means application/json with sendJson, else "
    "a form.",
    "headers": "Headers that are sent besides Ringback's own.",
    "condition": 'A Liquid expression; only changes for which it holds fire: `item.status == "DONE"`.',
    "retry_delays_seconds": "Seconds before the first attempt, then after the end of each attempt before the next; one "
    "entry an attempt, at most 20: `[5, 240, 480]`.",
    "timeout_seconds": "How long the endpoint has for its whole answer, connecting included; from 0.1 to 30.",
    "success_policy": "Which answers count as success.",
}


_row_id = attrgetter("row.id")
_webhook_id = attrgetter("row.webhook_id")
_change_id = attrgetter("row.change_id")
_event_id = attrgetter("row.event_id")


@strawberry.type(description="A header of a request or an answer.")
class Header:
    """A name and a value."""

    name: str = strawberry.field(description="The header's name.")
    value: str = strawberry.field(description="The header's value.")


def headers_of(pairs: list[list[str]]) -> list[Header]:
    """Stored pairs as GraphQL objects."""
    return [Header(name=name, value=value) for name, value in pairs]


@strawberry.type(description="A webhook: which changes of which model are told to whom, and how.")
class Webhook(Node):
    """A stored webhook."""

    row: strawberry.Private[WebhookRow]
    id: ID = strawberry.field(description=like("whk"))
    name: str | None = strawberry.field(description=ABOUT["name"])
    model: WebhookModel | None = strawberry.field(description="The model whose objects it watches.")
    actions: list[Action] = strawberry.field(description=ABOUT["actions"])
    is_active: bool = strawberry.field(description=ABOUT["is_active"])
    method: HttpMethod = strawberry.field(description=ABOUT["method"])
    url: str = strawberry.field(description=ABOUT["url"])
    send_json: bool = strawberry.field(description=ABOUT["send_json"])
    body_template: str = strawberry.field(description=ABOUT["body_template"])
    content_type: str | None = strawberry.field(description=ABOUT["content_type"])
    headers: list[Header] = strawberry.field(description=ABOUT["headers"])
    condition: str | None = strawberry.field(description=ABOUT["condition"])
    retry_delays_seconds: list[int] = strawberry.field(description=ABOUT["retry_delays_seconds"])
    timeout_seconds: float = strawberry.field(description=ABOUT["timeout_seconds"])
    success_policy: SuccessPolicy = strawberry.field(description=ABOUT["success_policy"])
    created_at: dt.datetime = strawberry.field(description="When it was created.")
    updated_at: dt.datetime = strawberry.field(description="When it was last changed; give it as expectedUpdatedAt.")
    deleted_at: dt.datetime | None = strawberry.field(description="When it was deleted; null while it lives.")

    @classmethod
    def of(cls, row: WebhookRow) -> Self:
        """The GraphQL object of a row."""
        return cls(
            row=row,
            id=ID(encode(Prefix.WEBHOOK, row.id)),
            name=row.name,
            model=webhook_model(row.model),
            actions=[Action(action) for action in row.actions],
            is_active=row.is_active,
            method=row.method,
            url=row.url,
            send_json=row.send_json,
            body_template=row.body_template,
            content_type=row.content_type,
            headers=headers_of(row.headers),
            condition=row.condition,
            retry_delays_seconds=list(row.retry_delays),
            timeout_seconds=row.timeout_seconds,
            success_policy=row.success_policy,
            created_at=row.created_at,
            updated_at=row.updated_at,
            deleted_at=row.deleted_at,
        )

    @edge(
        lambda loaders: loaders.last_attempt_of_webhook,
        key=_row_id,
        description="The newest attempt to deliver one of its events; null while there is none.",
    )
    def last_attempt(self, row: rows.Attempt | None) -> "Attempt | None":
        """The webhook's newest attempt."""
        return Attempt.of(row) if row else None


@strawberry.type(description="One committed create, update or delete of one object, with its snapshot.")
class Change(Node):
    """A stored change."""

    row: strawberry.Private[rows.Change]
    id: ID = strawberry.field(description=like("chg"))
    model: WebhookModel | None = strawberry.field(description="The object's model.")
    action: Action = strawberry.field(description="What happened to the object.")
    object_id: str = strawberry.field(description="The object's id.")
    item: JSON = strawberry.field(description="The object as of the commit, children included.")
    updated_fields: list[str] = strawberry.field(description="What an update changed; empty otherwise.")
    created_at: dt.datetime = strawberry.field(description="When it was committed.")

    @classmethod
    def of(cls, row: rows.Change) -> Self:
        """The GraphQL object of a row."""
        return cls(
            row=row,
            id=ID(encode(Prefix.CHANGE, row.id)),
            model=webhook_model(row.model),
            action=row.action,
            object_id=row.object_id,
            item=JSON(row.item),
            updated_fields=list(row.changed_fields),
            created_at=row.created_at,
        )

    @edge(
        lambda loaders: loaders.events_of_change,
        key=_row_id,
        description="The events of this change: one for each webhook that it fired, oldest first.",
    )
    def events(self, found: list[rows.Event]) -> list["Event"]:
        """The change's events."""
        return [Event.of(row) for row in found]


@strawberry.type(description="One firing of one webhook for one change, until it is delivered or ends.")
class Event(Node):
    """A stored event."""

    row: strawberry.Private[rows.Event]
    id: ID = strawberry.field(description=like("evt", "; PS-WEBHOOK_EVENT-ID and webhook-id in every attempt"))
    model: WebhookModel | None = strawberry.field(description="The object's model.")
    action: Action = strawberry.field(description="What happened to the object.")
    object_id: str | None = strawberry.field(
        description="The object's id (item.id); null in a test whose item has none."
    )
    status: EventStatus = strawberry.field(description="Where it stands.")
    attempt_count: int = strawberry.field(description="How many attempts are on record.")
    max_attempts: int = strawberry.field(description="The number of the last attempt that the schedule allows.")
    next_attempt_at: dt.datetime | None = strawberry.field(
        description="When the next attempt is due; null when none is."
    )
    created_at: dt.datetime = strawberry.field(description="When it was recorded.")
    finished_at: dt.datetime | None = strawberry.field(description="When it ended; null while it has not.")
    is_test: bool = strawberry.field(description="Whether a test-fire made it.")

    @classmethod
    def of(cls, row: rows.Event) -> Self:
        """The GraphQL object of a row."""
        return cls(
            row=row,
            id=ID(encode(Prefix.EVENT, row.id)),
            model=webhook_model(row.model),
            action=row.action,
            object_id=row.object_id,
            status=row.status,
            attempt_count=row.attempt_count,
            max_attempts=row.max_attempts,
            next_attempt_at=row.next_attempt_at,
            created_at=row.created_at,
            finished_at=row.finished_at,
            is_test=row.is_test,
        )

    @edge(lambda loaders: loaders.webhook, key=_webhook_id, description="The webhook that fired.")
    def webhook(self, row: WebhookRow | None) -> Webhook | None:
        """The event's webhook."""
        return Webhook.of(row) if row else None

    @edge(
        lambda loaders: loaders.change,
        key=_change_id,
        description="The change that fired it, shared with other webhooks' events; null for a test.",
    )
    def change(self, row: rows.Change | None) -> Change | None:
        """The event's change."""
        return Change.of(row) if row else None

    @edge(
        lambda loaders: loaders.change,
        key=_change_id,
        description="The object as of the commit of its change, children included.",
    )
    def item(self, change: rows.Change | None) -> JSON | None:
        """The change's snapshot; a test event keeps its own."""
        return JSON(change.item if change else self.row.test_item or {})

    @edge(lambda loaders: loaders.change, key=_change_id, description="What an update changed; empty otherwise.")
    def changed_fields(self, change: rows.Change | None) -> list[str]:
        """The change's."""
        return list(change.changed_fields) if change else []

    @edge(lambda loaders: loaders.attempts_of_event, key=_row_id, description="Its attempts, by number.")
    def attempts(self, found: list[rows.Attempt]) -> list["Attempt"]:
        """The event's attempts."""
        return [Attempt.of(row) for row in found]


@strawberry.type(description="A request as it was sent, with secrets masked.")
class AttemptRequest:
    """What an attempt sent."""

    method: str = strawberry.field(description="The HTTP method.")
    url: str = strawberry.field(description="The URL, rendered.")
    headers: list[Header] = strawberry.field(description="All headers, in order; values that are secrets are masked.")
    body: str | None = strawberry.field(description="The body; null when none was sent.")


@strawberry.type(description="What an endpoint answered.")
class AttemptResponse:
    """What an attempt got back."""

    headers: list[Header] = strawberry.field(description="The headers, in order.")
    body: str = strawberry.field(description="The body, up to 64 KiB; bytes that are no UTF-8 are replaced.")
    body_truncated: bool = strawberry.field(description="Whether there was more of the body.")


@strawberry.type(description="One try to deliver an event.")
class Attempt(Node):
    """A stored attempt."""

    row: strawberry.Private[rows.Attempt]
    id: ID = strawberry.field(description=like("att"))
    number: int = strawberry.field(description="From 1; the numbers of an event have no gap.")
    started_at: dt.datetime = strawberry.field(description="When it began.")
    duration_ms: int | None = strawberry.field(description="How long it took, in milliseconds; null when ABANDONED.")
    outcome: OutcomeName = strawberry.field(description="How it ended.")
    error: str | None = strawberry.field(description="Why it failed, in a sentence; null when delivered.")
    status_code: int | None = strawberry.field(description="The answer's status; null when there was none.")
    request: AttemptRequest | None = strawberry.field(description="What was sent; null when nothing was.")
    response: AttemptResponse | None = strawberry.field(description="What was answered; null when nothing was.")

    @classmethod
    def of(cls, row: rows.Attempt) -> Self:
        """The GraphQL object of a row."""
        return cls(
            row=row,
            id=ID(encode(Prefix.ATTEMPT, row.id)),
            number=row.number,
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            outcome=row.outcome,
            error=row.error,
            status_code=row.status_code,
            request=_request(row.request),
            response=_response(row.response),
        )

    @edge(lambda loaders: loaders.event, key=_event_id, description="The event that it tried to deliver.")
    def event(self, row: rows.Event | None) -> Event | None:
        """The attempt's event."""
        return Event.of(row) if row else None

    @edge(
        lambda loaders: loaders.request_of_attempt,
        key=attrgetter("row.event_id", "row.number"),
        description="The request that an inbox of this server received for it; null when it went elsewhere, and when "
        "the inbox was cleared or deleted since.",
    )
    def inbox_request(self, row: InboxRequestRow | None) -> "InboxRequest | None":
        """What was received."""
        return InboxRequest.of(row) if row else None


@strawberry.type(description="A request as an inbox received it.")
class InboxRequest(Node):
    """A stored request."""

    row: strawberry.Private[InboxRequestRow]
    id: ID = strawberry.field(description=like("req"))
    received_at: dt.datetime = strawberry.field(description="When it arrived.")
    method: str = strawberry.field(description="The HTTP method.")
    url: str = strawberry.field(description="Path and query as received.")
    headers: list[Header] = strawberry.field(description="The headers, in order; names in lower case.")
    body: str | None = strawberry.field(description="The body as text; null when it is not UTF-8.")
    body_base64: str = strawberry.field(description="The body's bytes, in base64.")
    remote_address: str | None = strawberry.field(description="Where it came from.")
    response_status_code: int = strawberry.field(description="The status that the inbox answered.")
    signature: SignatureCheck = strawberry.field(description="Whether the request verifies.")

    @classmethod
    def of(cls, row: InboxRequestRow) -> Self:
        """The GraphQL object of a row."""
        body = bytes(row.body)
        return cls(
            row=row,
            id=ID(encode(Prefix.REQUEST, row.id)),
            received_at=row.received_at,
            method=row.method,
            url=row.url,
            headers=headers_of(row.headers),
            body=_text(body),
            body_base64=base64.b64encode(body).decode(),
            remote_address=row.remote_address,
            response_status_code=row.response_status_code,
            signature=row.signature,
        )

    @edge(
        lambda loaders: loaders.event,
        key=_event_id,
        description="The event that its PS-WEBHOOK_EVENT-ID names, when it is one of this server's.",
    )
    def event(self, row: rows.Event | None) -> Event | None:
        """The request's event."""
        return Event.of(row) if row else None


def _request(kept: dict[str, Any] | None) -> AttemptRequest | None:
    if kept is None:
        return None
    return AttemptRequest(
        method=kept["method"], url=kept["url"], headers=headers_of(kept["headers"]), body=kept["body"]
    )


def _response(kept: dict[str, Any] | None) -> AttemptResponse | None:
    if kept is None:
        return None
    return AttemptResponse(
        headers=headers_of(kept["headers"]), body=kept["body"], body_truncated=kept["body_truncated"]
    )


def _text(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None
