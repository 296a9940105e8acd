"""The delivery graph: webhook, change, event, attempt and the request that an inbox received, linked with one another.

Links are loaded fields (graphql_api.fields.loaded_field), so that a page costs a constant number of statements,
except for `Webhook.events` and `Webhook.warnings`, which cost some for each webhook.
"""

import asyncio
import datetime as dt
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, TypeVar

import strawberry
from strawberry import ID
from strawberry.scalars import JSON

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.attribute_field import (
    RowObject,
    attribute,
    computed_field,
    id_attribute,
    json_attribute,
    row_paths,
)
from ringback.graphql_api.fields.descriptions import describe_id, object_type
from ringback.graphql_api.fields.enums import (
    Action,
    EventStatus,
    HttpMethod,
    OutcomeName,
    SignatureCheck,
    SuccessPolicy,
)
from ringback.graphql_api.fields.loaded_field import loaded_field, node_field, node_list_field
from ringback.graphql_api.fields.relay import After, Connection, First, Node, read_merged_page
from ringback.graphql_api.schema import webhook_descriptions as about
from ringback.graphql_api.schema.event_filters import EventFilter
from ringback.graphql_api.schema.webhook_models import WebhookModel
from ringback.models import event as rows
from ringback.models import inbox, webhook
from ringback.models.ids import Prefix, encode

Body = TypeVar("Body", bytes, str)

WEBHOOK = row_paths(webhook.Webhook)
CHANGE = row_paths(rows.Change)
EVENT = row_paths(rows.Event)
ATTEMPT = row_paths(rows.Attempt)
INBOX_REQUEST = row_paths(inbox.InboxRequest)


# Nodes of types that are defined further down, for the fields that link to them.
def _attempt(row: rows.Attempt) -> "Attempt":
    return Attempt.of(row)


def _event(row: rows.Event) -> "Event":
    return Event.of(row)


def _inbox_request(row: inbox.InboxRequest) -> "InboxRequest":
    return InboxRequest.of(row)


def _model(source: RowObject) -> WebhookModel:
    return WebhookModel.from_name(source.row.model)


@object_type
class Header:
    """A header of a request or response."""

    # Resolved from a stored pair of name and value.
    name: str = computed_field(itemgetter(0), "Header name.")
    value: str = computed_field(itemgetter(1), "Header value.")


@object_type
class Webhook(Node):
    """A webhook, which sends the changes of one model to a URL."""

    id: ID = id_attribute(Prefix.WEBHOOK, describe_id("Webhook id", Prefix.WEBHOOK))
    name: str | None = attribute(WEBHOOK.name, f"{about.NAME} Null if the webhook has none.")
    model: WebhookModel | None = computed_field(_model, "Model whose objects the webhook watches.")
    actions: list[Action] = json_attribute(WEBHOOK.actions, about.ACTIONS)
    is_active: bool = attribute(WEBHOOK.is_active, about.IS_ACTIVE)
    method: HttpMethod = attribute(WEBHOOK.method, about.METHOD)
    url: str = attribute(WEBHOOK.url, about.URL)
    send_json: bool = attribute(WEBHOOK.send_json, about.SEND_JSON)
    body_template: str = attribute(WEBHOOK.body_template, about.BODY_TEMPLATE)
    content_type: str | None = attribute(WEBHOOK.content_type, about.CONTENT_TYPE)
    headers: list[Header] = json_attribute(WEBHOOK.headers, about.HEADERS)
    condition: str | None = attribute(WEBHOOK.condition, about.CONDITION)
    retry_delays_seconds: list[int] = attribute(WEBHOOK.retry_delays, about.RETRY_DELAYS_SECONDS)
    timeout_seconds: float = attribute(WEBHOOK.timeout_seconds, about.TIMEOUT_SECONDS)
    success_policy: SuccessPolicy = attribute(WEBHOOK.success_policy, about.SUCCESS_POLICY)
    max_concurrency: int | None = attribute(WEBHOOK.max_concurrency, about.MAX_CONCURRENCY)
    rate_limit_per_second: float | None = attribute(WEBHOOK.rate_limit_per_second, about.RATE_LIMIT_PER_SECOND)
    created_at: dt.datetime = attribute(WEBHOOK.created_at, "Time when the webhook was created.")
    updated_at: dt.datetime = attribute(
        WEBHOOK.updated_at,
        "Time when the webhook was last changed. Send it as `expectedUpdatedAt` to detect conflicts.",
    )
    deleted_at: dt.datetime | None = attribute(
        WEBHOOK.deleted_at, "Time when the webhook was deleted. Null if it was not."
    )
    last_attempt: "Attempt | None" = node_field(
        dataloaders.last_attempt_of_webhook,
        WEBHOOK.id,
        "Newest attempt to deliver an event of the webhook. Null if there is none.",
        _attempt,
    )

    @strawberry.field(
        description="Problems that do not stop the webhook, such as an empty body, or a template with a field that the "
        "model no longer has. Empty if there is none."
    )
    async def warnings(self, info: Info) -> list[str]:
        """Return the warnings, each a sentence. Aliases of the field share one check."""
        check: asyncio.Future[list[str]] | None = vars(self).get("_warnings")
        if check is None:
            check = asyncio.ensure_future(info.context.services.webhooks.find_warnings(self.row))
            vars(self)["_warnings"] = check
        return await check

    @strawberry.field(description="Events of the webhook, newest first. Filter them with the root field `events`.")
    async def events(self, first: First = 20, after: After = None) -> "Connection[Event] | None":
        """Return a page of the webhook's events."""
        of_webhook = EventFilter(webhook_ids=[ID(encode(Prefix.WEBHOOK, self.row.id))])
        return await read_merged_page([scan.newest for scan in of_webhook.plan_scans()], first, after, Event.of)


