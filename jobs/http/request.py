"""Requests that are ready to be sent, and the template of requests that differ only in some header values and the body.

Everything that would make an invalid request is checked here, because connection.py writes the bytes unchecked: once
for a template, and for each request only the rest.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from yarl import URL

from ringback.models.redaction import Redaction
from ringback.models.security.url_rules import Target

Headers: TypeAlias = tuple[tuple[str, str], ...]

#: Headers that go out unless the caller sets them, besides Host and Content-Length.
AUTOMATIC_HEADERS = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"))
#: Headers that describe the message framing or the connection; only the sender can set them correctly.
FRAMING_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Methods that send no Content-Length without a body (RFC 9110, 8.6).
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class _RedactedHeaders(NamedTuple):
    redaction: Redaction
    headers: Headers


class RequestTemplate:
    """Method, target and headers of requests that differ in the values of their last headers, and in their body.

    `leading_headers` go out first: the automatic ones, and the caller's `fixed_headers`. `variable_names` are the names
    of the last headers. `fault` says why no such request can be sent, or is None. `host` is the URL's, for the guard.
    """

    __slots__ = (
        "_pattern",
        "_redacted",
        "fault",
        "fixed_headers",
        "host",
        "leading_headers",
        "method",
        "target",
        "variable_names",
    )

    def __init__(self, method: str, target: Target, fixed_headers: Headers, variable_names: tuple[str, ...]) -> None:
        origin = target.origin
        fixed_names = [name for name, _ in fixed_headers]
        names = (*fixed_names, *variable_names)
        given = {name.lower() for name in names}
        automatic = (("Host", origin.host_port_subcomponent or ""), *AUTOMATIC_HEADERS)
        missing = [header for header in automatic if header[0].lower() not in given]
        name_fault = next(filter(None, map(_name_fault, names)), None)
        self.method = method
        self.target = target
        self.host = origin.raw_host or ""
        self.fixed_headers = fixed_headers
        self.variable_names = variable_names
        self.leading_headers = (*missing, *fixed_headers)
        self.fault = _target_fault(method, origin) or name_fault or header_fault(fixed_headers)
        self._pattern = self._make_pattern()
        self._redacted: _RedactedHeaders | None = None

    @property
    def origin(self) -> URL:
        """Scheme, host and port of the target."""
        return self.target.origin

    def head(self, values: tuple[str, ...], length: str | None) -> bytes:
        """Return the bytes before the body, with these header values and this Content-Length (None: no such header)."""
        end = "\r\n"
        if length is not None:
            end = f"Content-Length: {length}\r\n\r\n"
        return (self._pattern % values + end).encode()

    def redact_leading_headers(self, redaction: Redaction) -> Headers:
        """Return the leading headers with their secrets redacted. The result is cached for the next call."""
        redacted = self._redacted
        if redacted is None or redacted.redaction is not redaction:
            redacted = _RedactedHeaders(redaction, tuple(redaction.redact_headers(self.leading_headers)))
            self._redacted = redacted
        return redacted.headers

    def _make_pattern(self) -> str:
        """Return the head as a format string of the `%` operator, up to the Content-Length."""
        lines = [f"{self.method} {self.target.path_and_query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.leading_headers]
        lines = [line.replace("%", "%%") for line in lines]
        for name in self.variable_names:
            escaped = name.replace("%", "%%")
            lines.append(f"{escaped}: %s")
        return "\r\n".join(lines) + "\r\n"


@lru_cache(1_024)
def make_request_template(method: str, target: Target, variable_names: tuple[str, ...]) -> RequestTemplate:
    """Return the template, possibly a cached one, of requests without fixed headers."""
    return RequestTemplate(method, target, (), variable_names)


@dataclass(slots=True)
class OutgoingRequest:
    """A request that is ready to be sent: a template, the values of its variable headers, and the body.

    A body of None sends none, and no Content-Type unless it is among the headers. `codec` decodes the body for the
    record. `note` says how the body differs from the rendered text, or is None.
    """

    template: RequestTemplate
    values: tuple[str, ...] = ()
    body: bytes | None = None
    codec: str = "utf-8"
    note: str | None = None

    @property
    def headers(self) -> Headers:
        """The headers that the caller set."""
        return (*self.template.fixed_headers, *zip(self.template.variable_names, self.values, strict=True))

    @property
    def length(self) -> str | None:
        """The Content-Length: "0" for a POST without a body, None for a GET without one."""
        if self.body is not None:
            return str(len(self.body))
        if self.template.method in _BODILESS:
            return None
        return "0"

    @property
    def sent_headers(self) -> Headers:
        """All headers that go out."""
        return (*self.template.leading_headers, *self.last_headers)

    @property
    def last_headers(self) -> Headers:
        """The headers after the leading ones of the template, with the Content-Length."""
        headers = zip(self.template.variable_names, self.values, strict=True)
        length = self.length
        if length is None:
            return tuple(headers)
        return (*headers, ("Content-Length", length))

    @property
    def fault(self) -> str | None:
        """Why the request cannot be sent, or None."""
        if self.template.fault is not None:
            return self.template.fault
        if "".join(self.values).isprintable():  # true of nearly all values, and quick to check
            return None
        return header_fault(self.headers)


def header_fault(headers: Headers) -> str | None:
    """Return why the first unsuitable value of these headers cannot be sent, or None."""
    for name, value in headers:
        if _CONTROL.search(value):
            return f"The value of the header {name} contains a line break or another control character."
    return None


def _name_fault(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return f"{name!r} is not a header name."
    if name.lower() in FRAMING_HEADERS:
        return f"The header {name} is set by Ringback itself."
    return None


def _target_fault(method: str, origin: URL) -> str | None:
    if origin.scheme not in ("http", "https") or not origin.raw_host:
        return "The URL must start with http:// or https:// and have a host."
    if origin.raw_user is not None or origin.raw_password is not None:
        return "The URL contains credentials; put them into a header."
    if not _TOKEN.fullmatch(method):
        return f"{method!r} is not an HTTP method."
    return None
