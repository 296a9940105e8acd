"""Repair of responses that httptools refuses although browsers and curl accept them.

These faults are repaired:

- a Content-Length that is repeated with the same value, or stands beside a Transfer-Encoding, which overrides it
  (RFC 9112, 6.3)
- a tab at the end of a Transfer-Encoding
- white space between a header's name and its colon (RFC 9112, 5.1), and lines that are no headers, except where the
  name is or resembles Content-Length or Transfer-Encoding: programs disagree about these
- lines of a chunked body that end in LF alone

A proxy must refuse most of them, because the next one could see another end of the response. Ringback forwards nothing,
and closes the connection after such a response.
"""

import re
from enum import Enum, auto

#: Prefix of header lines that are recorded as they came, and that httptools must not understand.
ONLY_RECORDED = b"Ringback-Only-Recorded-"
#: Name of the lines that are no headers, which are not recorded.
NO_HEADER = b"Ringback-No-Header"
#: A header line, without the white space between name and colon.
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(:.*)", re.DOTALL)
#: Bytes of a chunk's size and extensions, at most.
MAX_CHUNK_LINE_BYTES = 16 * 1024
_BLANK_LINE = re.compile(rb"\n\r?\n")
_INFORMATIONAL = re.compile(rb"HTTP/\d\.\d +1\d\d")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}(?=[\t ;\r\n])")


class _Part(Enum):
    """The part of a response that comes next."""

    HEAD = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    #: Bytes that stay as they are.
    REST = auto()


class ResponseRepair:
    """One response, repaired while its bytes pass. Faults that are not repaired pass too, for httptools to report."""

    def __init__(self) -> None:
        #: Whether the last head got a Content-Length of ours, in lower case, which is not to be recorded.
        self.has_own_length = False
        self._part = _Part.HEAD
        self._data = b""
        #: Index of the first byte of `_data` that has not passed.
        self._position = 0
        #: Index up to which no head ends.
        self._searched_until = 0
        #: Bytes of the current chunk that have not passed.
        self._chunk_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Return the repaired bytes of the response, except for a head or a line that is not whole yet."""
        self._data = self._data[self._position :] + data
        self._searched_until = max(self._searched_until - self._position, 0)
        self._position = 0
        repaired: list[bytes] = []
        while self._position < len(self._data):
            piece = self._next_piece()
            if piece is None:
                break
            repaired.append(piece)
        return b"".join(repaired)

    def _next_piece(self) -> bytes | None:
        """Return the next piece, repaired. None if it is not whole yet."""
        if self._part is _Part.HEAD:
            return self._next_head()
        if self._part is _Part.CHUNK_SIZE:
            return self._next_chunk_size()
        if self._part is _Part.CHUNK:
            return self._next_chunk()
        if self._part is _Part.CHUNK_END:
            return self._next_chunk_end()
        return self._take_until(len(self._data))

    def _next_head(self) -> bytes | None:
        if self._data[self._position] in b"\r\n":
            return self._take_until(self._position + 1)
        end = _BLANK_LINE.search(self._data, max(self._position, self._searched_until))
        if end is None:
            # Bytes may arrive one by one; a blank line takes up to three.
            self._searched_until = len(self._data) - 2
            return None
        self._searched_until = 0
        head = self._take_until(end.end())
        lines = list(map(_repair_line, head.split(b"\n")))
        if _INFORMATIONAL.match(head):
            return b"\n".join(lines)
        codings = [_value(line) for line in lines if _name(line) == b"transfer-encoding"]
        self._part = _Part.REST
        if codings and codings[-1].rpartition(b",")[2].strip(b" \t").lower() == b"chunked":
            self._part = _Part.CHUNK_SIZE
        return b"\n".join(self._repair_lengths(lines, is_overridden=bool(codings)))

    def _repair_lengths(self, lines: list[bytes], *, is_overridden: bool) -> list[bytes]:
        """Return the lines of a head, with one Content-Length for several that agree, or none if it is overridden."""
        lengths: set[bytes] = set()
        for line in lines:
            if _name(line) == b"content-length":
                lengths.update([length.strip() for length in _value(line).split(b",")])
        if len(lengths) != 1 or not min(lengths).isdigit():
            return lines
        repaired: list[bytes] = []
        for line in lines:
            if _name(line) == b"content-length":
                repaired.append(ONLY_RECORDED + line)
            else:
                repaired.append(line)
        if not is_overridden:
            self.has_own_length = True
            repaired.insert(1, b"content-length: " + min(lengths) + b"\r")
        return repaired

    def _next_chunk_size(self) -> bytes | None:
        end = self._data.find(b"\n", self._position)
        if end < 0 and len(self._data) - self._position <= MAX_CHUNK_LINE_BYTES:
            return None
        size = _CHUNK_SIZE.match(self._data, self._position)
        if end < 0 or size is None:
            self._part = _Part.REST
            return self._take_until(len(self._data))
        self._position = end + 1
        self._chunk_bytes = int(size[0], 16)
        if self._chunk_bytes:
            self._part = _Part.CHUNK
            return size[0] + b"\r\n"
        # The body is whole: trailers are ignored, and the connection is not used again.
        self._part = _Part.REST
        return b"0\r\n\r\n"

    def _next_chunk(self) -> bytes:
        part = self._take_until(min(self._position + self._chunk_bytes, len(self._data)))
        self._chunk_bytes -= len(part)
        if not self._chunk_bytes:
            self._part = _Part.CHUNK_END
        return part

    def _next_chunk_end(self) -> bytes | None:
        for line_end in (b"\r\n", b"\n"):
            if self._data.startswith(line_end, self._position):
                self._position += len(line_end)
                self._part = _Part.CHUNK_SIZE
                return b"\r\n"
        if self._data[self._position :] == b"\r":
            return None
        self._part = _Part.REST
        return self._take_until(len(self._data))

    def _take_until(self, end: int) -> bytes:
        taken = self._data[self._position : end]
        self._position = end
        return taken


def _repair_line(line: bytes) -> bytes:
    """Return a line of a head as httptools accepts it."""
    name = _name(line)
    if name == b"transfer-encoding":
        return line.rstrip(b" \t\r") + b"\r"
    if not name or name.startswith((b"http/", b"content-length", b"transfer-encoding")):
        return line
    header = _HEADER.fullmatch(line)
    if header is None:
        return NO_HEADER + b":" + line
    return header[1] + header[2]


def _name(line: bytes) -> bytes:
    """Return the name of a header line in lower case, or nothing for a line that continues the one before."""
    if line[:1] in (b" ", b"\t"):
        return b""
    return line.partition(b":")[0].strip().lower()


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].strip(b" \t\r")
