"""Enumerations that tables store, apart from their tables, so that pure code can use them."""

from enum import StrEnum


class EventStatus(StrEnum):
    """Where an event stands: no attempt yet, another one to come, or ended in one of three ways."""

    PENDING = "PENDING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether no attempt will follow unless somebody asks for it."""
        return self in _ENDED


_ENDED = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


class OutcomeName(StrEnum):
    """How an attempt ended."""

    DELIVERED = "DELIVERED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    UNREACHABLE = "UNREACHABLE"
    TLS_FAILED = "TLS_FAILED"
    BLOCKED = "BLOCKED"
    BAD_RESPONSE = "BAD_RESPONSE"
    RENDER_FAILED = "RENDER_FAILED"
    ABANDONED = "ABANDONED"


class LogKind(StrEnum):
    """What happened to an event."""

    EVENT_RECORDED = "EVENT_RECORDED"
    ATTEMPT_FINISHED = "ATTEMPT_FINISHED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    EVENT_SUCCEEDED = "EVENT_SUCCEEDED"
    EVENT_FAILED = "EVENT_FAILED"
    EVENT_CANCELLED = "EVENT_CANCELLED"


class LeadStatus(StrEnum):
    """How far a lead has come."""

    NEW = "NEW"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"


class OrderStatus(StrEnum):
    """How far an order has come."""

    NEW = "NEW"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


class Role(StrEnum):
    """What a token may do."""

    ADMIN = "ADMIN"


class Action(StrEnum):
    """What happened to an object."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


class HttpMethod(StrEnum):
    """The methods that a webhook may use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class SuccessPolicy(StrEnum):
    """Which answers count as success (rule 4 of the design)."""

    STATUS_200 = "STATUS_200"
    ANY_2XX = "ANY_2XX"

    def accepts(self, status: int) -> bool:
        """Whether an answer with this status is a success."""
        return status == 200 if self is SuccessPolicy.STATUS_200 else 200 <= status <= 299


class SignatureCheck(StrEnum):
    """Whether a received request verifies (Standard Webhooks)."""

    VALID = "VALID"
    INVALID = "INVALID"
    ABSENT = "ABSENT"
    NOT_CHECKED = "NOT_CHECKED"
