"""Filters of text, or of text and lists. Most of those that they replace are quadratic, unbounded or slow."""

import re
from collections.abc import Sized
from urllib.parse import quote_plus, unquote_plus

from liquid import Environment
from liquid.exceptions import FilterArgumentError
from liquid.filter import liquid_filter, string_filter
from liquid.limits import to_int

from ringback.models.templates.budget import MAX_ITEMS, MAX_TEXT, LimitReached
from ringback.models.templates.decimals import DecimalValue
from ringback.models.templates.formatting import to_text

#: HTML tags, comments, scripts and styles. One that is never closed extends to the end of the text, so that no text is
#: searched twice and the time stays linear.
_MARKUP = re.compile(
    r"<script.*?(?:</script[^<>]*>|\Z)|<style.*?(?:</style[^<>]*>|\Z)|<!(?=--).*?(?:-->|\Z)|<[^<>]*>",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)

#: An ampersand that begins no HTML entity, as `escape_once` of Shopify's Liquid finds it.
_BARE_AMPERSAND = re.compile(r"&(?!(?:[a-zA-Z]+|#[0-9]+);)")
#: The entities that Ruby writes for all other characters of HTML.
_ENTITIES = str.maketrans({"<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})

#: The query encoding of each byte.
_QUOTED_BYTES = {byte: quote_plus(bytes([byte])) for byte in range(256)}

#: An unchanged python-liquid environment with all of its filters.
PRISTINE = Environment()


def escape(text: str) -> str:
    """Replace the characters of HTML by entities."""
    return text.replace("&", "&amp;").translate(_ENTITIES)


def escape_once(text: str) -> str:
    """Replace the characters of HTML by entities, but not those of an entity."""
    return _BARE_AMPERSAND.sub("&amp;", text).translate(_ENTITIES)


@string_filter
def replace(text: str, old: str, new: str = "") -> str:
    """Replace every occurrence, after checking the length of the result."""
    length = len(text) + text.count(old) * (len(new) - len(old))
    if length > MAX_TEXT:
        raise LimitReached(f"The result of 'replace' has more than {MAX_TEXT:,} characters. Use a shorter text")
    return text.replace(old, new)


def size(value: object) -> int:
    """Return the number of elements or characters. A decimal has those of its text."""
    if isinstance(value, DecimalValue):
        value = value.source
    return len(value) if isinstance(value, Sized) else 0


@liquid_filter
def slice_(value: object, start: object, length: object = 1) -> object:
    """Return a part of a list, or of the text of any other value. A length of nil is 1."""
    if length is None:
        length = 1
    if not isinstance(value, list | tuple | range):
        value = to_text(value)
    return PRISTINE.filters["slice"](value, start, length)


@string_filter
def split(text: str, separator: str) -> list[str]:
    """Split into at most MAX_ITEMS + 1 elements, one more than `Filter` allows. Empty ones at the end are left out."""
    if not text or text == separator:
        return []
    if not separator:
        return list(text[: MAX_ITEMS + 1])
    if separator == " ":
        return text.split(None, MAX_ITEMS)
    parts = text.split(separator, MAX_ITEMS)
    while parts and not parts[-1]:
        parts.pop()
    return parts


@string_filter
def strip_html(text: str) -> str:
    """Remove tags and comments, and scripts and styles with their contents. python-liquid's version is quadratic."""
    if text.count("<") >= MAX_ITEMS:
        raise LimitReached(f"The input of 'strip_html' has {MAX_ITEMS:,} or more '<' characters. Use a shorter text")
    return _MARKUP.sub("", text)


def truncate(text: str, length: str = "50", end: str = "...") -> str:
    """Shorten text that has more than `length` characters, of which `end` takes some."""
    most = _to_integer(length)
    return text if len(text) <= most else text[: max(most - len(end), 0)] + end


def truncatewords(text: str, count: str = "15", end: str = "...") -> str:
    """Shorten text that has more than `count` words."""
    most = max(_to_integer(count), 1)
    words = text.split(None, most) if most < len(text) else []
    return text if len(words) <= most else " ".join(words[:most]) + end


def url_decode(text: str) -> str:
    """Decode text from a query or a form. Raises UnicodeDecodeError for bytes that are not UTF-8, as Liquid does."""
    return unquote_plus(text, errors="strict")


def url_encode(text: str) -> str:
    """Encode text for a query or a form, with the result of urllib's `quote_plus`, by one look-up a byte."""
    return quote_bytes(text.encode())


def quote_bytes(data: bytes) -> str:
    """Encode bytes for a query or a form."""
    return data.decode("latin-1").translate(_QUOTED_BYTES)


def _to_integer(text: str) -> int:
    try:
        return to_int(text)
    except ValueError as error:
        raise FilterArgumentError("expected an integer", token=None) from error
