"""Enums of the schema: those of the domain, with a description for each value."""

from enum import Enum

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from ringback.models.enums import (
    Action,
    EventStatus,
    HttpMethod,
    LeadStatus,
    LogKind,
    OrderStatus,
    OutcomeName,
    Role,
    SignatureCheck,
    SuccessPolicy,
)
from ringback.models.errors import ProblemCode


def _describe(enum: type[Enum], description: str, *, name: str | None = None, **values: str) -> None:
    """Add an enum of the domain to the schema. `values` has a description for each of its values, by name."""
    strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = enum.__dict__["__strawberry_definition__"]
    for value in definition.values:
        value.description = values.pop(value.name)
    assert not values, f"{enum.__name__} has no {', '.join(values)}"


_describe(
    Action,
    "Kind of change to an object.",
    CREATED="The object was created.",
    UPDATED="A stored value of the object, or of one of its children, changed.",
    DELETED="The object was deleted.",
)
_describe(
    HttpMethod,
    "HTTP method of a webhook's requests.",
    GET="Sends no body unless `bodyTemplate` is not empty or `sendJson` is true.",
    POST="Sends a body.",
    PUT="Sends a body.",
    PATCH="Sends a body.",
    DELETE="Sends no body unless `bodyTemplate` is not empty or `sendJson` is true.",
)
_describe(
    SuccessPolicy,
    "Response statuses that count as success. Redirects are never followed.",
    STATUS_200="Only status 200.",
    ANY_2XX="Any status from 200 to 299.",
)
_describe(
    EventStatus,
    "Delivery status of an event.",
    PENDING="The first attempt is still to come.",
    RETRYING="Another attempt will follow.",
    SUCCEEDED="The event was delivered.",
    FAILED="The last attempt of the schedule failed, or five attempts in a row were ABANDONED.",
    CANCELLED="The event was cancelled by request, or because its webhook was deactivated or deleted.",
)
_describe(
    OutcomeName,
    "Outcome of an attempt.",
    name="Outcome",
    DELIVERED="The response status counts as success.",
    REJECTED="The response status does not count as success.",
    TIMED_OUT="No complete response arrived within the timeout.",
    UNREACHABLE="The endpoint could not be reached.",
    TLS_FAILED="The TLS handshake failed.",
    BLOCKED="The address policy blocked the target. Nothing was sent.",
    BAD_RESPONSE="The response was not valid HTTP.",
    RENDER_FAILED="A template could not be rendered. Nothing was sent.",
    ABANDONED="The worker stopped before it recorded the result. The endpoint may have received the request.",
)
_describe(
    LogKind,
    "Kind of a log entry. Values may be added.",
    EVENT_RECORDED="The event was recorded. Its first attempt will follow.",
    ATTEMPT_FINISHED="An attempt ended, with any outcome.",
    RETRY_SCHEDULED="Another attempt was scheduled.",
    EVENT_SUCCEEDED="The event was delivered.",
    EVENT_FAILED="The event failed. No attempt will follow.",
    EVENT_CANCELLED="The event was cancelled.",
)
_describe(
    SignatureCheck,
    "Result of verifying a received request, with the secret of the inbox or else of the event's webhook.",
    VALID="The request is signed with the secret.",
    INVALID="The request is signed, but not with the secret.",
    ABSENT="The request is not signed.",
    NOT_CHECKED="The request is signed, but there is no secret to verify it with.",
)
_describe(
    LeadStatus,
    "Progress of a lead.",
    NEW="Work on the lead has not started.",
    IN_PROGRESS="The lead is being worked on.",
    DONE="The lead is closed.",
)
_describe(
    OrderStatus,
    "Progress of an order.",
    NEW="Work on the order has not started.",
    IN_PROGRESS="The order is being worked on.",
    DONE="The order was delivered.",
    CANCELLED="The order was cancelled and will not be delivered.",
)
_describe(
    ProblemCode,
    "Kind of an InputError. Values may be added.",
    name="InputErrorCode",
    INVALID="The value is not allowed.",
    NOT_FOUND="The value refers to something that does not exist.",
    CONFLICT="The current state of the object does not allow the change.",
    TOO_LARGE="The value exceeds a limit of size or number.",
)
_describe(Role, "Permissions of a token.", ADMIN="All permissions.")

__all__ = [
    "Action",
    "EventStatus",
    "HttpMethod",
    "LeadStatus",
    "LogKind",
    "OrderStatus",
    "OutcomeName",
    "ProblemCode",
    "Role",
    "SignatureCheck",
    "SuccessPolicy",
]