@object_type
class Change(Node):
    """A committed create, update or delete of one object, with a snapshot."""

    id: ID = id_attribute(Prefix.CHANGE, describe_id("Change id", Prefix.CHANGE))
    model: WebhookModel | None = computed_field(_model, "Model of the object.")
    action: Action = attribute(CHANGE.action, "Kind of change.")
    object_id: str = attribute(CHANGE.object_id, "Id of the object.")
    item: JSON = json_attribute(CHANGE.item, "The object at commit, children included.")
    updated_fields: list[str] = attribute(
        CHANGE.changed_fields, "Names of the fields that an update changed. Empty for other actions."
    )
    created_at: dt.datetime = attribute(CHANGE.created_at, "Time when the change was recorded.")
    events: list["Event"] = node_list_field(
        dataloaders.events_of_change,
        CHANGE.id,
        "Events of the change, one for each matching webhook, oldest first.",
        _event,
    )


def _item(event: RowObject, change: rows.Change | None) -> JSON:
    """Return the snapshot of the event's change; a test event has an item of its own."""
    if change is None:
        return JSON(event.row.test_item or {})
    return JSON(change.item)


def _changed_fields(_: RowObject, change: rows.Change | None) -> list[str]:
    if change is None:
        return []
    return change.changed_fields


@object_type
class Event(Node):
    """A change to deliver to a webhook."""

    id: ID = id_attribute(
        Prefix.EVENT,
        describe_id("Event id, sent with each attempt as `PS-WEBHOOK_EVENT-ID` and `webhook-id`", Prefix.EVENT),
    )
    model: WebhookModel | None = computed_field(_model, "Model of the object.")
    action: Action = attribute(EVENT.action, "Kind of change.")
    object_id: str | None = attribute(
        EVENT.object_id, "Id of the object (`item.id`). Null if the item of a test event has none."
    )
    status: EventStatus = attribute(EVENT.status, "Delivery status.")
    attempt_count: int = attribute(EVENT.attempt_count, "Number of recorded attempts.")
    max_attempts: int = attribute(EVENT.max_attempts, "Number of the last attempt that the schedule allows.")
    next_attempt_at: dt.datetime | None = attribute(
        EVENT.next_attempt_at, "Time when the next attempt is due. Null if none will follow."
    )
    created_at: dt.datetime = attribute(EVENT.created_at, "Time when the event was recorded.")
    finished_at: dt.datetime | None = attribute(
        EVENT.finished_at, "Time when the event ended. Null if it has not ended."
    )
    is_test: bool = attribute(EVENT.is_test, "Whether the event was created by test-fire.")
    webhook: Webhook | None = node_field(
        dataloaders.webhook, EVENT.webhook_id, "Webhook that the event belongs to.", Webhook.of
    )
    change: Change | None = node_field(
        dataloaders.change,
        EVENT.change_id,
        "Change that the event delivers, shared with the events of other webhooks. Null for a test event.",
        Change.of,
    )
    item: JSON | None = loaded_field(
        dataloaders.change, EVENT.change_id, "The object at the commit of the change, children included.", _item
    )
    changed_fields: list[str] = loaded_field(
        dataloaders.change,
        EVENT.change_id,
        "Names of the fields that an update changed. Empty for other actions.",
        _changed_fields,
    )
    attempts: list["Attempt"] = node_list_field(
        dataloaders.attempts_of_event, EVENT.id, "Attempts in the order of their numbers.", _attempt
    )


def _note(request: Mapping[str, Any]) -> str | None:
    """Return the note of a request; only some have one."""
    note: str | None = request.get("note")
    return note


def _headers_truncated(response: Mapping[str, Any]) -> bool:
    """Return False for responses that were stored before headers were cut."""
    return bool(response.get("headers_truncated", False))


