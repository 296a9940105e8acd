"""Filters of lists that replace python-liquid's: nil sorts last, 0 is not false, and time and output are limited."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from liquid.builtin.filters import array
from liquid.exceptions import FilterError
from liquid.filter import sequence_filter

from ringback.models.templates.budget import MAX_TEXT, LimitReached
from ringback.models.templates.decimals import DecimalValue
from ringback.models.templates.formatting import to_json, to_text


@sequence_filter
def compact(items: list[object], key: object = None) -> list[object]:
    """Remove nil, or the elements of which one field is nil or does not exist."""
    if key is None:
        return [item for item in items if item is not None]
    return [item for item in items if array._getitem(item, to_text(key)) is not None]


@sequence_filter
def join(items: list[object], separator: object = " ") -> str:
    """Join elements as they would be printed, after checking the length of the result."""
    glue = to_text(separator)
    pieces = [to_text(item) for item in items]
    length = sum(map(len, pieces)) + len(glue) * (len(pieces) - 1)
    if length > MAX_TEXT:
        raise LimitReached(f"The result of 'join' has more than {MAX_TEXT:,} characters. Join fewer elements")
    return glue.join(pieces)


@sequence_filter
def map_(items: list[object], key: object) -> list[object]:
    """Return one field of each element, or null for elements without it."""
    name = to_text(key)
    return [item.get(name) if isinstance(item, dict) else None for item in items]


@sequence_filter
def sort(items: list[object], key: object = None) -> list[object]:
    """Sort by value, or by one field of each element. Nil, and elements without the field, come last."""
    return _sort(items, key, _get_order)


@sequence_filter
def sort_natural(items: list[object], key: object = None) -> list[object]:
    """Sort by text, upper and lower case alike. Nil, and elements without the field, come last."""
    return _sort(items, key, lambda pair: to_text(pair[0]).lower())


@sequence_filter
def where(items: list[object], key: object, value: object = None) -> list[object]:
    """Return the elements whose field has this value, or any value but nil and false."""
    return [item for item in items if _matches(item, key, value)]


@sequence_filter
def reject(items: list[object], key: object, value: object = None) -> list[object]:
    """Return the elements that `where` leaves out."""
    if key is None:
        return []
    return [item for item in items if not _matches(item, key, value)]


@sequence_filter
def find(items: list[object], key: object, value: object = None) -> object:
    """Return the first element that `where` returns, or None."""
    return next((item for item in items if _matches(item, key, value)), None)


@sequence_filter
def find_index(items: list[object], key: object, value: object = None) -> int | None:
    """Return the index of the first element that `where` returns, or None."""
    return next((index for index, item in enumerate(items) if _matches(item, key, value)), None)


@sequence_filter
def has(items: list[object], key: object, value: object = None) -> bool:
    """Return whether `where` returns an element."""
    return any(_matches(item, key, value) for item in items)


@sequence_filter
def uniq(items: list[object], key: object = None) -> list[object]:
    """Remove repeated elements by hashing them. python-liquid compares each element with all others."""
    first_items: dict[tuple[type, object], object] = {}
    for item in items:
        compared = item.get(to_text(key)) if key is not None and isinstance(item, dict) else item
        hashable = to_json(compared) if isinstance(compared, dict | list | tuple) else compared
        first_items.setdefault((type(compared), hashable), item)
    return list(first_items.values())


def _sort(items: list[object], key: object, get_order: Callable[[tuple[object, object]], Any]) -> list[object]:
    """Sort elements by their value or one field. `get_order` gets that value with its element."""
    present: list[tuple[object, object]] = []
    absent: list[object] = []
    for item in items:
        value = array._getitem(item, to_text(key)) if key else item
        if value is None:
            absent.append(item)
        else:
            present.append((value, item))
    try:
        present.sort(key=get_order)
    except TypeError as error:
        raise FilterError("cannot compare these elements", token=None) from error
    return [item for _, item in present] + absent


def _get_order(pair: tuple[object, object]) -> object:
    """Return a value for sorting. A plain Decimal compares ten times as fast as a DecimalValue."""
    value = pair[0]
    return Decimal(value) if type(value) is DecimalValue else value


def _matches(item: object, key: object, value: object) -> bool:
    """Return whether an element's field has this value, or any value but nil and false if this one is nil."""
    field = array._getitem(item, key)
    if value is None:
        return field is not None and field is not False
    if isinstance(field, bool) is not isinstance(value, bool):  # in Python, 1 equals True
        return False
    return bool(field == value)
