"""Bulk inserts and updates of plain tuples, without a model instance for each row.

On Postgres rows are inserted with COPY, except a few rows of several tables, which take one INSERT statement instead of
the round trips of a COPY per table. Everything else is one statement that the driver repeats for each row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields.base import Field
from tortoise.models import Model

from ringback.models.database.sql import copy_rows, enum_value, format_uuid, is_postgres
from ringback.models.exact_json import dump
from ringback.models.timestamps import format_sqlite_timestamp

Encode: TypeAlias = Callable[[Any], Any]
#: Rows of all tables that one statement inserts on Postgres: saves a callback request 0.3 of 1.2 ms.
MAX_COMBINED_ROWS = 20


@dataclass(frozen=True, slots=True)
class NewRows:
    """New rows of a model, each a sequence of the values of `columns`. The caller records changes of tracked models."""

    model: type[Model]
    columns: tuple[str, ...]
    values: Sequence[Sequence[Any]]


class _TableInsert(NamedTuple):
    """A part of a statement that inserts `row_count` rows into a table."""

    model: type[Model]
    columns: tuple[str, ...]
    row_count: int


async def insert_together(db: BaseDBAsyncClient, *tables: NewRows) -> None:
    """Insert rows of several models within a transaction. A table comes before those that refer to it."""
    filled = [table for table in tables if table.values]
    row_count = sum(len(table.values) for table in filled)
    if len(filled) > 1 and row_count <= MAX_COMBINED_ROWS and is_postgres(db):
        await _insert_combined(db, filled)
        return
    for table in filled:
        await insert_values(db, table.model, table.columns, table.values)


async def _insert_combined(db: BaseDBAsyncClient, tables: Sequence[NewRows]) -> None:
    inserts = []
    parameters: list[Any] = []
    for table in tables:
        inserts.append(_TableInsert(table.model, table.columns, len(table.values)))
        for row in _encode_rows(db, table.model, table.columns, table.values):
            parameters += row
    await db.execute_query(_build_combined_insert(tuple(inserts)), parameters)


async def insert_values(
    db: BaseDBAsyncClient, model: type[Model], columns: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows of a model, each a sequence of the values of `columns`."""
    if not rows:
        return
    values = _encode_rows(db, model, columns, rows)
    if is_postgres(db):
        await copy_rows(db, model._meta.db_table, columns, values)
    else:
        await db.execute_many(_build_insert(model, columns, "?"), values)


async def update_values(
    db: BaseDBAsyncClient, model: type[Model], columns: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Update rows of a model. The first of `columns` is the key that identifies a row."""
    if rows:
        sign = "$" if is_postgres(db) else "?"
        await db.execute_many(_build_update(model, columns, sign), _encode_rows(db, model, columns, rows))


@lru_cache(256)
def _build_combined_insert(tables: tuple[_TableInsert, ...]) -> str:
    """Return one statement with an INSERT for each table. Foreign keys are checked at its end."""
    inserts = []
    first_parameter = 1
    for table in tables:
        inserts.append(_build_insert(table.model, table.columns, "$", table.row_count, first_parameter))
        first_parameter += table.row_count * len(table.columns)
    *ctes, last = inserts
    steps = ", ".join(f"step_{number} AS ({insert})" for number, insert in enumerate(ctes))
    return f"WITH {steps} {last}"


@lru_cache(256)
def _build_insert(
    model: type[Model], columns: tuple[str, ...], sign: str, row_count: int = 1, first_parameter: int = 1
) -> str:
    """Return the INSERT of so many rows, with placeholders of `sign` and a number."""
    quoted_columns = ", ".join(f'"{column}"' for column in columns)
    numbers = count(first_parameter)
    rows = []
    for _ in range(row_count):
        placeholders = [f"{sign}{next(numbers)}" for _ in columns]
        rows.append(f"({', '.join(placeholders)})")
    return f'INSERT INTO "{model._meta.db_table}" ({quoted_columns}) VALUES {", ".join(rows)}'


@lru_cache(64)
def _build_update(model: type[Model], columns: tuple[str, ...], sign: str) -> str:
    key, *changed = columns
    assignments = ", ".join(f'"{column}" = {sign}{number}' for number, column in enumerate(changed, 2))
    return f'UPDATE "{model._meta.db_table}" SET {assignments} WHERE "{key}" = {sign}1'


def _encode_rows(
    db: BaseDBAsyncClient, model: type[Model], columns: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> list[Any]:
    """Return the rows with the values that the driver takes."""
    encoders = _find_encoders(model, columns, is_postgres(db))
    if not encoders:
        return list(rows)
    encoded: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for position, encode in encoders:
        encoded[position] = [None if value is None else encode(value) for value in encoded[position]]
    return list(zip(*encoded, strict=True))


@lru_cache(64)
def _find_encoders(model: type[Model], columns: tuple[str, ...], postgres: bool) -> list[tuple[int, Encode]]:
    """Return the position and the encoder of each column that needs one."""
    encoders = []
    for position, column in enumerate(columns):
        encode = _find_encoder(model._meta.fields_map[column], postgres)
        if encode is not None:
            encoders.append((position, encode))
    return encoders


def _find_encoder(field: Field[Any], postgres: bool) -> Encode | None:
    """Return the function that makes the driver's value from an attribute's, or None if they are the same."""
    enum = getattr(field, "enum_type", None)
    if enum is not None:
        return None if postgres and issubclass(enum, str) else enum_value
    if isinstance(field, fields.JSONField):
        return _encode_json
    if postgres:
        return None
    if isinstance(field, fields.DatetimeField):
        return format_sqlite_timestamp
    if isinstance(field, fields.UUIDField):
        return format_uuid
    return None


def _encode_json(value: Any) -> str:
    return dump(value).decode()
