"""The bytes of the requests that one HTTP connection has received and not answered whole."""

from collections import deque

from ringback.graphql_api.listener.http_limits import RequestRefused
from ringback.graphql_api.listener.refusals import Refusal

#: Bytes that a waiting request counts besides its URL, headers and body, and that a header counts besides its text.
#: They take half as much memory, but leave gaps in it when they end.
REQUEST_BYTES, HEADER_BYTES = 6_000, 400
#: Pieces of a body that may be smaller than SMALL_BYTES on average. Each one takes time, however small it is.
MAX_SMALL_PIECES, SMALL_BYTES = 4_096, 64

_SMALL_PIECES = Refusal(
    400,
    f"The body arrives in more than {MAX_SMALL_PIECES:,} pieces of less than {SMALL_BYTES} bytes on average. Send "
    "larger chunks.",
)


class ReceivedRequests:
    """The requests of a connection, in the order in which they are answered.

    Each counts the bytes of its body, and of its head if it has waited. After its response, only those that are
    discarded.
    """

    def __init__(self) -> None:
        #: Bytes of the newest request.
        self.newest_bytes = 0
        #: Bytes of each request before it that has no whole response, the oldest first.
        self._earlier: deque[int] = deque()
        #: Pieces and bytes of the body of the newest request.
        self._body_pieces = self._body_bytes = 0

    @property
    def are_several(self) -> bool:
        """Whether the newest request waits for the response to an earlier one."""
        return bool(self._earlier)

    @property
    def earlier_bytes(self) -> int:
        """Bytes of all but the newest request."""
        return sum(self._earlier)

    @property
    def oldest_bytes(self) -> int:
        """Bytes of the request that is answered next."""
        return self._earlier[0] if self._earlier else self.newest_bytes

    def start(self, *, is_answered: bool) -> None:
        """Start a request. `is_answered` says whether the response to the one before it is complete."""
        if not is_answered:
            self._earlier.append(self.newest_bytes)
        self.newest_bytes = self._body_pieces = self._body_bytes = 0

    def add_head(self, header_count: int, text_bytes: int) -> None:
        """Count the head of the newest request, which waits."""
        self.newest_bytes = REQUEST_BYTES + HEADER_BYTES * header_count + text_bytes

    def add_body(self, size: int) -> None:
        """Count a piece of the newest request's body. Raises RequestRefused if its pieces are many and small."""
        self.newest_bytes += size
        self._body_bytes += size
        self._body_pieces += 1
        if self._body_pieces > MAX_SMALL_PIECES and self._body_bytes < SMALL_BYTES * self._body_pieces:
            raise RequestRefused(_SMALL_PIECES)

    def end_oldest(self) -> None:
        """Stop counting the request whose response is complete."""
        if self._earlier:
            self._earlier.popleft()
        else:
            self.newest_bytes = 0

    def release_oldest(self) -> None:
        """Stop counting the bytes of the request that is being answered."""
        if self._earlier:
            self._earlier[0] = 0
        else:
            self.newest_bytes = 0

    def clear(self) -> None:
        """Stop counting all requests."""
        self._earlier.clear()
        self.newest_bytes = 0
