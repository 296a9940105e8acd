"""Outcomes of attempts, as types: the retry policy, log lines and figures match on these, never on strings.

    Outcome = Delivered      a whole response that counts as success
            | Rejected       a whole response that does not
            | TimedOut       no whole response within the webhook's timeout, which covers DNS, connecting and the body
            | Unreachable    no connection: the name does not resolve, or nothing accepts; the endpoint saw no request
            | TlsFailed      no TLS: no common protocol, or a certificate that is not trusted
            | Blocked        a target that the address guard refused; no connection was tried
            | BadResponse    a connection, but no whole HTTP response; the endpoint may have acted
            | RenderFailed   no request to send: a template, or the text that it rendered, is at fault
            | Abandoned      no result: the worker died, or was declared dead, between sending and recording

Each has `name` (as in the API), `error` (a sentence for people, None if delivered) and `response` (as much as arrived,
None if nothing did).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(slots=True)
class HttpResponse:
    """A response of an endpoint, as far as it arrived.

    `headers` are as received, in order. `body` is decoded from gzip or deflate. `body_truncated` says that the endpoint
    sent, or should have sent, more of it, and `headers_truncated` that there were more or longer headers.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    body_truncated: bool = False
    headers_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """A response with a status that the success policy accepts."""

    name: ClassVar[str] = "DELIVERED"
    response: HttpResponse
    error: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A response with any other status."""

    name: ClassVar[str] = "REJECTED"
    response: HttpResponse
    error: str


@dataclass(frozen=True, slots=True)
class _WithoutResponse:
    """An attempt without any response."""

    error: str
    response: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class _WithPartialResponse:
    """An attempt without a whole response."""

    error: str
    response: HttpResponse | None = None


@dataclass(frozen=True, slots=True)
class TimedOut(_WithPartialResponse):
    """No whole response in time; `response` holds the part that arrived, if that includes all headers."""

    name: ClassVar[str] = "TIMED_OUT"


@dataclass(frozen=True, slots=True)
class Unreachable(_WithoutResponse):
    """No connection, so the endpoint cannot have seen the request."""

    name: ClassVar[str] = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class TlsFailed(_WithoutResponse):
    """A failure of TLS: an untrusted or expired certificate, one for another host, or no common protocol."""

    name: ClassVar[str] = "TLS_FAILED"


@dataclass(frozen=True, slots=True)
class Blocked(_WithoutResponse):
    """A target that the address guard refused; nothing was sent."""

    name: ClassVar[str] = "BLOCKED"


@dataclass(frozen=True, slots=True)
class BadResponse(_WithPartialResponse):
    """A connection that ended, or carried something else, before there was a whole HTTP response."""

    name: ClassVar[str] = "BAD_RESPONSE"


@dataclass(frozen=True, slots=True)
class RenderFailed(_WithoutResponse):
    """A request that could not be made from the webhook's templates and the snapshot; nothing was sent."""

    name: ClassVar[str] = "RENDER_FAILED"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A claim that ended without a result; the endpoint may have seen the request."""

    name: ClassVar[str] = "ABANDONED"
    error: str = "The worker stopped before it recorded how this attempt ended; the endpoint may have received it."
    response: ClassVar[None] = None


Outcome: TypeAlias = (
    Delivered | Rejected | TimedOut | Unreachable | TlsFailed | Blocked | BadResponse | RenderFailed | Abandoned
)


def judge(response: HttpResponse, accepts: Callable[[int], bool]) -> Delivered | Rejected:
    """Judge a whole response by a success policy; `accepts` returns whether a status is a success."""
    if accepts(response.status):
        return Delivered(response)
    counts = "only 200 counts"
    if accepts(200) and accepts(299):
        counts = "only a 2xx status counts"
    reason = f"The endpoint answered {response.status}; {counts} as success"
    if 300 <= response.status <= 399:
        reason += ", and redirects are not followed"
    return Rejected(response, f"{reason}.")


def first_header(headers: tuple[tuple[str, str], ...], lowercase_name: str) -> str:
    """Return the first value of a header without surrounding white space, or an empty text."""
    for name, value in headers:
        if name.lower() == lowercase_name:
            return value.strip()
    return ""
