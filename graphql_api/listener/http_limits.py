"""The limits of one HTTP connection, and the refusals of requests that exceed them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ringback.graphql_api.listener.refusals import Refusal
from ringback.models.settings import Settings

#: Bytes between the name and the value of a header, and after it.
_SEPARATOR_BYTES = 4


class RequestRefused(Exception):
    """A request over a limit, whose parsing ends here."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits from the settings RINGBACK_HTTP_…, for one connection."""

    url_bytes: int = 65_536
    header_bytes: int = 65_536
    headers: int = 100
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    read_seconds: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings give."""
        return cls(
            url_bytes=settings.http_max_url_bytes,
            header_bytes=settings.http_max_header_bytes,
            headers=settings.http_max_headers,
            header_seconds=settings.http_header_seconds,
            body_seconds=settings.http_body_seconds,
            read_seconds=settings.http_read_seconds,
        )

    def check_head(self, url_bytes: int, header_count: int, header_bytes: int) -> None:
        """Raise RequestRefused if the URL, or the headers or trailers, are over a limit."""
        if url_bytes > self.url_bytes:
            message = f"The URL is longer than {self.url_bytes:,} bytes, the limit (RINGBACK_HTTP_MAX_URL_BYTES)."
            raise RequestRefused(Refusal(414, message))
        if header_count > self.headers:
            message = f"The request has more than {self.headers:,} headers, the limit (RINGBACK_HTTP_MAX_HEADERS)."
            raise RequestRefused(Refusal(431, message))
        if header_bytes > self.header_bytes:
            message = f"The headers are longer than {self.header_bytes:,} bytes, the limit"
            raise RequestRefused(Refusal(431, f"{message} (RINGBACK_HTTP_MAX_HEADER_BYTES)."))

    def refuse_late_headers(self) -> Refusal:
        """Return the refusal of a request whose headers did not arrive in time."""
        return _refuse_late("headers", self.header_seconds, "RINGBACK_HTTP_HEADER_SECONDS")

    def refuse_late_body(self) -> Refusal:
        """Return the refusal of a request whose body did not arrive in time."""
        return _refuse_late("body", self.body_seconds, "RINGBACK_HTTP_BODY_SECONDS")


def count_header_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the bytes of headers as they are sent."""
    return sum(len(name) + len(value) + _SEPARATOR_BYTES for name, value in headers)


def _refuse_late(part: str, seconds: float, setting: str) -> Refusal:
    return Refusal(408, f"The {part} of the request did not arrive within {seconds:g} s ({setting}).")
