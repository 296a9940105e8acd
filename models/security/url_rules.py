"""Rules for the URL and the header values of a webhook: pure, no DNS, no setting.

The text is checked before anything parses it, because `urlsplit` silently drops CR, LF and tab, and resolvers take
127.1, 0x7f.1 and 2130706433 for 127.0.0.1.
"""

import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from yarl import URL

from ringback.models.database.sql import is_storable
from ringback.models.errors import TemplateError
from ringback.models.security.address_policy import IPV4_NUMBER, parse_literal_address
from ringback.models.templates.known_text import UNKNOWN, render_known_text

#: Maximum length of a URL after its Liquid is rendered. Common servers and proxies accept it.
MAX_URL_CHARS = 2_048
MAX_HEADER_VALUE_CHARS = 4_096

_SCHEMES = ("http://", "https://")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
#: Scheme and authority of a URL in which UNKNOWN stands for parts of both.
_PARTIAL_AUTHORITY = re.compile(rf"([A-Za-z][A-Za-z0-9+.{UNKNOWN}-]*)://([^/?#]*)")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC_LABEL = re.compile(IPV4_NUMBER)
#: A Liquid tag or output, with the whitespace that its dashes strip.
_LIQUID = re.compile(r"(?:\s*\{\{-|\{\{).*?(?:-\}\}\s*|\}\})|(?:\s*\{%-|\{%).*?(?:-%\}\s*|%\})", re.DOTALL)
#: A control character other than tab.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: A path segment that means this or the parent directory (RFC 3986, 5.2.4; %2e as in the WHATWG URL standard). Some
#: servers decode slashes before they resolve it (nginx), take backslashes for slashes (IIS), or first drop what follows
#: a semicolon (Tomcat).
_DOT_SEGMENT = re.compile(r"(?:[/\\]|%2f|%5c)((?:\.|%2e){1,2})(?=[/\\;]|%2f|%5c|%3b|\Z)", re.IGNORECASE)
#: A character that no URL contains (RFC 3986, 2), or a percent sign that encodes nothing.
_UNSENDABLE = re.compile(r"""[^\x21-\x7e]|["<>^`{|}]|%(?![0-9A-Fa-f]{2})""")

_CREDENTIALS = "The URL carries credentials (user:password@); put them into a header instead."


class Target(NamedTuple):
    """The destination of a request.

    `origin` is scheme, host and port, and credentials if the URL has any. `path_and_query` is sent byte for byte; a URL
    of yarl would drop a final question mark. `text` is the whole URL as it is sent.
    """

    origin: URL
    path_and_query: str
    text: str


def parse_target(url: str) -> Target:
    """Return the target of a URL that `check_url` accepts.

    Path and query stay as written, except that characters that no URL contains are percent-encoded, as UTF-8. Dot
    segments between slashes are resolved: webhooks that were saved before `check_url` refused them still have some.
    """
    authority = _AUTHORITY.match(url)
    assert authority is not None, "`check_url` refuses URLs without a host"
    origin = URL(authority[0])
    path, mark, query = _UNSENDABLE.sub(_percent_encode, url[authority.end() :]).partition("?")
    path = path or "/"
    if _DOT_SEGMENT.search(path):
        path = _resolve_dot_segments(path)
    path_and_query = path + mark + query
    return Target(origin=origin, path_and_query=path_and_query, text=f"{origin.origin()}{path_and_query}")


def count_dot_segments(url: str) -> int:
    """Return the number of path segments . and .. that a URL, which may contain Liquid, holds as literal text."""
    static = url
    if "{" in url:
        static = _LIQUID.sub(UNKNOWN, url)
    return len(_find_dot_segments(static))


