"""Whether the client of a connection goes on reading its responses."""


class ReadProgress:
    """The progress of a client that reads its responses, as far as checks have seen it."""

    __slots__ = ("_since", "_unread_bytes")

    def __init__(self) -> None:
        self._unread_bytes = 0
        #: When the client last made progress, by the loop's clock.
        self._since = 0.0

    def note_read(self) -> None:
        """Note that the client has read what was waiting."""
        self._unread_bytes = 0

    def update(self, unread_bytes: int, now: float) -> None:
        """Note how much is unread now."""
        if self._unread_bytes == 0 or unread_bytes < self._unread_bytes:
            self._since = now
        self._unread_bytes = unread_bytes

    def is_stalled(self, now: float, seconds: float) -> bool:
        """Return whether bytes are unread and the client has made no progress for this long."""
        return self._unread_bytes > 0 and now >= self._since + seconds
