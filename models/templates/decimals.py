"""Decimal numbers in templates: the value class, and exact arithmetic.

A decimal field is text in a snapshot ("350.50"). In a template it is a DecimalValue, which compares and computes as a
number and prints as stored. A computed value has as many decimals as its most precise operand, and more where they are
not zero.
"""

import re
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import TypeAlias

from ringback.models.templates.budget import LimitReached

Number: TypeAlias = int | float | Decimal

#: Longest text that is read as a decimal, in characters.
_MAX_CHARACTERS = 300
#: Maximum number of digits before the point of a result.
_MAX_DIGITS = 600
#: Maximum number of digits after the point of a result.
_MAX_PLACES = 100
_match_decimal = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?").fullmatch
#: Sums, differences, products and remainders are exact before they are cut to _MAX_PLACES.
_EXACT = Context(prec=4 * (_MAX_DIGITS + _MAX_PLACES))
#: Quotients have at least 28 significant digits.
_QUOTIENT = Context(prec=28)


class DecimalValue(Decimal):
    """The value of a decimal field, or a number computed from one.

    `source` is its value in JSON, text or a number, and `text` is what it prints. Compares by value, also with floats
    (0.1 is a tenth) and with text that is a number.
    """

    __slots__ = ("source", "text")
    source: str | int | float
    text: str

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        number = _to_comparable(other)
        return number is not None and Decimal.__eq__(self, number)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: object) -> bool:
        number = _to_comparable(other)
        return NotImplemented if number is None else Decimal.__lt__(self, number)

    def __le__(self, other: object) -> bool:
        number = _to_comparable(other)
        return NotImplemented if number is None else Decimal.__le__(self, number)

    def __gt__(self, other: object) -> bool:
        number = _to_comparable(other)
        return NotImplemented if number is None else Decimal.__gt__(self, number)

    def __ge__(self, other: object) -> bool:
        number = _to_comparable(other)
        return NotImplemented if number is None else Decimal.__ge__(self, number)

    __hash__ = Decimal.__hash__


def read_decimal(value: object) -> object:
    """Return a JSON value as a DecimalValue, or unchanged if it is not a decimal number."""
    if type(value) is str:  # the usual case
        if _match_decimal(value) is None or len(value) > _MAX_CHARACTERS:
            return value
        number = DecimalValue(value)
        number.source = number.text = value
        return number
    if isinstance(value, bool | DecimalValue) or not isinstance(value, int | float | Decimal):
        return value
    text = str(value)
    if not is_decimal(text):
        return value
    number = DecimalValue(text)
    number.text = text
    number.source = text if isinstance(value, Decimal) else value
    return number


def is_decimal(text: str) -> bool:
    """Return whether a text is a decimal number, such as "350.50"."""
    return len(text) <= _MAX_CHARACTERS and _match_decimal(text) is not None


def add(left: Number, right: Number) -> Number:
    """Return the sum. Raises LimitReached, as all arithmetic here does."""
    return _wrap(_EXACT.add(_to_decimal(left), _to_decimal(right)), left, right)


def add_all(numbers: Sequence[Number]) -> Number:
    """Return the sum of all numbers."""
    total = Decimal(0)
    for number in numbers:
        total = _EXACT.add(total, _to_decimal(number))
    return _wrap(total, *numbers)


def subtract(left: Number, right: Number) -> Number:
    """Return the difference."""
    return _wrap(_EXACT.subtract(_to_decimal(left), _to_decimal(right)), left, right)


def multiply(left: Number, right: Number) -> Number:
    """Return the product."""
    product = _EXACT.multiply(_to_decimal(left), _to_decimal(right))
    if isinstance(left, int) or isinstance(right, int):
        return _wrap(product, left, right)
    return _wrap(_trim(product, left, right), left, right)


def divide(left: Number, right: Number) -> Number:
    """Return the quotient. Raises ZeroDivisionError."""
    dividend, divisor = _to_decimal(left), _to_decimal(right)
    is_long = max(len(dividend.as_tuple().digits), len(divisor.as_tuple().digits)) > _QUOTIENT.prec
    context = _EXACT if is_long else _QUOTIENT
    quotient = context.divide(dividend, _check_divisor(divisor))
    return _wrap(_trim(quotient, left, right), left, right)


def find_remainder(left: Number, right: Number) -> Number:
    """Return the remainder of a division, which has the sign of the divisor as in Ruby. Raises ZeroDivisionError."""
    divisor = _check_divisor(_to_decimal(right))
    remainder = _EXACT.remainder(_to_decimal(left), divisor)
    if remainder and (remainder < 0) is not (divisor < 0):
        remainder = _EXACT.add(remainder, divisor)
    return _wrap(remainder, left, right)


def remove_sign(number: Number) -> Number:
    """Return the absolute value."""
    return _wrap(_to_decimal(number).copy_abs(), number)


def round_half_up(number: Number, places: int) -> Number:
    """Return the number with this many decimals, halves rounded away from zero: an int for 0 and fewer.

    Negative `places` round to tens, hundreds and so on. A float stays a float.
    """
    if places < -_MAX_DIGITS:
        return 0
    places = min(places, _MAX_PLACES)
    rounded = _to_decimal(number).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _EXACT)
    if places <= 0:
        return int(rounded)
    if isinstance(number, DecimalValue):
        return _wrap(rounded, number)
    return float(rounded)


def round_down(number: Number) -> int:
    """Return the largest integer that is not greater."""
    return int(_to_decimal(number).to_integral_value(ROUND_FLOOR, _EXACT))


def round_up(number: Number) -> int:
    """Return the smallest integer that is not less."""
    return int(_to_decimal(number).to_integral_value(ROUND_CEILING, _EXACT))


def _to_decimal(number: Number) -> Decimal:
    """Return a number as a Decimal, a float as it is written."""
    if isinstance(number, Decimal):
        return number
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _to_comparable(value: object) -> Decimal | int | None:
    """Return what Decimal compares with exactly, or None for a value that is no number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return value
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, str) and is_decimal(value):
        return Decimal(value)
    return None


def _check_divisor(divisor: Decimal) -> Decimal:
    if not divisor:
        raise ZeroDivisionError
    return divisor


def _trim(number: Decimal, *operands: Number) -> Decimal:
    """Return a number with as many decimals as an operand, and more only where they are not zero."""
    places = max(_count_places(number.normalize(_EXACT)), *map(_count_places, map(_to_decimal, operands)))
    return _EXACT.quantize(number, Decimal(1).scaleb(-min(places, _MAX_PLACES)))


def _wrap(number: Decimal, *operands: Number) -> Number:
    """Return a computed number: a decimal if an operand is one, else a float. It is text in JSON if an operand is."""
    is_decimal = is_text = False
    for operand in operands:
        if type(operand) is DecimalValue:
            is_decimal = True
            if type(operand.source) is str:
                is_text = True
                break
    if not is_decimal:
        return float(number) or 0.0  # without a sign
    if number.adjusted() >= _MAX_DIGITS:
        raise LimitReached("The number that this filter returns is too large")
    if not number:
        number = number.copy_abs()
    value = DecimalValue(number)
    value.text = format(number, "f")
    if is_text:
        value.source = value.text
    elif _count_places(number) == 0:
        value.source = int(number)
    else:
        value.source = float(number)
    return value


def _count_places(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