def check_url(url: str, *, allowed_dot_segments: int = 0) -> list[str]:
    """Return a sentence for each problem of the URL of a delivery, [] if there is none.

    Whether its address may be reached is up to `AddressPolicy.check_host`. `allowed_dot_segments` is the number
    of dot segments that the author of the webhook wrote, before that was refused.
    """
    if not url:
        return ["The URL is empty."]
    if len(url) > MAX_URL_CHARS:
        return [f"The URL is {len(url):,} characters long; at most {MAX_URL_CHARS:,} are allowed."]
    problems = _check_text(url) + _check_start(url)
    authority = _AUTHORITY.match(url)
    if authority is not None:
        problems += _check_authority(authority[1])
    dot_segments = _find_dot_segments(url)
    if len(dot_segments) > allowed_dot_segments:
        problems.append(_dot_segment_problem(dot_segments[0]))
    if problems or authority is None:
        return problems
    try:
        URL(authority[0])  # `parse_target` parses no more of it
    except ValueError as error:
        return [f"The URL is not valid: {error}"]
    return []


def check_url_template(url: str) -> list[str]:
    """Return a sentence for each problem of a URL that may contain Liquid, [] if there is none.

    Only the text outside Liquid is checked, so the rendered URL must pass `check_url` again.
    """
    if UNKNOWN in url:
        return check_url(url)
    return check_partial_url(_LIQUID.sub(UNKNOWN, url))


def check_partial_url(text: str) -> list[str]:
    """Return a sentence for each problem of a URL in which UNKNOWN stands for text that is not known yet."""
    if UNKNOWN not in text:
        return check_url(text)
    problems = _check_text(text.replace(UNKNOWN, ""))
    prefix = text.partition(UNKNOWN)[0]
    if not _may_have_scheme(prefix.lower()):
        problems += _check_start(prefix)
    authority = _PARTIAL_AUTHORITY.match(text)
    if authority is not None:
        problems += _check_authority(authority[2])
    dot_segments = _find_dot_segments(text)
    if dot_segments:
        problems.append(_dot_segment_problem(dot_segments[0]))
    return problems


def render_known_url(url: str) -> str:
    """Return a URL that may contain Liquid as deliveries will render it, with UNKNOWN for what depends on data.

    If the Liquid cannot be parsed, UNKNOWN stands for all of it.
    """
    try:
        return render_known_text(url).strip()
    except TemplateError:
        return _LIQUID.sub(UNKNOWN, url)


class Endpoint(NamedTuple):
    """Host and port that requests go to, each None if it is not known yet. The host is as DNS is asked for it."""

    host: str | None
    port: int | None


def find_endpoint(text: str) -> Endpoint:
    """Return the endpoint of a URL that `check_partial_url` accepts. UNKNOWN stands for text that is not known yet."""
    authority = _PARTIAL_AUTHORITY.match(text)
    if authority is None:
        return Endpoint(None, None)
    parts = _HOST_AND_PORT.fullmatch(authority[2])
    if parts is None:
        return Endpoint(None, None)
    host, port = None, None
    if UNKNOWN not in parts[1]:
        host = URL(f"http://{parts[1]}/").raw_host
        port = _DEFAULT_PORTS.get(authority[1].lower())
    if parts[2]:
        port = int(parts[2]) if _is_port(parts[2]) else None
    return Endpoint(host, port)


def check_header_value(value: str) -> str | None:
    """Return why a header value cannot be sent (RFC 9110, 5.5), as the predicate of a sentence, or None if it can."""
    if _CONTROL_CHARACTER.search(value):
        return "contains control characters. Remove them"
    if not is_storable(value):
        return "contains a lone surrogate character. Remove it"
    if len(value) > MAX_HEADER_VALUE_CHARS:
        return f"has {len(value):,} characters. Enter at most {MAX_HEADER_VALUE_CHARS:,}"
    return None


