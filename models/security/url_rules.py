"""What is wrong with a webhook's URL or header value: pure rules, no DNS, no setting.

Text is judged as text before anything parses it: `urlsplit` silently drops CR, LF and tab, and resolvers take 127.1,
0x7f.1 and 2130706433 for 127.0.0.1.
"""

import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from yarl import URL

from ringback.models.database.sql import is_storable
from ringback.models.security.address_policy import _NUMBER, literal_address

#: Characters that a URL may have once its Liquid is rendered; what common servers and proxies take.
MAX_URL_CHARS = 2_048


_NUMERIC_LABEL = re.compile(_NUMBER)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@lru_cache(maxsize=4_096)
def _host_problem(host: str) -> str | None:
    """Return what is wrong with a URL's host, which is not empty; None when it is a name or a plain address."""
    literal = literal_address(host)
    if host.startswith("[") and (not isinstance(literal, IPv6Address) or "%" in host):
        return f"{host} is not an IPv6 address without a zone."
    if literal is not None:
        plain = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
        odd = isinstance(literal, IPv4Address) and plain != str(literal)
        return f"{host} is an unusual spelling of {literal}; write it as {literal}." if odd else None
    try:
        name = URL(f"http://{host}/").raw_host or ""
    except ValueError:  # IDNA's UnicodeError is one
        return f"{host} is not a valid host name."
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{host} is not a valid host name."
    # A name that ends in a number is an IPv4 address or nothing (WHATWG URL, "ends in a number").
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return f"{host} is neither a host name nor an IPv4 address."
    return None


_BEGINNING = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_STARTS = ("http://", "https://")
_CREDENTIALS = "The URL carries credentials (user:password@); put them into a header instead."
# A tag or an output, with the whitespace that its dashes strip.
_LIQUID = re.compile(r"(?:\s*\{\{-|\{\{).*?(?:-\}\}\s*|\}\})|(?:\s*\{%-|\{%).*?(?:-%\}\s*|%\})", re.DOTALL)
# Stands for what Liquid will write; a noncharacter, so that nothing static equals it.
_UNKNOWN = "\ufdd0"


def check_url(url: str) -> list[str]:
    """Return a sentence for each thing that is wrong with the URL of a delivery; an empty list when it will do.

    Addresses are not judged here: see `AddressPolicy.refusal_for_host`.
    """
    if not url:
        return ["The URL is empty."]
    if len(url) > MAX_URL_CHARS:
        return [f"The URL is {len(url):,} characters long; at most {MAX_URL_CHARS:,} are allowed."]
    problems = _text_problems(url) + _beginning_problems(url)
    authority = _AUTHORITY.match(url)
    if authority is not None:
        problems += _authority_problems(authority[1])
    if problems:
        return problems
    try:
        URL(url)
    except ValueError as error:
        return [f"The URL is not valid: {error}"]
    return []


def check_url_template(url: str) -> list[str]:
    """Return a sentence for each thing that is wrong with a URL in which Liquid may stand.

    Without Liquid this is `check_url`. With it only what is known before rendering is checked, so the rendered URL must
    go through `check_url` again.
    """
    static = _LIQUID.sub(_UNKNOWN, url)
    if static == url:
        return check_url(url)
    problems = _text_problems(static.replace(_UNKNOWN, ""))
    known = static.partition(_UNKNOWN)[0]
    if not any(start.startswith(known.lower()) or known.lower().startswith(start) for start in _STARTS):
        problems += _beginning_problems(known)
    authority = _AUTHORITY.match(static)
    if authority is not None and _UNKNOWN not in authority[1]:
        problems += _authority_problems(authority[1])
    elif authority is not None and "@" in authority[1]:
        problems.append(_CREDENTIALS)
    return problems


def static_host(url: str) -> str | None:
    """Return the host of a URL in which Liquid may stand, as written; None when Liquid writes it or it has none."""
    authority = _AUTHORITY.match(_LIQUID.sub(_UNKNOWN, url))
    if authority is None or _UNKNOWN in authority[1]:
        return None
    parts = _HOST_AND_PORT.fullmatch(authority[1].rpartition("@")[2])
    return (parts[1] or None) if parts is not None else None


def _text_problems(url: str) -> list[str]:
    problems = []
    if not url.isprintable() or " " in url:  # which is the only white space that counts as printable
        problems.append("The URL contains whitespace or control characters; write them percent-encoded.")
    if "\\" in url:
        problems.append("The URL contains a backslash; write %5C, or / where a slash is meant.")
    if "#" in url:
        problems.append("The URL contains a #, and what follows it is never sent; write %23 to mean the character.")
    return problems


def _beginning_problems(url: str) -> list[str]:
    beginning = _BEGINNING.match(url)
    if beginning is not None and beginning[1].lower() not in ("http", "https"):
        return [f"The URL begins with {beginning[1]}:, but only https:// and http:// can be delivered to."]
    if beginning is None or beginning[2] is None:
        return ["The URL must begin with https:// or http://."]
    return []


def _authority_problems(authority: str) -> list[str]:
    if "@" in authority:
        return [_CREDENTIALS]
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None:
        return [f"{authority} is not a host with an optional port."]
    host, port = parts[1], parts[2]
    if not host:
        return ["The URL has no host."]
    problems = []
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        problems.append(f"The port {port} is not a number from 1 to 65535.")
    host_problem = _host_problem(host)
    return problems + ([host_problem] if host_problem is not None else [])


MAX_HEADER_VALUE = 4_096


def header_value_fault(value: str) -> str | None:
    """What is wrong with a header's value (RFC 9110, 5.5); None when it can be sent."""
    if any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in value):
        return "must not hold control characters"
    if not is_storable(value):
        return "must be Unicode text"
    if len(value) > MAX_HEADER_VALUE:
        return f"has {len(value):,} characters; {MAX_HEADER_VALUE:,} are allowed"
    return None
