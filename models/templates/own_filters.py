"""Filters that replace python-liquid's, which are quadratic, unbounded or slow, or print Python's repr."""

import re
from datetime import UTC, datetime
from urllib.parse import quote_plus

from liquid import Environment
from liquid.filter import liquid_filter, sequence_filter, string_filter

from ringback.models.templates.budget import MAX_ITEMS, MAX_TEXT, LimitReached
from ringback.models.templates.formatting import to_json, to_text

#: Longest date and longest date format, in characters.
_MAX_DATE = 100
#: A field width of three or more digits in a date format: the C library retries with ever larger buffers for it.
_TOO_WIDE = re.compile(r"(?<!%)(?:%%)*%[^%A-Za-z]*[0-9]{3}")
#: HTML tags, comments, scripts and styles. One that is never closed extends to the end of the text, so that no text is
#: searched twice and the time stays linear.
_MARKUP = re.compile(
    r"<script.*?(?:</script[^<>]*>|\Z)|<style.*?(?:</style[^<>]*>|\Z)|<!(?=--).*?(?:-->|\Z)|<[^<>]*>",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)

#: The query encoding of each byte.
_QUOTED_BYTES = {byte: quote_plus(bytes([byte])) for byte in range(256)}

#: An unchanged python-liquid environment with all of its filters.
PRISTINE = Environment()


@liquid_filter
def date(value: object, form: object) -> str:
    """Format a date with strftime.

    A date without an offset is read as UTC. Text that is not a date is returned unchanged.
    """
    text, date_format = to_text(value).strip(), to_text(form)
    if not text or not date_format or len(text) > _MAX_DATE:
        return text
    if len(date_format) > _MAX_DATE:
        raise LimitReached(f"The date format has more than {_MAX_DATE} characters. Shorten it")
    if _TOO_WIDE.search(date_format):
        raise LimitReached("The date format contains a width of more than two digits. Use at most two")
    timestamp = _parse_date(text)
    if timestamp is None:
        return text
    # Python leaves %s to the C library, which assumes local time.
    seconds = str(int(timestamp.timestamp()))
    return timestamp.strftime(date_format.replace("%s", seconds))


def _parse_date(text: str) -> datetime | None:
    if text in ("now", "today"):
        return datetime.now(UTC)
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        try:
            timestamp = datetime.fromisoformat(text)
        except ValueError:
            # python-liquid also reads dates such as "March 14, 2016", and returns unreadable text unchanged.
            iso_text = PRISTINE.filters["date"](text, "%Y-%m-%dT%H:%M:%S.%f%z", environment=PRISTINE)
            timestamp = datetime.fromisoformat(iso_text)
    except (ArithmeticError, OSError, ValueError):
        return None
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=UTC)
    return timestamp


@sequence_filter
def join(items: list[object], separator: object = " ") -> str:
    """Join elements as they would be printed, after checking the length of the result."""
    glue = to_text(separator)
    pieces = [to_text(item) for item in items]
    length = sum(map(len, pieces)) + len(glue) * (len(pieces) - 1)
    if length > MAX_TEXT:
        raise LimitReached(f"The result of 'join' has more than {MAX_TEXT:,} characters")
    return glue.join(pieces)


@sequence_filter
def map_(items: list[object], key: object) -> list[object]:
    """Return one field of each element, or null for elements without it."""
    name = to_text(key)
    return [item.get(name) if isinstance(item, dict) else None for item in items]


@string_filter
def replace(text: str, old: str, new: str = "") -> str:
    """Replace every occurrence, after checking the length of the result."""
    length = len(text) + text.count(old) * (len(new) - len(old))
    if length > MAX_TEXT:
        raise LimitReached(f"The result of 'replace' has more than {MAX_TEXT:,} characters")
    return text.replace(old, new)


@liquid_filter
def slice_(value: object, start: object, length: object = 1) -> object:
    """Return a part of a list, or of the text of any other value."""
    if not isinstance(value, list | tuple | range):
        value = to_text(value)
    return PRISTINE.filters["slice"](value, start, length)


@string_filter
def split(text: str, separator: str) -> list[str]:
    """Split into at most MAX_ITEMS + 1 elements, one more than `Filter` allows."""
    if not text or text == separator:
        return []
    if not separator:
        return list(text[: MAX_ITEMS + 1])
    if separator == " ":
        return text.split(None, MAX_ITEMS)
    return text.split(separator, MAX_ITEMS)


@string_filter
def strip_html(text: str) -> str:
    """Remove tags and comments, and scripts and styles with their contents. python-liquid's version is quadratic."""
    if text.count("<") >= MAX_ITEMS:
        raise LimitReached(f"The input of 'strip_html' has {MAX_ITEMS:,} or more '<' characters")
    return _MARKUP.sub("", text)


@sequence_filter
def uniq(items: list[object], key: object = None) -> list[object]:
    """Remove repeated elements by hashing them. python-liquid compares each element with all others."""
    first_items: dict[tuple[type, object], object] = {}
    for item in items:
        compared = item.get(to_text(key)) if key is not None and isinstance(item, dict) else item
        hashable = to_json(compared) if isinstance(compared, dict | list | tuple) else compared
        first_items.setdefault((type(compared), hashable), item)
    return list(first_items.values())


def url_encode(text: str) -> str:
    """Encode text for a query or a form, with the result of urllib's `quote_plus`, by one look-up a byte."""
    return quote_bytes(text.encode())


def quote_bytes(data: bytes) -> str:
    """Encode bytes for a query or a form."""
    return data.decode("latin-1").translate(_QUOTED_BYTES)
