"""Reads HTTP/1.1 responses as their bytes arrive, up to limits of size. httptools parses them by Node's llhttp.

The status decides about an attempt, so headers over a limit are cut, like a body. What follows a limit is read only as
far as it is needed to find the end of the response, and is not stored.
"""

from enum import Enum, auto

import httptools

from ringback.jobs.http.response_repair import NO_HEADER, ONLY_RECORDED, ResponseRepair

#: Bytes of a response body that are read, and stored after decoding; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 64 * 1024
#: Bytes of all header names and values that are stored.
MAX_RESPONSE_HEADER_BYTES = 32 * 1024
#: Bytes of one header's name, or of its value, that are stored.
MAX_FIELD_BYTES = 8_190
#: Headers that are stored.
MAX_RESPONSE_HEADERS = 128
#: Headers over the limits that are stored all the same, because the sender or the retry policy reads them.
MAX_NEEDED_HEADERS = 16
#: Informational responses before the final one. Each costs time, and one response may bring thousands of them.
MAX_INFORMATIONAL_RESPONSES = 100
#: Bytes of headers, trailers or chunk lines in a row that are read. A response with more of them ends there.
MAX_OVERHEAD_BYTES = 64 * 1024
#: Bytes of a head and chunks that are kept as they came, until it is known that they need no repair.
MAX_RAW_BYTES = 32 * 1024
#: Parts of the errors of httptools after which a head is repaired.
_REPAIRABLE = ("Content-Length", "Invalid header token")
_NEEDED_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"content-encoding", b"retry-after"})


class InvalidResponse(Exception):
    """Bytes that are not an HTTP response; the message says why, without a full stop."""


