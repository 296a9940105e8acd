"""Hypothesis strategies for spellings of hosts: of addresses and names that deliveries must not reach."""

import ipaddress
from collections.abc import Callable

from hypothesis import strategies as st

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Networks that are not public, and single addresses of interest.
_NETWORKS_V4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "127.0.0.1/32", "169.254.169.254/32", "168.63.129.16/32", "198.18.0.0/15", "224.0.0.0/4", "255.255.255.255/32",
]  # fmt: skip
_NETWORKS_V6 = ["::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "2001:db8::/32", "ff00::/8", "5f00::/16"]
_NAMES = ["localhost", "a.localhost", "x-1.y.localhost", "LOCALHOST", "Localhost"]
_DOTS = [".", "\u3002", "\uff0e", "\uff61", "\u2024"]
#: Characters that are not shown, and that mappings of host names drop.
_INVISIBLE = ["\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufe00", "\ufeff", "\u180e"]
#: The first digit of scripts whose digits software may take for 0 to 9.
_ZEROS = [0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7F6, 0x0660, 0x06F0, 0x0966, 0x09E6]
#: The letter a of alphabets that IDNA maps to ASCII, in lower and in upper case where there is one.
_SMALL_A = [0xFF41, 0x24D0, 0x1D41A, 0x1D4EA, 0x1D5BA, 0x1D68A]
_CAPITAL_A = [0xFF21, 0x24B6, 0x1D400, 0x1D4D0, 0x1D5A0, 0x1D670]


def forbidden_hosts() -> st.SearchStrategy[str]:
    """Return hosts of URLs that lead to an address that is not public, in plain or unusual spellings."""
    plain = st.one_of(st.sampled_from(_NAMES), _ipv4().flatmap(_spell_ipv4))
    in_one_script = st.tuples(plain, st.sampled_from(_ZEROS)).map(lambda pair: _write_digits(*pair))
    return st.one_of(plain.flatmap(_disguise), in_one_script, plain, _spell_ipv6())


def _ipv4() -> st.SearchStrategy[Address]:
    return st.sampled_from(_NETWORKS_V4).flatmap(lambda network: st.ip_addresses(v=4, network=network))


def _spell_ipv4(address: Address) -> st.SearchStrategy[str]:
    """Return the spellings that inet_aton takes: one to four numbers, each decimal, octal or hexadecimal."""
    octets = list(address.packed)

    def join(count: int) -> st.SearchStrategy[str]:
        numbers = [*octets[: count - 1], int.from_bytes(octets[count - 1 :])]
        return st.tuples(*map(_spell_number, numbers)).map(".".join)

    return st.integers(1, 4).flatmap(join)


def _spell_number(number: int) -> st.SearchStrategy[str]:
    return st.sampled_from([str(number), f"0{number:o}", f"000{number:o}", f"0x{number:x}", f"0X{number:08X}"])


def _spell_ipv6() -> st.SearchStrategy[str]:
    """Return literals of IPv6, also those in which an IPv4 address is embedded, in brackets."""
    native = st.sampled_from(_NETWORKS_V6).flatmap(lambda network: st.ip_addresses(v=6, network=network))
    embedding: list[Callable[[Address], str]] = [
        lambda address: f"::ffff:{address}",
        lambda address: f"::{address}",
        lambda address: f"64:ff9b::{address}",
        lambda address: f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::1",
        lambda address: f"::ffff:0:{address}",
    ]
    embedded = st.tuples(st.sampled_from(embedding), _ipv4()).map(lambda pair: ipaddress.IPv6Address(pair[0](pair[1])))
    address = st.one_of(native, embedded)
    spelled = address.flatmap(lambda one: st.sampled_from([str(one), one.exploded, str(one).upper()]))
    zoned = st.tuples(spelled, st.sampled_from(["", "", "", "%25lo", "%eth0"])).map("".join)
    return zoned.map(lambda text: f"[{text}]")


def _write_digits(host: str, zero: int) -> str:
    """Return a host with the digits of another script."""
    return "".join([chr(zero + int(character)) if character.isdigit() else character for character in host])


def _disguise(host: str) -> st.SearchStrategy[str]:
    """Return spellings of a host in which some characters are replaced, and invisible ones are added."""
    characters = st.tuples(*map(_disguise_character, host)).map("".join)
    end = st.sampled_from(["", "", *_DOTS, "..", "%2e"])
    return st.tuples(characters, end).map("".join)


def _disguise_character(character: str) -> st.SearchStrategy[str]:
    choices = [character] * 6
    if character == ".":
        choices += _DOTS
    elif character.isdigit():
        choices += [chr(zero + int(character)) for zero in _ZEROS]
    elif character.islower():
        choices += [chr(first + ord(character) - ord("a")) for first in _SMALL_A]
    elif character.isupper():
        choices += [chr(first + ord(character) - ord("A")) for first in _CAPITAL_A]
    choices.append(f"%{ord(character):02x}")
    seldom = st.sampled_from([""] * 30 + _INVISIBLE)
    return st.tuples(st.sampled_from(choices), seldom).map("".join)


def written_by_constants(text: str) -> st.SearchStrategy[str]:
    """Return Liquid that renders to a text, whatever the data."""
    cut = st.integers(0, len(text)).map(lambda at: (text[:at], text[at:]))
    return cut.flatmap(lambda parts: st.sampled_from(_write_by_constants(*parts)))


def _write_by_constants(start: str, end: str) -> list[str]:
    return [
        f"{start}{{{{ '{end}' }}}}",
        f"{{{{ '{start}' | append: '{end}' }}}}",
        f"{{% assign h = '{end}' %}}{start}{{{{ h }}}}",
        f"{{% assign h = item.name %}}{{% assign h = '{start}' %}}{{{{ h }}}}{end}",
        f"{{% capture h %}}{start}{{{{ '{end}' }}}}{{% endcapture %}}{{{{ h }}}}",
        f"{{% if 1 == 1 %}}{start}{end}{{% else %}}{{{{ item.name }}}}{{% endif %}}",
        f"{{% for part in (1..1) %}}{start}{{% endfor %}}{end}",
        f"{start}{{{{ 'x{end}' | remove_first: 'x' }}}}",
    ]
