"""The delivery graph: webhook, change, event, attempt and the request that an inbox received, linked with one another.

An object is its row; what it shows is read off it when it is selected (graphql_api.fields.attribute_field), and what
lies behind an edge comes through a loader (graphql_api.fields.loaded_field), so that a page costs a constant number of
statements.
"""

import base64
import datetime as dt
from operator import itemgetter
from typing import Any

import strawberry
from strawberry import ID
from strawberry.scalars import JSON

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute
from ringback.graphql_api.fields.descriptions import id_description
from ringback.graphql_api.fields.enums import (
    Action,
    EventStatus,
    HttpMethod,
    OutcomeName,
    SignatureCheck,
    SuccessPolicy,
)
from ringback.graphql_api.fields.loaded_field import loaded_field, node
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.schema.webhook_models import WebhookModel
from ringback.models import event as rows
from ringback.models.ids import Prefix

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
    "max_concurrency": "Attempts under way at the same time, in all workers together, from 1 to 1000, such as `10`; "
    "null for the server's setting.",
    "rate_limit_per_second": "Attempts per second at most, evenly paced, in all workers together, from 0.01 to 10000, "
    "such as `2.5`; null for no limit. Retries, test-fires and redeliveries count too.",
}


def _model(owner: Any) -> WebhookModel:
    return WebhookModel.named(owner.row.model)


def _text(request: Any) -> str | None:
    try:
        return bytes(request.row.body).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _item(event: Any, change: rows.Change | None) -> JSON:
    """The snapshot of an event's change; a test event keeps its own."""
    return JSON(change.item if change else event.row.test_item or {})


def _changed_fields(_: Any, change: rows.Change | None) -> list[str]:
    return list(change.changed_fields) if change else []


def _base64(request: Any) -> str:
    return base64.b64encode(bytes(request.row.body)).decode()


@strawberry.type(description="A header of a request or an answer.")
class Header:
    """A name and a value, as they are kept: a pair."""

    name: str = attribute(itemgetter(0), "The header's name.")
    value: str = attribute(itemgetter(1), "The header's value.")


@strawberry.type(description="A webhook: which changes of which model are told to whom, and how.")
class Webhook(Node):
    """A stored webhook."""

    id: ID = id_attribute(Prefix.WEBHOOK, id_description("whk"))
    name: str | None = attribute("row.name", ABOUT["name"])
    model: WebhookModel | None = attribute(_model, "The model whose objects it watches.")
    actions: list[Action] = attribute("row.actions", ABOUT["actions"])
    is_active: bool = attribute("row.is_active", ABOUT["is_active"])
    method: HttpMethod = attribute("row.method", ABOUT["method"])
    url: str = attribute("row.url", ABOUT["url"])
    send_json: bool = attribute("row.send_json", ABOUT["send_json"])
    body_template: str = attribute("row.body_template", ABOUT["body_template"])
    content_type: str | None = attribute("row.content_type", ABOUT["content_type"])
    headers: list[Header] = attribute("row.headers", ABOUT["headers"])
    condition: str | None = attribute("row.condition", ABOUT["condition"])
    retry_delays_seconds: list[int] = attribute("row.retry_delays", ABOUT["retry_delays_seconds"])
    timeout_seconds: float = attribute("row.timeout_seconds", ABOUT["timeout_seconds"])
    success_policy: SuccessPolicy = attribute("row.success_policy", ABOUT["success_policy"])
    max_concurrency: int | None = attribute("row.max_concurrency", ABOUT["max_concurrency"])
    rate_limit_per_second: float | None = attribute("row.rate_limit_per_second", ABOUT["rate_limit_per_second"])
    created_at: dt.datetime = attribute("row.created_at", "When it was created.")
    updated_at: dt.datetime = attribute("row.updated_at", "When it was last changed; give it as expectedUpdatedAt.")
    deleted_at: dt.datetime | None = attribute("row.deleted_at", "When it was deleted; null while it lives.")
    last_attempt: "Attempt | None" = loaded_field(
        dataloaders.last_attempt_of_webhook,
        "row.id",
        "The newest attempt to deliver one of its events; null while there is none.",
        node(lambda: Attempt),
    )


@strawberry.type(description="One committed create, update or delete of one object, with its snapshot.")
class Change(Node):
    """A stored change."""

    id: ID = id_attribute(Prefix.CHANGE, id_description("chg"))
    model: WebhookModel | None = attribute(_model, "The object's model.")
    action: Action = attribute("row.action", "What happened to the object.")
    object_id: str = attribute("row.object_id", "The object's id.")
    item: JSON = attribute("row.item", "The object as of the commit, children included.")
    updated_fields: list[str] = attribute("row.changed_fields", "What an update changed; empty otherwise.")
    created_at: dt.datetime = attribute("row.created_at", "When it was committed.")
    events: list["Event"] = loaded_field(
        dataloaders.events_of_change,
        "row.id",
        "The events of this change: one for each webhook that it fired, oldest first.",
        node(lambda: Event),
    )


