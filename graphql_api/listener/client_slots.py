"""Limits on the connections of all clients together, and on the connections or requests of one client."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from starlette.types import Scope

from ringback.graphql_api.listener.refusals import Refusal
from ringback.models.settings import Network

#: The name of the ASGI extension whose keys are the slots that a request or WebSocket connection takes.
SLOTS = "ringback.client_slots"
#: Bits of an IPv6 address that count as one client: providers assign at least such a network.
IPV6_CLIENT_BITS = 64
#: Addresses whose client is cached.
CACHED_ADDRESSES = 4_096


class Slot(Protocol):
    """The part of a limit that a client has taken."""

    def exempt(self) -> None:
        """Stop counting for the client: its token was checked, and limits what the slot is used for."""

    def count_again(self) -> None:
        """Count for the client again, even beyond its limit."""


def exempt_client(scope: Scope) -> None:
    """Exempt the slots of a request or WebSocket connection, because its token was checked and it stays open."""
    for slot in _find_slots(scope):
        slot.exempt()


def count_client_again(scope: Scope) -> None:
    """Count the slots of a request again, because its stream has ended."""
    for slot in _find_slots(scope):
        slot.count_again()


def add_slot(scope: Scope, slot: Slot) -> None:
    """Add a slot to those that the request or WebSocket connection takes."""
    extensions = scope.get("extensions", {})
    scope["extensions"] = {**extensions, SLOTS: {**extensions.get(SLOTS, {}), slot: None}}


def _find_slots(scope: Scope) -> Iterable[Slot]:
    slots: Iterable[Slot] = scope.get("extensions", {}).get(SLOTS, ())
    return slots


class ClientSlots:
    """Slots for connections or requests, counted in total and by client. Trusted proxies count in total only."""

    def __init__(
        self, counted: str, *, max_per_client: int, max_total: int | None = None, proxies: Sequence[Network] = ()
    ) -> None:
        """Prepare the counts. `counted` names in messages what takes a slot, such as "connections"."""
        self._counted = counted
        self._max_per_client = max_per_client
        self._max_total = max_total
        self._proxies = tuple(proxies)
        self.total = 0
        self.by_client: Counter[str] = Counter()

    def take(self, host: str | None) -> "ClientSlot | Refusal":
        """Return a slot for the client at this address, or the refusal to send it."""
        if self._max_total is not None and self.total >= self._max_total:
            message = f"The server has {self.total:,} {self._counted}, the limit (RINGBACK_HTTP_MAX_CONNECTIONS)."
            return Refusal(503, f"{message} Try again later.")
        client = name_client(host, self._proxies)
        if client is not None and self.by_client[client] >= self._max_per_client:
            message = (
                f"Your address has {self._max_per_client:,} {self._counted}, the limit "
                "(RINGBACK_HTTP_MAX_CONNECTIONS_PER_ADDRESS)."
            )
            return Refusal(429, f"{message} End some of them, then try again.")
        return ClientSlot(self, client)

    def count(self, client: str | None, change: int) -> None:
        """Add to the count of a client."""
        if client is not None:
            self.by_client[client] += change
            if self.by_client[client] == 0:
                del self.by_client[client]


class ClientSlot:
    """A slot of one client, in use until it is released. While it is exempt, it counts in total only."""

    def __init__(self, slots: ClientSlots, client: str | None) -> None:
        self._slots = slots
        self._client = client
        self._is_exempt = False
        slots.total += 1
        slots.count(client, 1)

    def exempt(self) -> None:
        """Stop counting for the client."""
        if not self._is_exempt:
            self._is_exempt = True
            self._slots.count(self._client, -1)

    def count_again(self) -> None:
        """Count for the client again."""
        if self._is_exempt:
            self._is_exempt = False
            self._slots.count(self._client, 1)

    def release(self) -> None:
        """Free the slot. Call this once."""
        self.exempt()
        # A stream counts again after its connection is lost.
        self._client = None
        self._slots.total -= 1


@lru_cache(CACHED_ADDRESSES)
def name_client(host: str | None, proxies: tuple[Network, ...] = ()) -> str | None:
    """Return the name under which a client is counted, or None for one that is not: a trusted proxy.

    All clients with an unreadable address are one client.
    """
    try:
        address = ip_address(host or "")
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in proxies):
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), IPV6_CLIENT_BITS), strict=False))
    return str(address)
