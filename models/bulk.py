"""Writing many rows of one model, given as plain tuples, by one statement: for the deliveries' hot path.

Tortoise builds such a statement anew each time, and watches every attribute that is set. Here it is written once for
each model, choice of columns and kind of database, and so is what makes the values that the driver takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, cast

import orjson
from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields.base import Field
from tortoise.models import Model

from ringback.models.statements import copy, key_text, moment_text, on_postgres

Encode: TypeAlias = Callable[[Any], Any]
#: How many rows one statement with arrays takes rather than a COPY for each table: above, COPY is quicker.
FEW = 100
#: So many rows go into one statement on SQLite: the most that fit first, and no more kinds of statements than these.
TOGETHER = (64, 16, 4, 1)


async def insert(db: BaseDBAsyncClient, rows: Sequence[Model]) -> None:
    """Insert objects of one model that is not tracked; what the database makes itself is not read back."""
    if rows:
        names = _written(type(rows[0]))
        await insert_values(db, type(rows[0]), names, [[getattr(row, name) for name in names] for row in rows])


async def insert_values(
    db: BaseDBAsyncClient, model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows of a model that is not tracked, given as the values of these columns."""
    if not rows:
        return
    if on_postgres(db):
        await copy(db, model._meta.db_table, names, _by_row(_writer(model, names, True)[1], rows))
    else:
        await cast(Any, db).execute_all([_inserts_on_sqlite(model, names, rows)])


class Insert(NamedTuple):
    """Rows to insert, as `insert_values` takes them."""

    model: type[Model]
    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class Update(NamedTuple):
    """Rows to update, as `update_values` takes them."""

    model: type[Model]
    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


async def write(db: BaseDBAsyncClient, *writes: Insert | Update) -> None:
    """Do these one after the other within a transaction; on SQLite, whose thread is far, in one go."""
    if on_postgres(db):
        for one in writes:
            if isinstance(one, Insert):
                await insert_values(db, *one)
            else:
                await update_values(db, *one)
        return
    await cast(Any, db).execute_all(
        [
            _inserts_on_sqlite(*one) if isinstance(one, Insert) else _updates_on_sqlite(*one)
            for one in writes
            if one.rows
        ]
    )


@dataclass(frozen=True, slots=True)
class NewRows:
    """New rows of a model, as the values of these columns; whoever inserts tracked ones records it."""

    model: type[Model]
    names: tuple[str, ...]
    values: Sequence[Sequence[Any]]


async def insert_together(db: BaseDBAsyncClient, *tables: NewRows) -> None:
    """Insert rows of several models, those that others refer to first: a few by one statement, many by one each."""
    tables = tuple(rows for rows in tables if rows.values)
    if len(tables) > 1 and on_postgres(db) and sum(len(rows.values) for rows in tables) <= FEW:
        writers = [_writer(rows.model, rows.names, True) for rows in tables]
        columns = (_by_column(writer[1], rows.values) for writer, rows in zip(writers, tables, strict=True))
        statement = _together(tuple((rows.model, rows.names) for rows in tables))
        await db.execute_query(statement, [column for of_one in columns for column in of_one])
        return
    for rows in tables:
        await insert_values(db, rows.model, rows.names, rows.values)


