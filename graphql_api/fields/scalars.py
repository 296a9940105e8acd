"""Scalars of the public contract: DateTime with microseconds and Z, Decimal as a string, JSON within limits.

Refused values raise GraphQLError: graphql-core counts any other exception as an error of the server.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import chain, compress, repeat
from operator import is_
from typing import Any, TypeVar

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from graphql.pyutils import inspect
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

from ringback.models.database.sql import is_storable
from ringback.models.exact_json import INT64
from ringback.models.json_schema.findings import Path, quote_path
from ringback.models.timestamps import format_timestamp

T = TypeVar("T")

#: Maximum depth of a JSON value: encoders have a limit too, and a response nests the value deeper.
MAX_DEPTH = 64
#: RFC 3339, section 5.6; seconds may be left out.
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?([Ee][+-]?\d{1,4})?", re.ASCII)
#: Types of which every JSON value can be stored.
_ALWAYS_STORABLE = {bool, type(None)}


def _parse_datetime(value: Any) -> dt.datetime:
    text = value.upper() if isinstance(value, str) else ""
    if not _DATETIME.fullmatch(text):
        raise GraphQLError(
            f"{inspect(value):.80} is not a DateTime. Use RFC 3339 format, such as 2026-01-31T12:00:00.000000Z."
        )
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise GraphQLError(f"The DateTime {text} does not exist, or is outside the years 1 to 9999 in UTC.") from error


def _parse_decimal(value: Any) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool) and value in INT64:
        return Decimal(value)
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise GraphQLError(f'{inspect(value):.80} is not a Decimal. Send it as a string, such as "350.50".')
    return Decimal(value)


def _parse_json(value: Any) -> Any:
    # Level by level, and all values of one type at once: there may be hundreds of thousands.
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        values = _group_by_type(level)
        lists, objects = values.get(list, []), values.get(dict, [])
        names = chain.from_iterable(objects)
        if not (_are_storable(values) and is_storable("".join(names))):
            raise GraphQLError(_describe_first_fault(value))
        entries = chain.from_iterable(lists)
        members = chain.from_iterable(map(dict.values, objects))
        level = [*entries, *members]
        if not level:
            return value
    raise GraphQLError(f"JSON may be nested at most {MAX_DEPTH} levels deep.")


def _group_by_type(values: list[Any]) -> dict[type, list[Any]]:
    types = list(map(type, values))
    return {kind: [*compress(values, map(is_, types, repeat(kind)))] for kind in set(types) - _ALWAYS_STORABLE}


def _are_storable(values: Mapping[type, list[Any]]) -> bool:
    integers = values.get(int, [0])
    fit = min(integers) in INT64 and max(integers) in INT64
    return fit and all(map(math.isfinite, values.get(float, ()))) and is_storable("".join(values.get(str, ())))


def _describe_first_fault(value: Any) -> str:
    """Return what is wrong with a value that has a fault, with the path of the first one on the uppermost level."""
    level: list[tuple[Path, Any]] = [((), value)]
    while level:
        inner: list[tuple[Path, Any]] = []
        for path, current in level:
            fault = _describe_fault(path, current)
            if fault is not None:
                return fault
            if isinstance(current, dict):
                inner += [((*path, name), member) for name, member in current.items()]
            elif isinstance(current, list):
                inner += [((*path, index), entry) for index, entry in enumerate(current)]
        level = inner
    raise AssertionError("the value has no fault")


def _describe_fault(path: Path, value: Any) -> str | None:
    within = quote_path(path).removeprefix(".")
    at = f" at {within}" if path else ""
    if isinstance(value, str) and not is_storable(value):
        return f"The string{at} contains a NUL or lone surrogate character. Remove it."
    if isinstance(value, dict) and not all(map(is_storable, value)):
        return f"A field name of the object{at} contains a NUL or lone surrogate character. Remove it."
    if isinstance(value, float) and not math.isfinite(value):
        return f"The number{at} is not finite. Send null or a string instead."
    if type(value) is int and value not in INT64:
        return f"The integer{at} does not fit into 64 bits: {value!s:.40}. Send it as a string."
    return None


def _locate_errors(parse: Callable[[Any], T]) -> Callable[[ValueNode, dict[str, Any] | None], T]:
    """Return a parser of literals whose errors have the place of the literal in the document."""

    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> T:
        try:
            return parse(value_from_ast_untyped(node, variables))
        except GraphQLError as error:
            raise GraphQLError(error.message, node) from error

    return parse_literal


SCALARS: dict[object, ScalarDefinition] = {
    dt.datetime: strawberry.scalar(
        name="DateTime",
        description="Date and time in UTC in RFC 3339 format, with microseconds. "
        "Example: `2026-01-31T12:00:00.000000Z`.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc3339",
        serialize=format_timestamp,
        parse_value=_parse_datetime,
        parse_literal=_locate_errors(_parse_datetime),
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description='Exact decimal number as a string. Example: `"350.50"`.',
        serialize=str,
        parse_value=_parse_decimal,
        parse_literal=_locate_errors(_parse_decimal),
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: object, list, string, number, boolean or null. Values sent to the server may be "
        f"nested at most {MAX_DEPTH} levels deep. Integers must fit into 64 bits; send longer ones as strings. Numbers "
        "with a fraction or an exponent are IEEE 754 doubles, with 15 significant digits.",
        specified_by_url="https://ecma-international.org/wp-content/uploads/ECMA-404_2nd_edition_december_2017.pdf",
        parse_value=_parse_json,
        parse_literal=_locate_errors(_parse_json),
    ),
}
