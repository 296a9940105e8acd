"""Scalars as the contract writes them: DateTime with microseconds and Z, Decimal as a string, JSON within limits.

What they refuse is a GraphQLError: graphql-core counts every other exception as one of the server's own.
"""

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import chain, compress, repeat
from operator import is_
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

from ringback.models.database.sql import is_storable
from ringback.models.timestamps import format_timestamp

#: How deep objects and lists may be nested in a JSON value: encoders have a limit too, and an answer nests it further.
MAX_DEPTH = 64
#: RFC 3339, 5.6; seconds may be left out.
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?([Ee][+-]?\d{1,4})?", re.ASCII)
_INT64 = range(-(2**63), 2**63)
#: Types of JSON values that can always be kept.
_PLAIN = {bool, type(None)}


def _parse_datetime(value: Any) -> dt.datetime:
    text = value.upper() if isinstance(value, str) else ""
    if not _DATETIME.fullmatch(text):
        raise GraphQLError("A DateTime is written like 2026-01-31T12:00:00.000000Z (RFC 3339).")
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise GraphQLError("A DateTime is a moment that exists, from the year 1 to 9999.") from error


def _parse_decimal(value: Any) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
        return Decimal(value)
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise GraphQLError('A Decimal is written as a string, like "350.50".')
    return Decimal(value)


def _parse_json(value: Any) -> Any:
    # Level by level, and all values of one type at once: there may be hundreds of thousands.
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        kinds = list(map(type, level))
        found = {kind: [*compress(level, map(is_, kinds, repeat(kind)))] for kind in set(kinds) - _PLAIN}
        lists, objects = found.get(list, []), found.get(dict, [])
        _check_json_leaves(found)
        _check_json_texts(chain.from_iterable(objects))
        level = [*chain.from_iterable(lists), *chain.from_iterable(part.values() for part in objects)]
        if not level:
            return value
    raise GraphQLError(f"JSON may be nested at most {MAX_DEPTH} deep.")


def _check_json_leaves(found: Mapping[type, list[Any]]) -> None:
    _check_json_texts(found.get(str, ()))
    whole = found.get(int, [0])
    if min(whole) not in _INT64 or max(whole) not in _INT64:
        raise GraphQLError("Whole numbers in JSON must fit into 64 bits; write longer ones as strings.")
    if not all(map(math.isfinite, found.get(float, ()))):
        raise GraphQLError("Numbers in JSON must be finite.")


def _check_json_texts(texts: Iterable[str]) -> None:
    if not is_storable("".join(texts)):
        raise GraphQLError("Texts in JSON must not hold NUL or lone surrogate characters.")


SCALARS: dict[object, ScalarDefinition] = {
    dt.datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in UTC as RFC 3339 writes it, with microseconds: 2026-01-31T12:00:00.000000Z.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc3339",
        serialize=format_timestamp,
        parse_value=_parse_datetime,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description='An exact decimal number, written as a string: "350.50".',
        serialize=str,
        parse_value=_parse_decimal,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value, as GraphQL sends it: objects, lists, texts, numbers, booleans and null. Nested at "
        f"most {MAX_DEPTH} deep when sent to the server.",
        specified_by_url="https://ecma-international.org/wp-content/uploads/ECMA-404_2nd_edition_december_2017.pdf",
        serialize=lambda value: value,
        parse_value=_parse_json,
    ),
}
