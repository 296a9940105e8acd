"""Which addresses a delivery may reach: pure policy, no DNS, no clock, no setting.

A webhook's URL is written by somebody who need not be trusted with the network that Ringback runs in, so a delivery
reaches public unicast addresses only, unless the operator opens a network. The tables follow the IANA special-purpose
registries (iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry) and the IPv6 allocation
(2000::/3 alone is global unicast). They are written out because `ipaddress.is_global` on Python 3.11 says True for
NAT64, 6to4, site-local, multicast and more, each of which can lead to a private host.
"""

import re
import socket
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

Address = IPv4Address | IPv6Address


Network = IPv4Network | IPv6Network


# The first match names the address, so a narrower network stands before the one around it. Rows of the registries that
# are globally reachable but no ordinary hosts (anycast services, AS112) are refused too.
_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "an address of “this network”"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud platform's internal address"),  # Azure's host agent: public by number only
        ("169.254.169.254/32", "the cloud metadata address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "an IETF protocol address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.31.196.0/24", "an AS112 address"),
        ("192.52.193.0/24", "an AMT relay address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "an AS112 address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("100::/64", "a discard-only address"),
        ("100:0:0:1::/64", "a dummy address"),
        ("2001::/32", "a Teredo address"),
        ("2001:2::/48", "a benchmarking address"),
        ("2001:10::/28", "an ORCHID address"),
        ("2001:20::/28", "an ORCHID address"),
        ("2001::/23", "an IETF protocol address"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("2620:4f:8000::/48", "an AS112 address"),
        ("3fff::/20", "a documentation address"),
        ("5f00::/16", "a segment-routing address"),
        ("fd00:ec2::254/128", "the cloud metadata address"),
        ("fc00::/7", "a private (unique local) address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)


_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")


_COMPATIBLE_V4 = IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What deliveries may reach: public unicast addresses, and the networks in `allow`, which the operator opened."""

    allow: tuple[Network, ...] = ()

    def refusal(self, address: Address, name: str | None = None) -> str | None:
        """Return the sentence that refuses `address`, or None when deliveries may reach it.

        `name` is the host name that led to it.
        """
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if any(address in network or (mapped is not None and mapped in network) for network in self.allow):
            return None
        kind = _special_kind(address)
        if kind is None:
            return None
        led_by = f"{name} → " if name is not None and literal_address(name) != address else ""
        return (
            f"{led_by}{_spelled(address)} is {kind}; deliveries reach public addresses only. "
            "To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
        )

    def refusal_for_host(self, host: str) -> str | None:
        """Return the sentence that refuses a host of a URL, as far as it is known without DNS; None when it may do.

        Literal addresses in any spelling are judged, and localhost with all below it (RFC 6761, section 6.3).
        """
        literal = literal_address(host)
        if literal is not None:
            return self.refusal(literal, host)
        name = host.rstrip(".").lower()
        if name != "localhost" and not name.endswith(".localhost"):
            return None
        refusals = [self.refusal(address, host) for address in (IPv4Address("127.0.0.1"), IPv6Address("::1"))]
        return refusals[0] if all(refusals) else None


def _special_kind(address: Address) -> str | None:
    """Return what kind of special address this is, as a noun with its article; None for public unicast."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return _special_kind(address.ipv4_mapped)
    for network, kind in _SPECIAL:
        if address in network:
            return kind
    if isinstance(address, IPv4Address):
        return None
    if address in _COMPATIBLE_V4:
        return _special_kind(_embedded_v4(address)) or "a deprecated IPv4-compatible address"
    return None if address in _GLOBAL_UNICAST_V6 else "not a global unicast address"


def _embedded_v4(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)


def _spelled(address: Address) -> str:
    holds_v4 = isinstance(address, IPv6Address) and (
        address.ipv4_mapped is not None or (address in _COMPATIBLE_V4 and int(address) > 1)
    )
    return f"{address} ({_embedded_v4(address)})" if isinstance(address, IPv6Address) and holds_v4 else str(address)


# inet_aton's grammar: one to four numbers, each decimal, octal (0…) or hexadecimal (0x…).
_NUMBER = r"(?:0[xX][0-9a-fA-F]+|[0-9]+)"


_LEGACY_V4 = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}")


@lru_cache(maxsize=4_096)
def literal_address(host: str) -> Address | None:
    """Return the IP address that `host` spells in any way that a resolver or an HTTP client understands, else None.

    Known are brackets, zone ids, percent-encoding, other digits and dots (NFKC, as IDNA maps them), a trailing dot, and
    inet_aton's decimal, octal, hexadecimal and short forms.
    """
    text = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".")
    text = text.removeprefix("[").removesuffix("]").partition("%")[0].rstrip(".")
    try:
        return ip_address(text)
    except ValueError:
        pass
    if not _LEGACY_V4.fullmatch(text):
        return None
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None
