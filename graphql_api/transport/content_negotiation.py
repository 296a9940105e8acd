"""Media types: what an answer is sent as, by `Accept`, and what a request is sent as, by `Content-Type`.

The rules are those of RFC 9110 (12.5.1): the most specific range says how welcome a type is. Among types that are
equally welcome, one that is named goes before one that a wildcard covers, and what is named first goes first (GraphQL
over HTTP, 6.1). A stream is sent to nobody who does not name it: who says `*/*` waits for an end.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


class Format(Enum):
    """What an answer can be sent as."""

    JSON = "application/json"
    RESPONSE = "application/graphql-response+json"
    EVENTS = "text/event-stream"
    MULTIPART = "multipart/mixed"
    PAGE = "text/html"


#: In the server's own order of preference, which counts where a wildcard leaves the choice to it. Clients that say
#: `*/*` mostly are of the time before application/graphql-response+json.
_RESULTS = (Format.JSON, Format.RESPONSE, Format.EVENTS)
_STREAMS = (Format.EVENTS, Format.MULTIPART)
#: The version of Apollo's protocol for subscriptions by multipart/mixed; without it, that type means something else.
_SUBSCRIPTION_SPEC = "1.0"
_UTF_8 = frozenset({"utf-8", "utf8"})
#: A longer header is not looked at.
_MAX_HEADER = 4_096

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*+")'
_PARAMETER = re.compile(rf"({_TOKEN})=({_VALUE})")
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:[ \t]*+;[ \t]*+(?:{_TOKEN}={_VALUE})?)*+)[ \t]*+")
#: The elements of a list (RFC 9110, 5.6.1); a comma within quotes ends none.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+"?)++')
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What one client takes: for results of queries and mutations, for subscriptions, and when it means the page.

    None stands for nothing that there is.
    """

    result: Format | None
    stream: Format | None
    page: bool
    page_with_query: bool

    @property
    def error(self) -> Format:
        """What a refusal is sent as."""
        return self.result if self.result in (Format.JSON, Format.RESPONSE) else Format.JSON


@lru_cache(256)
def negotiate(accept: bytes | None) -> Accepted:
    """What the client takes, by its `Accept`; one that sends none, or an empty one, takes anything."""
    ranges = _ranges(accept or b"*/*")
    return Accepted(
        result=_best(ranges, _RESULTS),
        stream=_best(ranges, _STREAMS),
        page=_best(ranges, (Format.PAGE, *_RESULTS)) is Format.PAGE,
        page_with_query=_best(ranges, (*_RESULTS, Format.PAGE)) is Format.PAGE,
    )


@lru_cache(256)
def is_json(content_type: bytes) -> bool:
    """Whether a request's `Content-Type` means JSON in UTF-8."""
    parsed = _parsed(content_type.decode("latin-1")) if len(content_type) <= _MAX_HEADER else None
    return parsed is not None and parsed.name == Format.JSON.value and parsed.is_utf_8


@dataclass(frozen=True, slots=True)
class _MediaType:
    """A media type or range. The case of names and values does not matter where we look at them."""

    name: str
    parameters: Mapping[str, str]

    @property
    def weight(self) -> float:
        """How welcome a range is."""
        return float(self.parameters.get("q", "1"))

    @property
    def is_utf_8(self) -> bool:
        """Whether its charset, if it has one, is UTF-8."""
        return self.parameters.get("charset", "utf-8") in _UTF_8

    def fit(self, offer: Format) -> int:
        """How specifically it means the offer: by its name, by the first half of it, or as anything; 0 if not."""
        if self.name == offer.value:
            if offer is Format.MULTIPART:
                return 3 if self.parameters.get("subscriptionspec") == _SUBSCRIPTION_SPEC else 0
            return 3 if self.is_utf_8 else 0
        if offer in _STREAMS:
            return 0
        if self.name == f"{offer.value.partition('/')[0]}/*":
            return 2
        return 1 if self.name == "*/*" else 0


def _best(ranges: Sequence[_MediaType], offers: Sequence[Format]) -> Format | None:
    ranked = []
    for order, offer in enumerate(offers):
        fits = [(fit, one.weight, -place) for place, one in enumerate(ranges) if (fit := one.fit(offer))]
        if fits:
            fit, weight, place = max(fits)
            ranked.append((weight, fit, place, -order))
    best = max(ranked, default=(0.0, 0, 0, 0))
    return offers[-best[3]] if best[0] > 0 else None


def _ranges(accept: bytes) -> list[_MediaType]:
    """The ranges of an `Accept`, without those that are malformed."""
    if len(accept) > _MAX_HEADER:
        return []
    parsed = [_parsed(element) for element in _ELEMENT.findall(accept.decode("latin-1"))]
    return [one for one in parsed if one is not None and _WEIGHT.fullmatch(one.parameters.get("q", "1"))]


def _parsed(text: str) -> _MediaType | None:
    """The media type in a text, or None."""
    found = _MEDIA_TYPE.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    parameters = {name.lower(): _unquoted(value).lower() for name, value in _PARAMETER.findall(found[2])}
    return _MediaType(found[1].lower(), parameters)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
