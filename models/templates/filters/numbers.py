"""Filters that compute, with decimals, integers and floats.

As in Shopify's Liquid, text such as "350.50" counts as that number, other text as the integer that it starts with
("12 pcs" as 12, "350,50" as 350) or 0, and everything else as 0. A result is a decimal if an operand is, else a float
if an operand is, else an integer.
"""

import re

from liquid.exceptions import FilterArgumentError
from liquid.filter import sequence_filter
from liquid.limits import to_int

from ringback.models.templates import decimals
from ringback.models.templates.decimals import DecimalValue, Number

#: Ruby's to_i reads integers so.
_match_integer = re.compile(r"\s*[+-]?[0-9]+(?:_[0-9]+)*", re.ASCII).match
#: Shopify's Liquid reads this text as a decimal.
_match_decimal = re.compile(r"\s*-?[0-9]+\.[0-9]+\s*", re.ASCII).fullmatch


def to_number(value: object) -> Number:
    """Return a value as a number, or 0 if it is none."""
    if isinstance(value, DecimalValue):
        return value
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return 0
    if _match_decimal(value) is not None:
        return float(value)
    integer = _match_integer(value)
    return 0 if integer is None else to_int(integer[0])


def abs_(value: object) -> Number:
    """Return the absolute value."""
    number = to_number(value)
    return abs(number) if isinstance(number, int) else decimals.remove_sign(number)


def at_least(value: object, other: object) -> Number:
    """Return the larger of two numbers."""
    left, right = to_number(value), to_number(other)
    return max(left, right)


def at_most(value: object, other: object) -> Number:
    """Return the smaller of two numbers."""
    left, right = to_number(value), to_number(other)
    return min(left, right)


def ceil(value: object) -> int:
    """Round up to an integer."""
    return decimals.round_up(to_number(value))


def floor(value: object) -> int:
    """Round down to an integer."""
    return decimals.round_down(to_number(value))


def plus(value: object, other: object) -> Number:
    """Add."""
    left, right = to_number(value), to_number(other)
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return decimals.add(left, right)


def minus(value: object, other: object) -> Number:
    """Subtract."""
    left, right = to_number(value), to_number(other)
    if isinstance(left, int) and isinstance(right, int):
        return left - right
    return decimals.subtract(left, right)


def times(value: object, other: object) -> Number:
    """Multiply."""
    left, right = to_number(value), to_number(other)
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    return decimals.multiply(left, right)


def divided_by(value: object, other: object) -> Number:
    """Divide. The quotient of two integers is rounded down."""
    left, right = to_number(value), to_number(other)
    try:
        if isinstance(left, int) and isinstance(right, int):
            return left // right
        return decimals.divide(left, right)
    except ZeroDivisionError as error:
        raise FilterArgumentError("division by zero", token=None) from error


def modulo(value: object, other: object) -> Number:
    """Return the remainder of a division, with the sign of the divisor."""
    left, right = to_number(value), to_number(other)
    try:
        if isinstance(left, int) and isinstance(right, int):
            return left % right
        return decimals.find_remainder(left, right)
    except ZeroDivisionError as error:
        raise FilterArgumentError("division by zero", token=None) from error


def round_(value: object, places: object = 0) -> Number:
    """Round to a number of decimals, halves away from zero."""
    number, count = to_number(value), int(to_number(places))
    if isinstance(number, int) and count >= 0:
        return number
    return decimals.round_half_up(number, count)


@sequence_filter
def sum_(items: list[object], key: object = None) -> Number:
    """Add the elements, or one field of each."""
    if key is not None:
        items = [_get_field(item, key) for item in items]
    numbers = [to_number(item) for item in items]
    integers = [number for number in numbers if isinstance(number, int)]
    if len(integers) == len(numbers):
        return sum(integers)
    return decimals.add_all(numbers)


def _get_field(item: object, key: object) -> object:
    if not isinstance(item, dict):
        raise FilterArgumentError("cannot select a field of this element", token=None)
    return item.get(key)
