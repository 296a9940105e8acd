"""The addresses that deliveries may reach: pure policy, no DNS, no clock, no setting.

`jobs/http/sender.py` and `guarded_resolver.py` enforce it.

The authors of webhooks may not be trusted with the network in which Ringback runs, so deliveries reach only public
unicast addresses and networks that the operator allows. Ports below 1024 belong to system services, some of which take
the lines of a request for commands, so by default only those of HTTP are reached. The table follows the IANA
special-purpose registries (iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry) and the IPv6
allocation (only 2000::/3 is global unicast). It is written out because `ipaddress.is_global` on Python 3.11 is True for
NAT64, 6to4, site-local, multicast and other addresses that can lead to a private host.
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

#: One number of an IPv4 address in inet_aton's grammar and the WHATWG's: decimal, octal (0…) or hexadecimal (0x…).
IPV4_NUMBER = r"(?:0[xX][0-9a-fA-F]*|[0-9]+)"
#: inet_aton's grammar of an address: one to four numbers.
_INET_ATON = re.compile(rf"{IPV4_NUMBER}(?:\.{IPV4_NUMBER}){{0,3}}")

#: Ports that deliveries may reach: HTTP, HTTPS, and all that are not reserved for system services.
DEFAULT_PORTS = (range(80, 81), range(443, 444), range(1_024, 65_536))

#: The networks of a name such as localhost, which has addresses of both kinds.
_LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_COMPATIBLE_V4 = IPv6Network("::/96")
#: The first match names the address, so a network precedes the larger ones that contain it. Networks of the registries
#: that are globally reachable but hold no ordinary hosts (anycast services, AS112) are included.
_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "an address of “this network”"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud platform's internal address"),  # Azure's host agent, reachable only inside Azure
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


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The addresses that deliveries may reach: public unicast ones at `ports`, and the networks in `allow` at any."""

    allow: tuple[Network, ...] = ()
    ports: tuple[range, ...] = DEFAULT_PORTS

    def refusal(self, address: Address, port: int | None = None, *, name: str | None = None) -> str | None:
        """Return why deliveries must not reach `address` at `port`, or None if they may. A port of None is unknown.

        `name` is the host name that resolved to the address. The message then omits the address, because
        authors of webhooks must not learn the addresses of internal names.
        """
        spellings: list[Address] = [address]
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            spellings.append(address.ipv4_mapped)
        if any(spelling in network for network in self.allow for spelling in spellings):
            return None
        kind = _find_special_kind(address)
        if kind is None:
            return self._port_refusal(port)
        fact = f"{_format_address(address)} is {kind}"
        networks = _find_network(spellings[-1])
        if name is not None:
            fact = f"{name} resolves to {kind}"
            networks = _LOOPBACK_NETWORKS if spellings[-1].is_loopback else "its network"
        return (
            f"{fact}; deliveries reach public addresses only. "
            f"To allow it, add {networks} to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
        )

    def check_host(self, host: str, port: int | None = None) -> str | None:
        """Return the reason to refuse the host of a URL before DNS is asked, or None if there is none.

        Covers literal addresses in any spelling, localhost with its subdomains (RFC 6761, section 6.3), and the port
        unless it is None.
        """
        literal = parse_literal_address(host)
        if literal is not None:
            return self.refusal(literal, port)
        name = host.rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            loopback = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
            refusals = [self.refusal(address, name=host) for address in loopback]
            return refusals[0] if all(refusals) else None
        return self.check_port(port)

    def check_port(self, port: int | None) -> str | None:
        """Return why deliveries must not reach a port of any host, or None if that depends on the host's address."""
        if self.allow:
            return None
        return self._port_refusal(port)

    def _port_refusal(self, port: int | None) -> str | None:
        if port is None or any(port in allowed for allowed in self.ports):
            return None
        allowed_ports = ", ".join([_format_range(allowed) for allowed in self.ports])
        return (
            f"Port {port} is not allowed; deliveries reach the ports {allowed_ports} only. "
            "To allow it, add it to RINGBACK_ALLOW_PORTS."
        )


@lru_cache(maxsize=4_096)
def parse_literal_address(host: str) -> Address | None:
    """Return the IP address that `host` spells in any form that a resolver or HTTP client accepts, or None.

    Accepts brackets, zone ids, percent-encoding, other digits and dots (NFKC, as IDNA maps them, and digits of other
    scripts), a trailing dot, and inet_aton's decimal, octal, hexadecimal and short forms.
    """
    text = _to_ascii_digits(unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", "."))
    text = text.removeprefix("[").removesuffix("]").partition("%")[0].rstrip(".")
    try:
        return ip_address(text)
    except ValueError:
        pass
    if not _INET_ATON.fullmatch(text):
        return None
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _to_ascii_digits(text: str) -> str:
    """Return the text with the decimal digits of all scripts written as 0 to 9."""
    if text.isascii():
        return text
    return "".join([str(unicodedata.decimal(character, character)) for character in text])


def _find_special_kind(address: Address) -> str | None:
    """Return the kind of a special address as a noun with its article; None for public unicast addresses."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return _find_special_kind(address.ipv4_mapped)
    for network, kind in _SPECIAL:
        if address in network:
            return kind
    if isinstance(address, IPv4Address):
        return None
    if address in _COMPATIBLE_V4:
        return _find_special_kind(_embedded_v4(address)) or "a deprecated IPv4-compatible address"
    return None if address in _GLOBAL_UNICAST_V6 else "not a global unicast address"


def _find_network(address: Address) -> str:
    """Return the network that allows an address: all IPv4 loopback addresses, or the address alone."""
    if isinstance(address, IPv4Address) and address.is_loopback:
        return "127.0.0.0/8"
    return f"{address}/{address.max_prefixlen}"


def _embedded_v4(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)


def _format_range(ports: range) -> str:
    if len(ports) == 1:
        return str(ports[0])
    return f"{ports[0]}-{ports[-1]}"


def _format_address(address: Address) -> str:
    """Return the address, followed by the IPv4 address that it embeds, if any."""
    if isinstance(address, IPv4Address):
        return str(address)
    is_compatible = address in _COMPATIBLE_V4 and int(address) > 1
    if address.ipv4_mapped is None and not is_compatible:
        return str(address)
    return f"{address} ({_embedded_v4(address)})"
