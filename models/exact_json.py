"""JSON whose integers keep their digits.

orjson reads an integer beyond 64 bits as a float, which has 15 to 17 digits, and cannot write one. So:

- `load` keeps every integer of a client's request, and the API's JSON scalar refuses those beyond 64 bits with their
  path.
- `load_stored` reads a JSON column of a tracked model, which may hold any number. An integer that neither 64 bits nor a
  float can hold becomes a string of its digits, as a Decimal does.
- `dump` writes such an integer as a string, too.

Numbers with a fraction or an exponent are floats (IEEE 754 doubles) everywhere.
"""

import json
import math
from decimal import Decimal
from typing import Any

import orjson

#: Integers that the API accepts, and that every database and receiver can hold.
INT64 = range(-(2**63), 2**63)
#: Integers that orjson reads and writes.
_ORJSON_INTEGERS = range(-(2**63), 2**64)
#: Digits of the shortest integer that orjson reads as a float, and a table that makes all digits zeros. A search for
#: these zeros takes a tenth of the time of a regular expression.
_LONG_DIGITS = b"0" * 19
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_MAX_LONG_CHARS = 20


def load(text: str | bytes) -> Any:
    """Parse JSON with all integers as they are. Raises JSONDecodeError, also for numbers beyond a float's range."""
    value = orjson.loads(text)
    if not _has_long_digits(text):
        return value
    # orjson has accepted the text, so no integer is longer than a float's range: 309 digits.
    decoded = text.decode() if isinstance(text, bytes) else text
    try:
        return json.loads(decoded)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", decoded, 0) from error


def load_stored(text: str) -> Any:
    """Parse the JSON of a column. Numbers that orjson cannot read become strings of their digits, and NaN becomes None.

    Raises JSONDecodeError.
    """
    if not _has_long_digits(text):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # such as 1e400, or NaN, which other programs write
    return json.loads(text, parse_int=_parse_integer, parse_float=_parse_float, parse_constant=_parse_constant)


def dump(value: Any, option: int | None = None) -> bytes:
    """Return a value as JSON. An integer that orjson cannot write becomes a string. Raises TypeError."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError:
        return orjson.dumps(_quote_integers(value), option=option)


def to_storable_integer(value: int) -> int | str:
    """Return an integer, or a string of its digits if orjson cannot write it."""
    return value if value in _ORJSON_INTEGERS else str(value)


def _has_long_digits(text: str | bytes) -> bool:
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _LONG_DIGITS in encoded.translate(_TO_ZEROS)


def _parse_integer(text: str) -> int | float | str:
    """Return an integer. Postgres writes the float 1e20 with all its zeros, so what a float holds exactly is one."""
    if len(text) <= _MAX_LONG_CHARS and int(text) in _ORJSON_INTEGERS:
        return int(text)
    number = float(text)
    if Decimal(repr(number)) == Decimal(text):
        return number
    return text


def _parse_float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _parse_constant(name: str) -> None:
    """Return None for NaN and the infinities, as orjson writes them."""


def _quote_integers(value: Any) -> Any:
    if type(value) is int:
        return to_storable_integer(value)
    if isinstance(value, dict):
        return {name: _quote_integers(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_quote_integers(entry) for entry in value]
    return value