@strawberry.type(description="One firing of one webhook for one change, until it is delivered or ends.")
class Event(Node):
    """A stored event."""

    id: ID = id_attribute(Prefix.EVENT, id_description("evt", "; PS-WEBHOOK_EVENT-ID and webhook-id in every attempt"))
    model: WebhookModel | None = attribute(_model, "The object's model.")
    action: Action = attribute("row.action", "What happened to the object.")
    object_id: str | None = attribute("row.object_id", "The object's id (item.id); null in a test whose item has none.")
    status: EventStatus = attribute("row.status", "Where it stands.")
    attempt_count: int = attribute("row.attempt_count", "How many attempts are on record.")
    max_attempts: int = attribute("row.max_attempts", "The number of the last attempt that the schedule allows.")
    next_attempt_at: dt.datetime | None = attribute(
        "row.next_attempt_at", "When the next attempt is due; null when none is."
    )
    created_at: dt.datetime = attribute("row.created_at", "When it was recorded.")
    finished_at: dt.datetime | None = attribute("row.finished_at", "When it ended; null while it has not.")
    is_test: bool = attribute("row.is_test", "Whether a test-fire made it.")
    webhook: Webhook | None = loaded_field(
        dataloaders.webhook, "row.webhook_id", "The webhook that fired.", node(lambda: Webhook)
    )
    change: Change | None = loaded_field(
        dataloaders.change,
        "row.change_id",
        "The change that fired it, shared with other webhooks' events; null for a test.",
        node(lambda: Change),
    )
    item: JSON | None = loaded_field(
        dataloaders.change, "row.change_id", "The object as of the commit of its change, children included.", _item
    )
    changed_fields: list[str] = loaded_field(
        dataloaders.change, "row.change_id", "What an update changed; empty otherwise.", _changed_fields
    )
    attempts: list["Attempt"] = loaded_field(
        dataloaders.attempts_of_event, "row.id", "Its attempts, by number.", node(lambda: Attempt)
    )


@strawberry.type(description="A request as it was sent, with secrets masked.")
class AttemptRequest:
    """What an attempt sent, as it is kept: a mapping."""

    method: str = attribute(itemgetter("method"), "The HTTP method.")
    url: str = attribute(itemgetter("url"), "The URL, rendered.")
    headers: list[Header] = attribute(
        itemgetter("headers"), "All headers, in order; values that are secrets are masked."
    )
    body: str | None = attribute(itemgetter("body"), "The body; null when none was sent.")


@strawberry.type(description="What an endpoint answered.")
class AttemptResponse:
    """What an attempt got back, as it is kept: a mapping."""

    headers: list[Header] = attribute(itemgetter("headers"), "The headers, in order.")
    body: str = attribute(itemgetter("body"), "The body, up to 64 KiB; bytes that are no UTF-8 are replaced.")
    body_truncated: bool = attribute(itemgetter("body_truncated"), "Whether there was more of the body.")


@strawberry.type(description="One try to deliver an event.")
class Attempt(Node):
    """A stored attempt."""

    id: ID = id_attribute(Prefix.ATTEMPT, id_description("att"))
    number: int = attribute("row.number", "From 1; the numbers of an event have no gap.")
    started_at: dt.datetime = attribute("row.started_at", "When it began.")
    duration_ms: int | None = attribute("row.duration_ms", "How long it took, in milliseconds; null when ABANDONED.")
    outcome: OutcomeName = attribute("row.outcome", "How it ended.")
    error: str | None = attribute("row.error", "Why it failed, in a sentence; null when delivered.")
    status_code: int | None = attribute("row.status_code", "The answer's status; null when there was none.")
    request: AttemptRequest | None = attribute("row.request", "What was sent; null when nothing was.")
    response: AttemptResponse | None = attribute("row.response", "What was answered; null when nothing was.")
    event: Event | None = loaded_field(
        dataloaders.event, "row.event_id", "The event that it tried to deliver.", node(lambda: Event)
    )
    inbox_request: "InboxRequest | None" = loaded_field(
        dataloaders.request_of_attempt,
        "row.event_id row.number",
        "The request that an inbox of this server received for it; null when it went elsewhere, and when the inbox was "
        "cleared or deleted since.",
        node(lambda: InboxRequest),
    )


@strawberry.type(description="A request as an inbox received it.")
class InboxRequest(Node):
    """A stored request."""

    id: ID = id_attribute(Prefix.REQUEST, id_description("req"))
    received_at: dt.datetime = attribute("row.received_at", "When it arrived.")
    method: str = attribute("row.method", "The HTTP method.")
    url: str = attribute("row.url", "Path and query as received.")
    headers: list[Header] = attribute("row.headers", "The headers, in order; names in lower case.")
    body: str | None = attribute(_text, "The body as text; null when it is not UTF-8.")
    body_base64: str = attribute(_base64, "The body's bytes, in base64.")
    remote_address: str | None = attribute("row.remote_address", "Where it came from.")
    response_status_code: int = attribute("row.response_status_code", "The status that the inbox answered.")
    signature: SignatureCheck = attribute("row.signature", "Whether the request verifies.")
    event: Event | None = loaded_field(
        dataloaders.event,
        "row.event_id",
        "The event that its PS-WEBHOOK_EVENT-ID names, when it is one of this server's.",
        node(lambda: Event),
    )
