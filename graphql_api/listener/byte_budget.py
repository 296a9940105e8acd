"""A limit on the bytes that all connections together make the program hold.

uvicorn limits what it buffers for one connection, but not the sum, and the application's own buffers not at all.
"""

from typing import Protocol

from starlette.types import Scope

#: The name of the ASGI extension that stops counting a request.
RELEASE_REQUEST = "ringback.release_request"
#: The name of the ASGI extension with the budget of the connection.
BYTE_BUDGET = "ringback.byte_budget"
#: One part in FREED_SHARE is freed at once, because looking for it costs time.
FREED_SHARE = 8
#: Unread bytes of a connection that do not count: most of them are sent in the next turn of the event loop.
UNCOUNTED_UNREAD_BYTES = 4_096


def release_request(scope: Scope) -> None:
    """Drop headers and query of a request, whose body is gone, and stop counting it: the response may take long."""
    scope["headers"].clear()
    scope["query_string"] = b""
    extension = scope.get("extensions", {}).get(RELEASE_REQUEST)
    if extension is not None:
        extension["call"]()


class Holder(Protocol):
    """A connection for which bytes are held: of requests that are incomplete or running, or of unread responses."""

    def count_held_bytes(self) -> int:
        """Return how many bytes are held now."""

    def free_held_bytes(self) -> bool:
        """Refuse the request whose bytes are held, or abort the connection. Return whether the bytes were freed."""


class ByteBudget:
    """The bytes held for each connection, the oldest first.

    At the limit the oldest incomplete request or unread response makes room, not the newest: a stalled client is older
    than an honest one, so attackers displace each other. Clients that read on come last.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[Holder, int] = {}
        self.total = 0

    def hold(self, holder: Holder, count: int) -> None:
        """Record how many bytes are held for a connection. Refuse others, or this one, to keep within the limit."""
        self.total += count - self._held.get(holder, 0)
        self._held[holder] = count
        if self.total > self._max_bytes:
            self._make_room()

    def release(self, holder: Holder) -> None:
        """Record that nothing is held for a connection any longer."""
        self.total -= self._held.pop(holder, 0)

    def _make_room(self) -> None:
        self._count_again()
        for holder in list(self._held):
            if self.total <= self._max_bytes - self._max_bytes // FREED_SHARE:
                return
            if holder.free_held_bytes():
                self.release(holder)

    def _count_again(self) -> None:
        """Read how many bytes are held now, since connections report only when the number grows."""
        counts = {holder: holder.count_held_bytes() for holder in self._held}
        stalled = {holder: count for holder, count in counts.items() if count >= self._held[holder]}
        read_on = {holder: count for holder, count in counts.items() if 0 < count < self._held[holder]}
        self._held = {**stalled, **read_on}
        self.total = sum(self._held.values())


def add_budget(scope: Scope, budget: ByteBudget) -> None:
    """Let the application count what it holds of a connection."""
    scope["extensions"] = {**scope.get("extensions", {}), BYTE_BUDGET: {"budget": budget}}


def find_budget(scope: Scope) -> ByteBudget | None:
    """Return the budget of a connection, or None where none limits it."""
    budget: ByteBudget | None = scope.get("extensions", {}).get(BYTE_BUDGET, {}).get("budget")
    return budget