class _CodingMisread(Exception):
    """A Transfer-Encoding that ends in a tab: httptools does not see that the body is chunked."""


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

    `status` is 0 until the headers have ended. `headers` and `body` hold what has arrived, up to the limits. The
    methods named `on_…` are callbacks of httptools.
    """

    __slots__ = (
        "_has_begun",
        "_header_bytes",
        "_informational_count",
        "_is_strict",
        "_needed_headers",
        "_overhead_bytes",
        "_parser",
        "_raw",
        "_refused_status",
        "_repair",
        "are_headers_cut",
        "body",
        "content_encoding",
        "has_started",
        "headers",
        "is_cut_off",
        "state",
        "status",
    )

    def __init__(self) -> None:
        self._new_parser()
        self.start()

    def start(self) -> None:
        """Forget the last response, and expect the next one."""
        self.state = ResponseState.READING_HEAD
        #: Whether any byte has arrived.
        self.has_started = False
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        #: Whether headers, or parts of them, were not stored.
        self.are_headers_cut = False
        #: The value of the first Content-Encoding, in lower case, or an empty text.
        self.content_encoding = ""
        self.body = b""
        #: Whether reading has stopped before the end of the response, because of MAX_OVERHEAD_BYTES.
        self.is_cut_off = False
        #: Bytes of the names and values of the headers that are stored.
        self._header_bytes = 0
        self._needed_headers = 0
        #: Number of informational responses that were skipped.
        self._informational_count = 0
        #: Whether the status line has begun.
        self._has_begun = False
        #: Bytes that have arrived since the response began, or since the last part of its body.
        self._overhead_bytes = 0
        #: Head and chunks as they came, for a repair. None if they are too long for one.
        self._raw: bytearray | None = bytearray()
        self._repair: ResponseRepair | None = None
        self._refused_status = 0
        if self._is_strict:
            self._set_strict(False)

    @property
    def is_complete(self) -> bool:
        """Whether the whole response has arrived."""
        return self.state in _COMPLETE

    @property
    def is_idle_timeout(self) -> bool:
        """Whether the endpoint has ended an idle connection without reading the request (RFC 9110, 15.5.9)."""
        return self.status == 408 and self.state is ResponseState.FINAL

    def feed(self, data: bytes) -> bool:
        """Read some bytes; returns whether the response is complete, or one of its parts over its limit.

        Raises InvalidResponse.
        """
        self.has_started = True
        body_bytes = len(self.body)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if self.is_complete:
                self.state = ResponseState.FINAL
            else:
                self._parse_repaired(data, error)
        if self._informational_count > MAX_INFORMATIONAL_RESPONSES:
            limit = f"{MAX_INFORMATIONAL_RESPONSES} informational responses"
            raise InvalidResponse(f"More than {limit} came before the final one")
        if self.is_complete or len(self.body) > MAX_RESPONSE_BYTES:
            return True
        if len(self.body) > body_bytes:
            self._overhead_bytes = 0
        else:
            self._overhead_bytes += len(data)
        if self._overhead_bytes > MAX_OVERHEAD_BYTES:
            self._cut_off()
        elif self._is_strict or not self.status:
            self._keep_raw(data)
        return self.is_complete

    def end_at_close(self) -> bool:
        """Take the close of the connection as the end of the body; returns whether the body ends like that."""
        if self.state is not ResponseState.READING_UNTIL_CLOSE:
            return False
        self.state = ResponseState.FINAL
        return True

    def free_parser(self) -> None:
        """Free the header that the parser was reading, and what is kept for a repair.

        The parser refers to this reader and would wait for a garbage collection, and many connections end until then.
        """
        self._new_parser()
        self._raw = None

    def on_message_begin(self) -> None:
        """Mark the connection unusable if a second response follows the first."""
        self._has_begun = True
        if self.state is ResponseState.KEPT_ALIVE:
            self.state = ResponseState.FINAL

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header, up to the limits; trailers, which follow the body, are ignored."""
        if self.status:
            return
        if self._repair is not None:
            if self._repair.has_own_length and name == b"content-length":
                return
            if name == NO_HEADER:
                self.are_headers_cut = True
                return
            name = name.removeprefix(ONLY_RECORDED)
        size = len(name) + len(value)
        is_full = self._header_bytes + size > MAX_RESPONSE_HEADER_BYTES or len(self.headers) >= MAX_RESPONSE_HEADERS
        if is_full or size > MAX_FIELD_BYTES:
            stored = self._fit(name, value)
            if stored is None:
                return
            name, value = stored
            size = len(name) + len(value)
        self._header_bytes += size
        # Postgres stores no U+0000. The parser lets none into a name.
        text = value.decode("utf-8", "replace").replace("\x00", "\ufffd")
        self.headers.append((name.decode("utf-8", "replace"), text))

    def on_headers_complete(self) -> None:
        """Store the status, and find out how the body ends."""
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        self.state = ResponseState.READING_UNTIL_CLOSE
        names = [name.lower() for name, _ in self.headers]
        if "content-encoding" in names:
            self.content_encoding = self.headers[names.index("content-encoding")][1].strip().lower()
        # A transfer coding overrides a length (RFC 9112, 6.3).
        if "transfer-encoding" in names:
            coding = self._last_coding()
            if self._repair is None and coding.rstrip(" ").endswith("\t"):
                raise _CodingMisread  # leads to `_parse_repaired`, as each error in a callback does
            if coding.strip(" \t") == "chunked":
                self.state = ResponseState.READING_BODY
                self._set_strict(True)
        elif "content-length" in names:
            self.state = ResponseState.READING_BODY

    def on_body(self, body: bytes) -> None:
        """Store the body, up to one byte past the limit."""
        if not self.is_complete and len(self.body) <= MAX_RESPONSE_BYTES:
            self.body += body[: MAX_RESPONSE_BYTES + 1 - len(self.body)]

    def on_message_complete(self) -> None:
        """End the response, or skip an informational one."""
        if 100 <= self.status <= 199 and self.status != 101:
            self._informational_count += 1
            self.status, self.headers, self.are_headers_cut, self.body = 0, [], False, b""
            self.content_encoding = ""
            self._header_bytes = self._needed_headers = self._overhead_bytes = 0
            self.state = ResponseState.READING_HEAD
        elif self.is_complete:
            return
        elif self._repair is None and self._has_clear_end() and self._parser.should_keep_alive():
            self.state = ResponseState.KEPT_ALIVE
        else:
            self.state = ResponseState.FINAL

    def _parse(self, data: bytes) -> None:
        if self._repair is not None:
            data = self._repair.feed(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # a 101: the endpoint speaks another protocol from here on
            self.state = ResponseState.FINAL

    def _parse_repaired(self, data: bytes, error: httptools.HttpParserError) -> None:
        """Read a response that httptools refuses once more, repaired; raises InvalidResponse if that does not help."""
        is_repairable = self.status != 0 or any(part in str(error) for part in _REPAIRABLE)
        if not is_repairable or self._repair is not None or self._raw is None:
            raise InvalidResponse(self._describe(error)) from error
        raw = bytes(self._raw) + data
        overhead_bytes, refused_status = self._overhead_bytes, self._parser.get_status_code()
        self._new_parser()
        self.start()
        self.has_started = True
        self._overhead_bytes, self._refused_status = overhead_bytes, refused_status
        self._repair = ResponseRepair()
        try:
            self._parse(raw)
        except httptools.HttpParserError as second_error:
            if not self.is_complete:
                raise InvalidResponse(self._describe(second_error)) from second_error

    def _keep_raw(self, data: bytes) -> None:
        if self._raw is None:
            return
        self._raw += data
        if len(self._raw) > MAX_RAW_BYTES:
            self._raw = None

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # aiohttp tolerates these too, and endpoints in use send them.
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_spaces_after_chunk_size=True)
        self._set_strict(False)

    def _set_strict(self, is_strict: bool) -> None:
        """Accept lines that end in LF alone, or refuse them. llhttp misreads some of them in a chunked body."""
        self._is_strict = is_strict
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=not is_strict)

    def _fit(self, name: bytes, value: bytes) -> tuple[bytes, bytes] | None:
        """Return what is stored of a header that is over a limit, or None for nothing; note what is cut.

        Once a header is cut or left out for lack of room, only needed ones are stored after it.
        """
        if len(name) > MAX_FIELD_BYTES or len(value) > MAX_FIELD_BYTES:
            self.are_headers_cut = True
            name, value = name[:MAX_FIELD_BYTES], value[:MAX_FIELD_BYTES]
        room = MAX_RESPONSE_HEADER_BYTES - self._header_bytes - len(name)
        are_too_many = len(self.headers) >= MAX_RESPONSE_HEADERS
        if len(value) <= room and not are_too_many:
            return name, value
        if name.lower() in _NEEDED_HEADERS and self._needed_headers < MAX_NEEDED_HEADERS:
            self._needed_headers += 1
            return name, value
        self.are_headers_cut = True
        if room > 0 and not are_too_many:
            return name, value[:room]
        self._header_bytes = max(self._header_bytes, MAX_RESPONSE_HEADER_BYTES)
        return None

    def _last_coding(self) -> str:
        """Return the last transfer coding in lower case, with white space around it."""
        codings = [value.lower() for name, value in self.headers if name.lower() == "transfer-encoding"]
        return codings[-1].rpartition(",")[2]

    def _has_clear_end(self) -> bool:
        """Return whether all programs agree where the response ended. Not all of them read `Content-Length : 2`."""
        return self.state is ResponseState.READING_BODY or self.status in (204, 304)

    def _cut_off(self) -> None:
        """End a response whose headers, trailers or chunk lines are too long, if its status is known."""
        if not self.status:
            status = self._refused_status
            if self._has_begun:
                status = self._parser.get_status_code()
            if status < 200:
                raise InvalidResponse("Its headers do not end within 64 KiB")
            self.status = status
            self.are_headers_cut = True
        self.is_cut_off = True
        self.state = ResponseState.FINAL

    def _describe(self, error: httptools.HttpParserError) -> str:
        if isinstance(error, httptools.HttpParserInvalidStatusError) or not self._parser.get_status_code():
            return "Bad status line"
        return str(error)
