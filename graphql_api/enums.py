"""The domain's enumerations, named and described for the schema."""

import strawberry
from ringback.models.access import Role
from ringback.models.inbox import SignatureCheck
from ringback.models.lead import LeadStatus
from ringback.models.log import LogKind
from ringback.models.order import OrderStatus
from ringback.models.states import EventStatus, OutcomeName
from ringback.models.webhook import Action, HttpMethod, SuccessPolicy

strawberry.enum(Action, description="What happened to an object.")
strawberry.enum(HttpMethod, description="The HTTP methods that a webhook may use.")
strawberry.enum(
    SuccessPolicy,
    description="Which answers count as success: status 200 alone, or any from 200 to 299. Redirects are never followed.",
)
strawberry.enum(
    EventStatus,
    description="Where an event stands. PENDING: no attempt yet. RETRYING: another attempt will follow. "
    "SUCCEEDED, FAILED, CANCELLED: it has ended.",
)
strawberry.enum(
    OutcomeName,
    name="Outcome",
    description="How an attempt ended. DELIVERED: the answer counts as success. REJECTED: another status. TIMED_OUT: no "
    "whole answer in time. UNREACHABLE: no connection. TLS_FAILED: TLS could not be agreed on. BLOCKED: the address guard "
    "refused the target. BAD_RESPONSE: no HTTP answer. RENDER_FAILED: a template could not be rendered. ABANDONED: the "
    "worker died between sending and recording.",
)
strawberry.enum(LogKind, description="What a log entry tells; values may be added.")
strawberry.enum(
    SignatureCheck,
    description="Whether a received request verifies, by the inbox's secret, else by that of its event's webhook. "
    "NOT_CHECKED: there is no secret to check with.",
)
strawberry.enum(LeadStatus, description="How far a lead has come.")
strawberry.enum(OrderStatus, description="How far an order has come.")
strawberry.enum(Role, description="What a token may do. ADMIN: everything.")

__all__ = [
    "Action",
    "EventStatus",
    "HttpMethod",
    "LeadStatus",
    "LogKind",
    "OrderStatus",
    "OutcomeName",
    "Role",
    "SignatureCheck",
    "SuccessPolicy",
]
