"""Media types: what an answer is sent as, by `Accept`, and what a request is sent as, by `Content-Type`.

The rules are those of RFC 9110 (12.5.1): the most specific range says how welcome a type is. Among types that are
equally welcome, one that is named goes before one that a wildcard covers, and what is named first goes first (GraphQL
over HTTP, 6.1). A stream is sent to nobody who does not name it: who says `*/*` waits for an end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
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
def accepted(accept: bytes | None) -> Accepted:
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
    return parsed is not None and parsed[0] == Format.JSON.value and _is_utf_8(parsed[1])


@dataclass(frozen=True, slots=True)
class _Range:
    """A media range, and how welcome it is."""

    name: str
    parameters: Mapping[str, str]
    weight: float

    def fit(self, offer: Format) -> int:
        """How specifically it means the offer: by its name, by the first half of it, or as anything; 0 if not."""
        if self.name == offer.value:
            if offer is Format.MULTIPART:
                return 3 if self.parameters.get("subscriptionspec") == _SUBSCRIPTION_SPEC else 0
            return 3 if _is_utf_8(self.parameters) else 0
        if offer in _STREAMS:
            return 0
        if self.name == f"{offer.value.partition('/')[0]}/*":
            return 2
        return 1 if self.name == "*/*" else 0


def _best(ranges: Sequence[_Range], offers: Sequence[Format]) -> Format | None:
    ranked = []
    for order, offer in enumerate(offers):
        fits = [(fit, one.weight, -place) for place, one in enumerate(ranges) if (fit := one.fit(offer))]
        if fits:
            fit, weight, place = max(fits)
            ranked.append((weight, fit, place, -order))
    best = max(ranked, default=(0.0, 0, 0, 0))
    return offers[-best[3]] if best[0] > 0 else None


def _ranges(accept: bytes) -> list[_Range]:
    return list(_well_formed(accept.decode("latin-1"))) if len(accept) <= _MAX_HEADER else []


def _well_formed(accept: str) -> Iterator[_Range]:
    for element in _ELEMENT.findall(accept):
        parsed = _parsed(element)
        if parsed is not None:
            name, parameters = parsed
            weight = parameters.get("q", "1")
            if _WEIGHT.fullmatch(weight):
                yield _Range(name, parameters, float(weight))


def _parsed(text: str) -> tuple[str, dict[str, str]] | None:
    """Name and parameters, whose case does not matter where we look at them; None when it is no media type."""
    found = _MEDIA_TYPE.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    parameters = {name.lower(): _unquoted(value).lower() for name, value in _PARAMETER.findall(found[2])}
    return found[1].lower(), parameters


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _is_utf_8(parameters: Mapping[str, str]) -> bool:
    return parameters.get("charset", "utf-8") in _UTF_8
