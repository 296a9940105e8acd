"""Scalars as the contract writes them: DateTime with microseconds and Z, Decimal as a string."""

import datetime as dt
from decimal import Decimal, InvalidOperation
from typing import Any

import strawberry
from ringback.models.snapshot import timestamp
from strawberry.types.scalar import ScalarDefinition


def _parse_datetime(value: Any) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise ValueError("a DateTime is written like 2026-01-31T12:00:00.000000Z (RFC 3339)") from error
    if moment.tzinfo is None or len(value) < len("2026-01-31T12:00Z"):
        raise ValueError("a DateTime needs a time and an offset, like 2026-01-31T12:00:00Z (RFC 3339)")
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError as error:
        raise ValueError("a DateTime lies between the years 1 and 9999") from error


def _parse_decimal(value: Any) -> Decimal:
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidOperation
        number = Decimal(value)
        if len(str(value)) > 64 or not number.is_finite():
            raise InvalidOperation
        return number
    except InvalidOperation as error:
        raise ValueError('a Decimal is written as a string, like "350.50"') from error


SCALARS: dict[object, ScalarDefinition] = {
    dt.datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in UTC as RFC 3339 writes it, with microseconds: 2026-01-31T12:00:00.000000Z.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc3339",
        serialize=timestamp,
        parse_value=_parse_datetime,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description='An exact decimal number, written as a string: "350.50".',
        serialize=str,
        parse_value=_parse_decimal,
    ),
}