@object_type
class AttemptRequest:
    """A request as it was sent, with secrets redacted."""

    # Resolved from the JSON object that rows.Attempt.request holds.
    method: str = computed_field(itemgetter("method"), "HTTP method.")
    url: str = computed_field(itemgetter("url"), "Rendered URL. Its secrets are redacted.")
    headers: list[Header] = computed_field(itemgetter("headers"), "All headers in order. Secret values are redacted.")
    body: str | None = computed_field(itemgetter("body"), "Body. Null if none was sent.")
    note: str | None = computed_field(
        _note,
        "Difference between the sent body and the rendered text. Null if there is none. Example: `The body has "
        "characters that windows-1251 lacks; they were sent as question marks.`",
    )


@object_type
class AttemptResponse:
    """The response of an endpoint. Its status is `Attempt.statusCode`."""

    # Resolved from the JSON object that rows.Attempt.response holds.
    headers: list[Header] = computed_field(itemgetter("headers"), "Headers in order. Secret values are redacted.")
    body: str = computed_field(itemgetter("body"), "Body, at most 64 KiB. Bytes that are not UTF-8 are replaced.")
    body_truncated: bool = computed_field(
        itemgetter("body_truncated"), "Whether the body was longer than the stored part."
    )
    headers_truncated: bool = computed_field(
        _headers_truncated, "Whether there were more or longer headers. At most 128, and 32 KiB of them, are stored."
    )


@object_type
class Attempt(Node):
    """A try to deliver an event, with its request, response and outcome."""

    id: ID = id_attribute(Prefix.ATTEMPT, describe_id("Attempt id", Prefix.ATTEMPT))
    number: int = attribute(ATTEMPT.number, "Attempt number within the event, starting at 1.")
    started_at: dt.datetime = attribute(ATTEMPT.started_at, "Time when the attempt started.")
    duration_ms: int | None = attribute(ATTEMPT.duration_ms, "Duration in milliseconds. Null if ABANDONED.")
    outcome: OutcomeName = attribute(ATTEMPT.outcome, "Outcome of the attempt.")
    error: str | None = attribute(ATTEMPT.error, "Reason of the failure, in a sentence. Null if delivered.")
    status_code: int | None = attribute(ATTEMPT.status_code, "Status of the response. Null if there was no response.")
    request: AttemptRequest | None = json_attribute(ATTEMPT.request, "Request as sent. Null if nothing was sent.")
    response: AttemptResponse | None = json_attribute(
        ATTEMPT.response, "Response of the endpoint. Null if there was none."
    )
    event: Event | None = node_field(
        dataloaders.event, ATTEMPT.event_id, "Event that the attempt tried to deliver.", Event.of
    )
    inbox_request: "InboxRequest | None" = node_field(
        dataloaders.request_of_attempt,
        (ATTEMPT.event_id, ATTEMPT.number),
        "Request that an inbox of this server received from the attempt. Null if the target was no inbox, or if the "
        "inbox was cleared or deleted.",
        _inbox_request,
    )


def _body_text(_: RowObject, body: bytes | None) -> str | None:
    try:
        return _require_body(body).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _body_base64(_: RowObject, body: str | None) -> str:
    return _require_body(body)


def _require_body(body: Body | None) -> Body:
    if body is None:
        raise bad_user_input("The request was deleted while it was read. Query the inbox again.")
    return body


@object_type
class InboxRequest(Node):
    """A request as an inbox received it."""

    id: ID = id_attribute(Prefix.REQUEST, describe_id("Request id", Prefix.REQUEST))
    received_at: dt.datetime = attribute(INBOX_REQUEST.received_at, "Time when the request was received.")
    method: str = attribute(INBOX_REQUEST.method, "HTTP method.")
    url: str = attribute(INBOX_REQUEST.url, "Path and query as received.")
    headers: list[Header] = json_attribute(INBOX_REQUEST.headers, "Headers in order, names in lower case.")
    # Loaded, so that bodies are read only if they are selected.
    body: str | None = loaded_field(
        dataloaders.body_of_request, INBOX_REQUEST, "Body as text. Null if it is not UTF-8.", _body_text
    )
    body_base64: str = loaded_field(dataloaders.base64_body_of_request, INBOX_REQUEST, "Body in base64.", _body_base64)
    remote_address: str | None = attribute(INBOX_REQUEST.remote_address, "IP address of the sender. Null if unknown.")
    response_status_code: int = attribute(INBOX_REQUEST.response_status_code, "Status of the inbox's response.")
    signature: SignatureCheck = attribute(INBOX_REQUEST.signature, "Result of verifying the signature.")
    event: Event | None = node_field(
        dataloaders.event,
        INBOX_REQUEST.event_id,
        "Event that the header `PS-WEBHOOK_EVENT-ID` names. Null if it is not an event of this server.",
        Event.of,
    )
