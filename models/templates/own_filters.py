"""The filters that are ours: python-liquid's are quadratic here, unbounded, slow, or print Python's repr."""

import re
from datetime import UTC, datetime
from urllib.parse import quote_plus

from liquid import Environment
from liquid.filter import liquid_filter, sequence_filter, string_filter

from ringback.models.templates.budget import MAX_ITEMS, MAX_TEXT, LimitReached
from ringback.models.templates.formatting import json_of, text_of

#: Longest date and longest date format, in characters.
_MAX_DATE = 100
#: A width in a date format that no date fills: the C library tries larger and larger buffers for it, for nothing.
_TOO_WIDE = re.compile(r"(?<!%)(?:%%)*%[^%A-Za-z]*[0-9]{3}")
#: What is no text in HTML. A script, a style or a comment that is never closed hides all that follows; so no text is
#: searched twice, and the time is linear.
_MARKUP = re.compile(
    r"<script.*?(?:</script[^<>]*>|\Z)|<style.*?(?:</style[^<>]*>|\Z)|<!(?=--).*?(?:-->|\Z)|<[^<>]*>",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)

#: What stands for each byte in a query.
_QUOTED = {byte: quote_plus(bytes([byte])) for byte in range(256)}

#: python-liquid with all its filters, as it comes.
PRISTINE = Environment()


@liquid_filter
def date(value: object, form: object) -> str:
    """Write a point in time with strftime; UTC where the text does not say otherwise, unreadable text as it is."""
    text, form = text_of(value).strip(), text_of(form)
    if not text or not form or len(text) > _MAX_DATE:
        return text
    if len(form) > _MAX_DATE:
        raise LimitReached(f"a date format has at most {_MAX_DATE} characters")
    if _TOO_WIDE.search(form):
        raise LimitReached("a width in a date format has at most two digits")
    moment = _moment(text)
    # Python leaves %s to the C library, which knows local time only.
    return text if moment is None else moment.strftime(form.replace("%s", str(int(moment.timestamp()))))


def _moment(text: str) -> datetime | None:
    if text in ("now", "today"):
        return datetime.now(UTC)
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            # python-liquid reads what people write ("March 14, 2016"), and gives back what it cannot read.
            readable = PRISTINE.filters["date"](text, "%Y-%m-%dT%H:%M:%S.%f%z", environment=PRISTINE)
            moment = datetime.fromisoformat(readable)
    except (ArithmeticError, OSError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@sequence_filter
def join(items: list[object], separator: object = " ") -> str:
    """Join elements as they would be printed, once the length of the result is known to be harmless."""
    glue = text_of(separator)
    pieces = [text_of(item) for item in items]
    if sum(map(len, pieces)) + len(glue) * (len(pieces) - 1) > MAX_TEXT:
        raise LimitReached(f"'join' makes more than {MAX_TEXT} characters")
    return glue.join(pieces)


@sequence_filter
def map_(items: list[object], key: object) -> list[object]:
    """Take one field of each element, null where there is none."""
    name = text_of(key)
    return [item.get(name) if isinstance(item, dict) else None for item in items]


@string_filter
def replace(text: str, old: str, new: str = "") -> str:
    """Replace every occurrence, once the length of the result is known to be harmless."""
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT:
        raise LimitReached(f"'replace' makes more than {MAX_TEXT} characters")
    return text.replace(old, new)


@liquid_filter
def slice_(value: object, start: object, length: object = 1) -> object:
    """Take a part of a list, or of the text of anything else."""
    if not isinstance(value, list | tuple | range):
        value = text_of(value)
    return PRISTINE.filters["slice"](value, start, length)


@string_filter
def split(text: str, separator: str) -> list[str]:
    """Split, but never into more elements than the guard needs to see that there are too many."""
    if not text or text == separator:
        return []
    if not separator:
        return list(text[: MAX_ITEMS + 1])
    return text.split(None if separator == " " else separator, MAX_ITEMS)


@string_filter
def strip_html(text: str) -> str:
    """Drop tags and comments, and scripts and styles with what is in them; python-liquid's parser is quadratic."""
    if text.count("<") >= MAX_ITEMS:
        raise LimitReached(f"'strip_html' takes texts with less than {MAX_ITEMS} tags")
    return _MARKUP.sub("", text)


@sequence_filter
def uniq(items: list[object], key: object = None) -> list[object]:
    """Drop repeated elements by hashing them; python-liquid compares each with each."""
    seen: dict[tuple[type, object], object] = {}
    for item in items:
        part = item.get(text_of(key)) if key is not None and isinstance(item, dict) else item
        simple = json_of(part) if isinstance(part, dict | list | tuple) else part
        seen.setdefault((type(part), simple), item)
    return list(seen.values())


def url_encode(text: str) -> str:
    """Write text as a part of a query or a form, as urllib's `quote_plus` does; each of its bytes is looked up."""
    return text.encode().decode("latin-1").translate(_QUOTED)
