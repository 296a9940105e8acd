"""Reads HTTP/1.1 responses as their bytes arrive, up to limits of size. httptools parses them by Node's llhttp."""

from enum import Enum, auto

import httptools

#: Bytes of a response body that are read, and stored after decoding; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 64 * 1024
#: Bytes of all header names and values together.
MAX_RESPONSE_HEADER_BYTES = 32 * 1024
#: Bytes of one header's name, or of its value.
MAX_FIELD_BYTES = 8_190
MAX_RESPONSE_HEADERS = 128
#: Bytes that may arrive before the headers end.
MAX_HEAD_BYTES = 2 * MAX_RESPONSE_HEADER_BYTES


class InvalidResponse(Exception):
    """Bytes that are not an HTTP response, or headers over a limit; the message says why, without a full stop."""


class ResponseState(Enum):
    """Progress in reading the response to the last request."""

    #: Also while informational responses (RFC 9110, 15.2) arrive.
    READING_HEAD = auto()
    READING_BODY = auto()
    #: The body ends when the endpoint closes the connection.
    READING_UNTIL_CLOSE = auto()
    #: Complete; the endpoint keeps the connection open for another request.
    KEPT_ALIVE = auto()
    #: Complete; the connection must not be used again.
    FINAL = auto()


_COMPLETE = (ResponseState.KEPT_ALIVE, ResponseState.FINAL)


class ResponseReader:
    """One response at a time on one connection; call `start` before each request.

    `status` is 0 until the headers have ended. `headers` and `body` hold what has arrived. The methods named `on_…` are
    callbacks of httptools.
    """

    __slots__ = ("_head_bytes", "_longest_field", "_parser", "body", "header_bytes", "headers", "state", "status")

    def __init__(self) -> None:
        self.start()
        self._parser = httptools.HttpResponseParser(self)
        # aiohttp tolerates these too, and endpoints in use send them.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def start(self) -> None:
        """Forget the last response, and expect the next one."""
        self.state = ResponseState.READING_HEAD
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        #: Bytes of the names and values of the headers.
        self.header_bytes = 0
        self._head_bytes = 0
        self._longest_field = 0

    @property
    def is_complete(self) -> bool:
        """Whether the whole response has arrived."""
        return self.state in _COMPLETE

    def feed(self, data: bytes) -> bool:
        """Read some bytes; returns whether the response is complete, or its body over the limit.

        Raises InvalidResponse. Headers over a limit are dropped first.
        """
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.state = ResponseState.FINAL
        except httptools.HttpParserError as error:
            if not self.is_complete:
                raise InvalidResponse(self._describe(error)) from error
        self._check_limits()
        return self.is_complete or len(self.body) > MAX_RESPONSE_BYTES

    def end_at_close(self) -> bool:
        """Take the close of the connection as the end of the body; returns whether the body ends like that."""
        if self.state is not ResponseState.READING_UNTIL_CLOSE:
            return False
        self.state = ResponseState.FINAL
        return True

    def on_message_begin(self) -> None:
        """Mark the connection unusable if a second response follows the first."""
        if self.state is ResponseState.KEPT_ALIVE:
            self.state = ResponseState.FINAL

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; trailers, which follow the body, are ignored."""
        if not self.status:
            self.headers.append((name.decode("utf-8", "replace"), value.decode("utf-8", "replace")))
            self.header_bytes += len(name) + len(value)
            self._longest_field = max(self._longest_field, len(name), len(value))

    def on_headers_complete(self) -> None:
        """Store the status, and find out how the body ends."""
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        if self._has_length():
            self.state = ResponseState.READING_BODY
        else:
            self.state = ResponseState.READING_UNTIL_CLOSE

    def on_body(self, body: bytes) -> None:
        """Store the body, up to one byte past the limit."""
        if not self.is_complete and len(self.body) <= MAX_RESPONSE_BYTES:
            self.body += body[: MAX_RESPONSE_BYTES + 1 - len(self.body)]

    def on_message_complete(self) -> None:
        """End the response, or skip an informational one."""
        if 100 <= self.status <= 199 and self.status != 101:
            self.status, self.headers, self.header_bytes = 0, [], 0
            self.state = ResponseState.READING_HEAD
        elif self.is_complete:
            return
        elif self._parser.should_keep_alive():  # known until this callback returns
            self.state = ResponseState.KEPT_ALIVE
        else:
            self.state = ResponseState.FINAL

    def _has_length(self) -> bool:
        """Tell whether Content-Length or the last transfer coding ends the body (RFC 9112, 6.3)."""
        names = [name.lower() for name, _ in self.headers]
        if "content-length" in names:
            return True
        if "transfer-encoding" not in names:
            return False
        codings = [value.lower() for name, value in self.headers if name.lower() == "transfer-encoding"]
        return codings[-1].rpartition(",")[2].strip() == "chunked"

    def _check_limits(self) -> None:
        problem = None
        if self._longest_field > MAX_FIELD_BYTES:
            problem = f"Got more than {MAX_FIELD_BYTES} bytes of one header"
        elif not self.status and self._head_bytes > MAX_HEAD_BYTES:
            problem = "Its headers do not end within 64 KiB"
        elif len(self.headers) > MAX_RESPONSE_HEADERS:
            problem = "Too many headers received"
        if problem is not None:
            self.status, self.headers, self.body = 0, [], b""
            raise InvalidResponse(problem)

    def _describe(self, error: httptools.HttpParserError) -> str:
        if isinstance(error, httptools.HttpParserInvalidStatusError) or not self._parser.get_status_code():
            return "Bad status line"
        return str(error)
