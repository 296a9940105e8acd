"""Content negotiation: the media type of a response, from `Accept`, and of a request, from `Content-Type`.

The most specific range decides the weight of a media type (RFC 9110, 12.5.1). Among types of equal weight, a named type
precedes one that a wildcard covers, and the type named first wins (GraphQL over HTTP, 6.1). A stream must be named:
clients that send `*/*` expect a response that ends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple


class Format(Enum):
    """Media types of responses."""

    JSON = "application/json"
    RESPONSE = "application/graphql-response+json"
    EVENTS = "text/event-stream"
    MULTIPART = "multipart/mixed"
    PAGE = "text/html"


#: In the server's order of preference, which decides between types covered by the same wildcard. JSON comes first:
#: most clients that send `*/*` predate application/graphql-response+json.
_RESULTS = (Format.JSON, Format.RESPONSE, Format.EVENTS)
_STREAMS = (Format.EVENTS, Format.MULTIPART)
#: Version of Apollo's multipart protocol for subscriptions; without it, multipart/mixed means something else.
_SUBSCRIPTION_SPEC = "1.0"
_UTF_8 = frozenset({"utf-8", "utf8"})
#: Longer headers are ignored, in bytes: a new header is parsed before the token is checked, and then cached.
MAX_HEADER_BYTES = 512
#: Ranges of an `Accept` header that are read: choosing a format compares each of them with each offer.
MAX_RANGES = 32

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*+")'
_PARAMETER = re.compile(rf"({_TOKEN})=({_VALUE})")
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:[ \t]*+;[ \t]*+(?:{_TOKEN}={_VALUE})?)*+)[ \t]*+")
#: An element of a list (RFC 9110, 5.6.1). A comma inside quotes does not end it.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+"?)++')
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The formats that a client accepts: for queries and mutations, for subscriptions, and whether it wants the page.

    None: the client accepts no supported format.
    """

    result: Format | None
    stream: Format | None
    page: bool
    page_with_query: bool

    @property
    def error(self) -> Format:
        """The format of an error response."""
        return self.result if self.result in (Format.JSON, Format.RESPONSE) else Format.JSON


_NOTHING = Accepted(result=None, stream=None, page=False, page_with_query=False)


def negotiate(accept: bytes | None) -> Accepted:
    """Return the formats that an `Accept` header allows: all if it is missing or empty, none if it is too long."""
    accept = accept or b"*/*"
    if len(accept) > MAX_HEADER_BYTES:
        return _NOTHING
    return _negotiate(accept)


@lru_cache(256)
def _negotiate(accept: bytes) -> Accepted:
    ranges = _parse_accept(accept)
    return Accepted(
        result=_choose_format(ranges, _RESULTS),
        stream=_choose_format(ranges, _STREAMS),
        page=_choose_format(ranges, (Format.PAGE, *_RESULTS)) is Format.PAGE,
        page_with_query=_choose_format(ranges, (*_RESULTS, Format.PAGE)) is Format.PAGE,
    )


def is_json(content_type: bytes) -> bool:
    """Return whether a `Content-Type` means JSON in UTF-8."""
    return len(content_type) <= MAX_HEADER_BYTES and _is_json(content_type)


@lru_cache(256)
def _is_json(content_type: bytes) -> bool:
    media_type = _parse_media_type(content_type.decode("latin-1"))
    return media_type is not None and media_type.name == Format.JSON.value and media_type.is_utf_8


@dataclass(frozen=True, slots=True)
class _MediaType:
    """A media type or range, in lower case: the names and values used here are case-insensitive."""

    name: str
    parameters: Mapping[str, str]

    @property
    def weight(self) -> float:
        """The client's preference, from 0 to 1."""
        return float(self.parameters.get("q", "1"))

    @property
    def is_utf_8(self) -> bool:
        """Whether the charset is UTF-8 or absent."""
        return self.parameters.get("charset", "utf-8") in _UTF_8

    def specificity(self, offer: Format) -> int:
        """Return how this range matches: 3 by name, 2 as `type/*`, 1 as `*/*`, 0 not at all."""
        if self.name == offer.value:
            if offer is Format.MULTIPART:
                matches = self.parameters.get("subscriptionspec") == _SUBSCRIPTION_SPEC
            else:
                matches = self.is_utf_8
            return 3 if matches else 0
        if offer in _STREAMS:
            return 0
        if self.name == f"{offer.value.partition('/')[0]}/*":
            return 2
        return 1 if self.name == "*/*" else 0


class _Match(NamedTuple):
    """The range that decides the weight of an offer. Offers are compared by these fields, in this order."""

    weight: float
    specificity: int
    #: The position in the header, negated: the type named first wins.
    earliness: int


_NO_MATCH = _Match(weight=0.0, specificity=0, earliness=0)


def _choose_format(ranges: Sequence[_MediaType], offers: Sequence[Format]) -> Format | None:
    """Return the offer that the client prefers, or None if it accepts none. The earlier offer wins a tie."""
    preferred, preferred_match = None, _NO_MATCH
    for offer in offers:
        match = _most_specific(ranges, offer)
        if match.weight > 0 and match > preferred_match:
            preferred, preferred_match = offer, match
    return preferred


def _most_specific(ranges: Sequence[_MediaType], offer: Format) -> _Match:
    best = _NO_MATCH
    for position, media_range in enumerate(ranges):
        specificity, weight = media_range.specificity(offer), media_range.weight
        if specificity and (specificity, weight) > (best.specificity, best.weight):
            best = _Match(weight=weight, specificity=specificity, earliness=-position)
    return best


def _parse_accept(accept: bytes) -> list[_MediaType]:
    """Return the first ranges of an `Accept` header. Malformed ones are skipped."""
    elements = _ELEMENT.findall(accept.decode("latin-1"))[:MAX_RANGES]
    ranges = map(_parse_media_type, elements)
    return [item for item in ranges if item is not None and _WEIGHT.fullmatch(item.parameters.get("q", "1"))]


def _parse_media_type(text: str) -> _MediaType | None:
    match = _MEDIA_TYPE.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    parameters = {name.lower(): _unquote(value).lower() for name, value in _PARAMETER.findall(match[2])}
    return _MediaType(name=match[1].lower(), parameters=parameters)


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
