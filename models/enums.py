"""The states of an event and the names of outcomes, apart from their tables, so that pure code can use them."""

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