async def update_values(
    db: BaseDBAsyncClient, model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Update rows of a model that is not tracked; the first of the columns is the key that finds a row."""
    if not rows:
        return
    if on_postgres(db):
        _, encoders, _ = _writer(model, names, True)
        first, *others = _by_column(encoders, rows)
        same = tuple([_all_same(column) for column in others])
        values = [column[0] if alike else column for column, alike in zip(others, same, strict=True)]
        await db.execute_query(_update(model, names, same), [first, *values])
    else:
        await cast(Any, db).execute_all([_updates_on_sqlite(model, names, rows)])


def _inserts_on_sqlite(
    model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> list[tuple[str, list[Any]]]:
    return _for_some(_insert_some, model, names, _by_row(_writer(model, names, False)[1], rows))


def _updates_on_sqlite(
    model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> list[tuple[str, list[Any]]]:
    return _for_some(_update_some, model, names, _by_row(_writer(model, names, False)[1], rows))


def _for_some(
    statement: Callable[[type[Model], tuple[str, ...], int], str],
    model: type[Model],
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
) -> list[tuple[str, list[Any]]]:
    """Statements for as many rows at a time as TOGETHER says.

    Python's driver lets other threads run at every row of `executemany`, and waits for its turn after each of them.
    """
    found, start = [], 0
    for size in TOGETHER:
        while len(rows) - start >= size:
            values = list(chain.from_iterable(rows[start : start + size]))
            found.append((statement(model, names, size), values))
            start += size
    return found


@lru_cache(256)
def _insert_some(model: type[Model], names: tuple[str, ...], size: int) -> str:
    written = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{model._meta.db_table}" ({written}) VALUES {_marks(names, size)}'


@lru_cache(256)
def _update_some(model: type[Model], names: tuple[str, ...], size: int) -> str:
    table = model._meta.db_table
    key, *changed = names
    written = ", ".join(f'"{name}"' for name in names)
    assignments = ", ".join(f'"{name}" = new."{name}"' for name in changed)
    return (
        f"WITH new({written}) AS (VALUES {_marks(names, size)}) "
        f'UPDATE "{table}" SET {assignments} FROM new WHERE "{table}"."{key}" = new."{key}"'
    )


def _marks(names: tuple[str, ...], size: int) -> str:
    return ", ".join([f"({', '.join('?' * len(names))})"] * size)


def _all_same(column: list[Any]) -> bool:
    return bool(column[0] == column[-1]) and column.count(column[0]) == len(column)


@lru_cache(64)
def _update(model: type[Model], names: tuple[str, ...], same: tuple[bool, ...]) -> str:
    """Postgres's statement for rows that have the `same` value in some of the columns after the key.

    Such a value is sent once and not in an array, whose elements cost each row something on both sides.
    """
    table, _, types = _writer(model, names, True)
    key = names[0]
    given = list(zip(names, types, (False, *same), strict=True))
    arrays = ", ".join(f"${at}::{type_}[]" for at, (_, type_, alike) in enumerate(given, 1) if not alike)
    written = ", ".join(f'"{name}"' for name, _, alike in given if not alike)
    assignments = ", ".join(
        f'"{name}" = ' + (f"${at}::{type_}" if alike else f'new."{name}"')
        for at, (name, type_, alike) in enumerate(given[1:], 2)
    )
    return f'UPDATE {table} old SET {assignments} FROM unnest({arrays}) new({written}) WHERE old."{key}" = new."{key}"'


@lru_cache(64)
def _together(tables: tuple[tuple[type[Model], tuple[str, ...]], ...]) -> str:
    """Foreign keys are checked when all of it is written."""
    inserts, number = [], 0
    for model, names in tables:
        table, _, types = _writer(model, names, True)
        arrays = ", ".join(f"${number + at}::{type_}[]" for at, type_ in enumerate(types, 1))
        written = ", ".join(f'"{name}"' for name in names)
        inserts.append(f"INSERT INTO {table} ({written}) SELECT * FROM unnest({arrays})")
        number += len(names)
    *before, last = inserts
    steps = ", ".join(f"step_{at} AS ({insert})" for at, insert in enumerate(before))
    return f"WITH {steps} {last}"


@lru_cache(64)
def _written(model: type[Model]) -> tuple[str, ...]:
    """The columns that the database does not make itself."""
    columns = ((name, model._meta.fields_map[name]) for name in model._meta.fields_db_projection)
    made = {n for n, field in columns if field.generated or (field.has_db_default() and field.default is None)}
    return tuple(name for name in model._meta.fields_db_projection if name not in made)


@lru_cache(64)
def _writer(model: type[Model], names: tuple[str, ...], postgres: bool) -> tuple[str, list[Encode | None], list[str]]:
    found = [model._meta.fields_map[name] for name in names]
    # Ringback's own tables keep JSON as it was written (migration 0006).
    types = [str(field.get_for_dialect("postgres", "SQL_TYPE")).replace("JSONB", "JSON") for field in found]
    return f'"{model._meta.db_table}"', [_encoder(field, postgres) for field in found], types


def _by_row(encoders: Sequence[Encode | None], rows: Sequence[Sequence[Any]]) -> list[Any]:
    needed = [(at, encode) for at, encode in enumerate(encoders) if encode is not None]
    return [_encoded(needed, row) for row in rows] if needed else list(rows)


def _encoded(needed: Sequence[tuple[int, Encode]], row: Sequence[Any]) -> list[Any]:
    values = list(row)
    for at, encode in needed:
        value = values[at]
        if value is not None:
            values[at] = encode(value)
    return values


def _by_column(encoders: Sequence[Encode | None], rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [
        list(column) if encode is None else [value if value is None else encode(value) for value in column]
        for encode, column in zip(encoders, zip(*rows, strict=True), strict=True)
    ]


def _encoder(field: Field[Any], postgres: bool) -> Encode | None:
    """What makes a value for the driver from one of an attribute; None where it is one already."""
    enum = getattr(field, "enum_type", None)
    if enum is not None:
        return None if postgres and issubclass(enum, str) else _plain
    if isinstance(field, fields.JSONField):
        return _json
    if postgres:
        return None
    if isinstance(field, fields.DatetimeField):
        return moment_text
    return key_text if isinstance(field, fields.UUIDField) else None


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
