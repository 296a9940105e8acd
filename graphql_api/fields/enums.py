"""The domain's enumerations, named and described for the schema, value by value."""

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
    """Make an enumeration of the domain one of the schema; `values` describes each of its values by name."""
    strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = enum.__dict__["__strawberry_definition__"]
    for value in definition.values:
        value.description = values.pop(value.name)
    assert not values, f"{enum.__name__} has no {', '.join(values)}"


_describe(
    Action,
    "What happened to an object.",
    CREATED="It is new.",
    UPDATED="A stored value of it, or of a part of it, changed.",
    DELETED="It is gone.",
)
_describe(
    HttpMethod,
    "The HTTP methods that a webhook may use.",
    GET="Sends no body, unless the template is not empty or sendJson is on.",
    POST="Sends the body.",
    PUT="Sends the body.",
    PATCH="Sends the body.",
    DELETE="Sends no body, unless the template is not empty or sendJson is on.",
)
_describe(
    SuccessPolicy,
    "Which answers count as success. Redirects are never followed.",
    STATUS_200="Status 200 and nothing else.",
    ANY_2XX="Any status from 200 to 299.",
)
_describe(
    EventStatus,
    "Where an event stands.",
    PENDING="No attempt has been made yet.",
    RETRYING="An attempt failed, and another one will follow.",
    SUCCEEDED="It was delivered.",
    FAILED="The last attempt of its schedule failed.",
    CANCELLED="It was cancelled, by request or with its webhook.",
)
_describe(
    OutcomeName,
    "How an attempt ended.",
    name="Outcome",
    DELIVERED="The answer counts as success.",
    REJECTED="The answer had another status.",
    TIMED_OUT="There was no whole answer in time.",
    UNREACHABLE="There was no connection.",
    TLS_FAILED="TLS could not be agreed on.",
    BLOCKED="The address guard refused the target; nothing was sent.",
    BAD_RESPONSE="What came back was no HTTP answer.",
    RENDER_FAILED="A template could not be rendered; nothing was sent.",
    ABANDONED="The worker died between sending and recording; the endpoint may have got it.",
)
_describe(
    LogKind,
    "What a log entry tells; values may be added.",
    EVENT_RECORDED="An event was recorded; its first attempt will follow.",
    ATTEMPT_FINISHED="An attempt ended, well or badly.",
    RETRY_SCHEDULED="Another attempt will follow.",
    EVENT_SUCCEEDED="The event was delivered.",
    EVENT_FAILED="The event's last attempt failed.",
    EVENT_CANCELLED="The event was cancelled.",
)
_describe(
    SignatureCheck,
    "Whether a received request verifies, by the inbox's secret, else by that of its event's webhook.",
    VALID="It was signed with the secret.",
    INVALID="It carries a signature, but none by the secret.",
    ABSENT="It carries no signature.",
    NOT_CHECKED="It carries a signature, but there is no secret to check it with.",
)
_describe(
    LeadStatus,
    "How far a lead has come.",
    NEW="Nobody has called yet.",
    IN_PROGRESS="Somebody takes care of it.",
    DONE="It is settled.",
)
_describe(
    OrderStatus,
    "How far an order has come.",
    NEW="Nobody has begun with it.",
    IN_PROGRESS="Somebody takes care of it.",
    DONE="It was delivered.",
    CANCELLED="It will not be delivered.",
)
_describe(
    ProblemCode,
    "What kind of mistake an InputError is; values may be added.",
    name="InputErrorCode",
    INVALID="The value is not allowed.",
    NOT_FOUND="It names something that does not exist.",
    CONFLICT="The state of the object does not allow it now.",
    TOO_LARGE="It is over a limit of size or number.",
)
_describe(Role, "What a token may do.", ADMIN="Everything.")

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
