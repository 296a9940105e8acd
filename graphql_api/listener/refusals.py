"""Responses of the listener itself, for requests and connections that the application never sees, and their log."""

import time
from collections import Counter
from dataclasses import dataclass

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

logger = structlog.get_logger("ringback.api")

#: Seconds between two log lines about refusals with the same status, so that an attack does not fill the log.
LOG_SECONDS = 60.0
#: The Retry-After of refusals for lack of capacity, in seconds.
RETRY_AFTER_SECONDS = 1
_RETRYABLE = (429, 503)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request or connection. `message` is the body of the response."""

    status: int
    message: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response, besides those of its body."""
        headers = {"Connection": "close"}
        if self.status in _RETRYABLE:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return headers

    def write(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the response as it is sent."""
        body = self.message.encode()
        headers = {**self.headers, "Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        lines = [STATUS_LINE[self.status]]
        lines += [b"%s: %s\r\n" % header for header in default_headers]
        lines += [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
        return b"".join([*lines, b"\r\n", body])


class RefusalLog:
    """The log of refusals. Each status is logged at once, and then at most once per LOG_SECONDS with a count."""

    def __init__(self) -> None:
        self._unlogged: Counter[int] = Counter()
        self._latest: dict[int, tuple[Refusal, str | None]] = {}
        self._next_lines: dict[int, float] = {}

    def add(self, refusal: Refusal, client: str | None) -> None:
        """Record a refusal, and log it unless its status was logged recently."""
        self._unlogged[refusal.status] += 1
        self._latest[refusal.status] = refusal, client
        self.flush(refusal.status)

    def flush_all(self) -> None:
        """Log the refusals that were held back, where LOG_SECONDS are over."""
        for status in list(self._unlogged):
            self.flush(status)

    def flush(self, status: int) -> None:
        """Log the refusals with this status, unless one was logged recently."""
        now = time.monotonic()
        if now < self._next_lines.get(status, now):
            return
        self._next_lines[status] = now + LOG_SECONDS
        refusal, client = self._latest.pop(status)
        count = self._unlogged.pop(status)
        logger.warning(
            "requests or connections are refused",
            action="refuse",
            status=status,
            count=count,
            latest_client=client,
            latest_reason=refusal.message,
        )