def _check_text(url: str) -> list[str]:
    problems = []
    if not url.isprintable() or " " in url:  # the space is the only whitespace that is printable
        problems.append("The URL contains whitespace or control characters; write them percent-encoded.")
    if "\\" in url:
        problems.append("The URL contains a backslash; write %5C, or / where a slash is meant.")
    if "#" in url:
        problems.append("The URL contains a #, and what follows it is never sent; write %23 to mean the character.")
    return problems


class _DotSegment(NamedTuple):
    """A path segment . or .. as it is spelled, and the part of the path before it."""

    spelling: str
    path_before: str


def _find_dot_segments(static: str) -> list[_DotSegment]:
    """Return the dot segments of a URL in which UNKNOWN stands for Liquid."""
    authority = _PARTIAL_AUTHORITY.match(static)
    start = 0 if authority is None else authority.end()
    path = static[start:].partition("?")[0]
    if "." not in path and "%" not in path:  # true of most paths, and quick to check
        return []
    return [_DotSegment(found[1], path[: found.start(1)]) for found in _DOT_SEGMENT.finditer(path)]


def _dot_segment_problem(segment: _DotSegment) -> str:
    path_before = segment.path_before.replace(UNKNOWN, "…")
    return (
        f"The path of the URL has the segment {segment.spelling} after {path_before}, "
        "and servers resolve it to another path; write that path."
    )


def _resolve_dot_segments(path: str) -> str:
    """Return an absolute path without its dot segments (RFC 3986, 5.2.4)."""
    resolved: list[str] = []
    for segment in path.split("/")[1:]:
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            del resolved[-1:]
        elif dots != ".":
            resolved.append(segment)
    if dots in (".", ".."):
        resolved.append("")
    return "/" + "/".join(resolved)


def _percent_encode(characters: re.Match[str]) -> str:
    encoded = characters[0].encode("utf-8", "surrogatepass")
    return "".join([f"%{byte:02X}" for byte in encoded])


def _may_have_scheme(prefix: str) -> bool:
    """Return whether a URL that starts with `prefix`, in lower case, may start with http:// or https://."""
    return any(scheme.startswith(prefix) or prefix.startswith(scheme) for scheme in _SCHEMES)


def _check_start(url: str) -> list[str]:
    start = _START.match(url)
    if start is not None and start[1].lower() not in ("http", "https"):
        return [f"The URL starts with {start[1]}:, but only https:// and http:// can be delivered to."]
    if start is None or start[2] is None:
        return ["The URL must start with https:// or http://."]
    return []


def _check_authority(authority: str) -> list[str]:
    if "@" in authority:
        return [_CREDENTIALS]
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None and UNKNOWN in authority:
        return []
    if parts is None:
        return [f"{authority} is not a host with an optional port."]
    host, port = parts[1], parts[2]
    if not host:
        return ["The URL has no host."]
    if UNKNOWN in host:
        return []
    problems = []
    if port and UNKNOWN not in port and not _is_port(port):
        problems.append(f"The port {port} is not a number from 1 to 65535.")
    host_problem = _check_host(host)
    if host_problem is not None:
        problems.append(host_problem)
    return problems


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535


@lru_cache(maxsize=4_096)
def _check_host(host: str) -> str | None:
    """Return the problem of a URL's host, which is not empty, or None if it is a name or a plain address."""
    literal = parse_literal_address(host)
    if host.startswith("[") and (not isinstance(literal, IPv6Address) or "%" in host or not host.isascii()):
        return f"{host} is not an IPv6 address without a zone."
    if literal is not None:
        plain = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
        if isinstance(literal, IPv4Address) and plain != str(literal):
            return f"{host} is an unusual spelling of {literal}; write it as {literal}."
        return None
    try:
        name = URL(f"http://{host}/").raw_host or ""
    except ValueError:  # IDNA's UnicodeError is a ValueError
        return f"{host} is not a valid host name."
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{host} is not a valid host name."
    # A name that ends in a number is an IPv4 address or nothing (WHATWG URL, "ends in a number").
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return f"{host} is neither a host name nor an IPv4 address."
    return None
