"""How an attempt ended, as types: what follows it (retry, log line, figures) matches on these, never on strings.

    Outcome = Delivered      the answer counts as success
            | Rejected       a whole answer that does not
            | TimedOut       no whole answer within the webhook's timeout, which covers DNS, connecting and the body
            | Unreachable    no connection: the name does not resolve, or nobody accepts; the endpoint saw no request
            | TlsFailed      TLS could not be agreed on, or the certificate is not trusted
            | Blocked        the address guard refused the target; no connection was tried
            | BadResponse    a connection, but what came back is no whole HTTP answer; the endpoint may have acted
            | RenderFailed   there is no request to send: a template or what it rendered is at fault
            | Abandoned      the worker died, or was declared dead, between sending and recording

Each has `name` (the contract's word), `error` (one sentence for people, None when delivered) and `answer` (as much as
arrived, None when nothing did).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias


class HttpResponse(NamedTuple):
    """What an endpoint answered.

    `headers` are as received, in order; `body` is decoded from gzip or deflate, and `body_truncated` says that there
    was, or should have been, more of it.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    body_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint answered with a status that the success policy accepts."""

    name: ClassVar[str] = "DELIVERED"
    answer: HttpResponse
    error: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The endpoint answered, but with a status that is not success."""

    name: ClassVar[str] = "REJECTED"
    answer: HttpResponse
    error: str


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """An attempt without any answer."""

    error: str
    answer: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class _CutShort:
    """An attempt without a whole answer."""

    error: str
    answer: HttpResponse | None = None


@dataclass(frozen=True, slots=True)
class TimedOut(_CutShort):
    """No whole answer came in time; `answer` holds what did come, if that was a status and headers at least."""

    name: ClassVar[str] = "TIMED_OUT"


@dataclass(frozen=True, slots=True)
class Unreachable(_Unanswered):
    """No connection could be made, so the endpoint cannot have seen the request."""

    name: ClassVar[str] = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class TlsFailed(_Unanswered):
    """TLS failed: an untrusted, expired or foreign certificate, or no common protocol."""

    name: ClassVar[str] = "TLS_FAILED"


@dataclass(frozen=True, slots=True)
class Blocked(_Unanswered):
    """The address guard refused the target, so nothing was sent."""

    name: ClassVar[str] = "BLOCKED"


@dataclass(frozen=True, slots=True)
class BadResponse(_CutShort):
    """The connection ended, or carried something else, before there was a whole HTTP answer."""

    name: ClassVar[str] = "BAD_RESPONSE"


@dataclass(frozen=True, slots=True)
class RenderFailed(_Unanswered):
    """The request could not be made from the webhook's templates and the snapshot, so nothing was sent."""

    name: ClassVar[str] = "RENDER_FAILED"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The claim ended without a result; whether the endpoint saw the request is not known."""

    name: ClassVar[str] = "ABANDONED"
    error: str = "The worker stopped before it recorded how this attempt ended; the endpoint may have received it."
    answer: ClassVar[None] = None


Outcome: TypeAlias = (
    Delivered | Rejected | TimedOut | Unreachable | TlsFailed | Blocked | BadResponse | RenderFailed | Abandoned
)


def judge(answer: HttpResponse, accepts: Callable[[int], bool]) -> Delivered | Rejected:
    """Judge a whole answer by a success policy; `accepts` says whether a status is success."""
    if accepts(answer.status):
        return Delivered(answer)
    counts = "only a 2xx status counts" if accepts(200) and accepts(299) else "only 200 counts"
    redirects = ", and redirects are not followed" if 300 <= answer.status <= 399 else ""
    return Rejected(answer, f"The endpoint answered {answer.status}; {counts} as success{redirects}.")
