"""Enumerations that tables store. They are apart from the tables, so that pure code can import them."""

from enum import StrEnum


class EventStatus(StrEnum):
    """State of an event: before its first attempt, before a further attempt, or ended in one of three ways."""

    PENDING = "PENDING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether no attempt follows unless the event is redelivered."""
        return self in _ENDED


_ENDED = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


class OutcomeName(StrEnum):
    """Outcome of an attempt."""

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
    """Kind of an entry in the delivery log."""

    EVENT_RECORDED = "EVENT_RECORDED"
    ATTEMPT_FINISHED = "ATTEMPT_FINISHED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    EVENT_SUCCEEDED = "EVENT_SUCCEEDED"
    EVENT_FAILED = "EVENT_FAILED"
    EVENT_CANCELLED = "EVENT_CANCELLED"


class LeadStatus(StrEnum):
    """State of a lead."""

    NEW = "NEW"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"


class OrderStatus(StrEnum):
    """State of a customer order."""

    NEW = "NEW"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


class Role(StrEnum):
    """Permissions of an API token."""

    ADMIN = "ADMIN"


class Action(StrEnum):
    """Kind of a change of an object."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


class HttpMethod(StrEnum):
    """HTTP method of a webhook."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class SuccessPolicy(StrEnum):
    """Response statuses that count as success: 200 alone, or any from 200 to 299."""

    STATUS_200 = "STATUS_200"
    ANY_2XX = "ANY_2XX"

    def accepts(self, status: int) -> bool:
        """Return whether a response with this status is a success."""
        if self is SuccessPolicy.STATUS_200:
            return status == 200
        return 200 <= status <= 299


class SignatureCheck(StrEnum):
    """Result of verifying the Standard Webhooks signature of a received request."""

    VALID = "VALID"
    INVALID = "INVALID"
    ABSENT = "ABSENT"
    NOT_CHECKED = "NOT_CHECKED"
