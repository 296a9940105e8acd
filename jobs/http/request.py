"""Requests that are ready to be sent. What those that are alike have in common is made, and checked, once: their Frame.

Here stands what aiohttp would send wrongly, or not explain.
"""

import re
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from yarl import URL

Headers: TypeAlias = tuple[tuple[str, str], ...]

#: Headers that go out although the caller did not give them, besides Host and Content-Length.
AUTOMATIC_HEADERS = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"))
#: Headers that say how the message is framed or the connection used; only the sender can set them truthfully.
FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
#: Methods whose requests say nothing of a body that they do not have (RFC 9110, section 8.6).
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class RequestTemplate:
    """Method, URL and headers of requests that differ in the values of their last headers, `names`, and in their body.

    `before` are the headers that go out before those: the automatic ones, and the caller's whose values are the same
    each time, `same`. `fault` says why none of these requests can be sent, `host` who would get them.
    """

    __slots__ = ("_pattern", "before", "fault", "host", "method", "names", "same", "url")

    def __init__(self, method: str, url: URL, same: Headers, names: tuple[str, ...]) -> None:
        of_names = _of_names((*[name for name, _ in same], *names))
        host = (("Host", url.host_port_subcomponent or ""),) if of_names.wants_host else ()
        self.method = method
        self.url = url
        self.same = same
        self.names = names
        self.host = url.raw_host or ""
        self.before = (*host, *of_names.automatic, *same)
        self.fault = _fault(method, url) or of_names.fault or value_fault(same)
        known = "".join([f"{name}: {value}\r\n" for name, value in self.before])
        known = f"{method} {url.raw_path_qs} HTTP/1.1\r\n{known}".replace("%", "%%")
        self._pattern = known + "".join([f"{name}: ".replace("%", "%%") + "%s\r\n" for name in names])

    def head(self, values: tuple[str, ...], length: str | None) -> bytes:
        """All that is written before the body, with these values and this Content-Length."""
        end = "\r\n" if length is None else f"Content-Length: {length}\r\n\r\n"
        return (self._pattern % values + end).encode()

    def headers(self, values: tuple[str, ...], length: str | None) -> Headers:
        """The headers that are written."""
        end = () if length is None else (("Content-Length", length),)
        return (*self.before, *zip(self.names, values, strict=True), *end)


@lru_cache(1_024)
def make_request_template(method: str, url: URL, names: tuple[str, ...]) -> RequestTemplate:
    """The template of requests none of whose headers need have the same value each time."""
    return RequestTemplate(method, url, (), names)


class OutgoingRequest(NamedTuple):
    """A request that is ready to be sent: a template, the values of its headers, and the body.

    `body` None sends none (and no Content-Type unless the headers have one).
    """

    template: RequestTemplate
    values: tuple[str, ...] = ()
    body: bytes | None = None

    @property
    def headers(self) -> Headers:
        """The headers that the caller gave it."""
        return (*self.template.same, *zip(self.template.names, self.values, strict=True))

    @property
    def length(self) -> str | None:
        """What its Content-Length says, which tells too that there is no body where one would be expected."""
        if self.body is not None:
            return str(len(self.body))
        return None if self.template.method in _BODILESS else "0"

    @property
    def sent_headers(self) -> Headers:
        """All headers that go out."""
        return self.template.headers(self.values, self.length)

    @property
    def fault(self) -> str | None:
        """Why it cannot be sent, or None."""
        if self.template.fault is not None:
            return self.template.fault
        # Nearly all are printable, and seen to be so together.
        return None if "".join(self.values).isprintable() else value_fault(self.headers)


def value_fault(headers: Headers) -> str | None:
    """Which of these headers has a value that cannot be sent."""
    for name, value in headers:
        if _CONTROL.search(value):
            return f"The value of the header {name} contains a line break or another control character."
    return None


def _fault(method: str, url: URL) -> str | None:
    if url.scheme not in ("http", "https") or not url.raw_host:
        return "The URL is not one of http:// or https:// with a host."
    if url.raw_user is not None or url.raw_password is not None:
        return "The URL carries credentials; they belong in a header."
    if not _TOKEN.fullmatch(method):
        return f"{method!r} is not an HTTP method."
    return None


class _OfNames(NamedTuple):
    """What follows from the names of the headers alone, which are the same for most webhooks."""

    fault: str | None
    wants_host: bool
    automatic: Headers


@lru_cache(1_024)
def _of_names(names: tuple[str, ...]) -> _OfNames:
    given = {name.lower() for name in names}
    fault = next((fault for name in names if (fault := _name_fault(name)) is not None), None)
    automatic = tuple(header for header in AUTOMATIC_HEADERS if header[0].lower() not in given)
    return _OfNames(fault, "host" not in given, automatic)


def _name_fault(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return f"{name!r} is not a header name."
    if name.lower() in FRAMING_HEADERS:
        return f"The header {name} is set by Ringback itself."
    return None
