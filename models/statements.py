"""SQL of our own, written once for both kinds of database, and what Tortoise lacks for many rows.

Parameters are written `$1`, `$2`, …; on SQLite they become `?1`, `?2`, …, and moments and ids become text. Many rows
are written by one statement whatever their number: on Postgres as one array for each column, which costs a fraction of
Tortoise's statement for each row and is prepared once.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model
from tortoise.queryset import QuerySet

M = TypeVar("M", bound=Model)


def on_postgres(db: BaseDBAsyncClient) -> bool:
    """Whether a connection is one to Postgres."""
    return db.capabilities.dialect == "postgres"


async def execute(db: BaseDBAsyncClient, statement: str, *values: Any) -> int:
    """Run a statement; returns how many rows it touched."""
    count, _ = await db.execute_query(*_for(db, statement, values))
    return count


async def fetch(db: BaseDBAsyncClient, statement: str, *values: Any) -> list[dict[str, Any]]:
    """The rows that a statement gives."""
    return await db.execute_query_dict(*_for(db, statement, values))


def locked(query: QuerySet[M]) -> QuerySet[M]:
    """The query, whose rows stay as they are until the transaction ends; on SQLite every transaction is alone anyway.

    In the order of their keys, so that two transactions wait for each other in one direction only.
    """
    return query.order_by(query.model._meta.pk_attr).select_for_update() if on_postgres(query._db) else query


async def lock(db: BaseDBAsyncClient, model: type[M], **conditions: Any) -> M | None:
    """A row that nobody else changes until the transaction ends, as it is now; None when there is none."""
    return await locked(model.filter(**conditions).using_db(db)).first()


async def lock_all(db: BaseDBAsyncClient, model: type[Model], keys: Sequence[Any]) -> None:
    """Have nobody else change these rows until the transaction ends."""
    if on_postgres(db):
        await locked(QuerySet(model).using_db(db).filter(pk__in=keys).only(model._meta.pk_attr))


async def insert(db: BaseDBAsyncClient, rows: Sequence[Model]) -> None:
    """Insert rows of one model that is not tracked; what the database makes itself is not read back."""
    if not rows:
        return
    model = type(rows[0])
    if not on_postgres(db):
        await model.bulk_create(rows, using_db=db)
        return
    columns = _Columns(model, [name for name in model._meta.fields_db_projection if not _made_by_database(model, name)])
    statement = f"INSERT INTO {columns.table} ({columns.names()}) SELECT * FROM unnest({columns.arrays()})"
    await db.execute_query(statement, columns.values(rows))


async def update(db: BaseDBAsyncClient, rows: Sequence[Model], fields: Iterable[str]) -> None:
    """Update these fields of stored rows of one model that is not tracked."""
    if not rows:
        return
    model = type(rows[0])
    if not on_postgres(db):
        await model.bulk_update(rows, fields=tuple(fields), using_db=db)
        return
    key = model._meta.pk_attr
    columns = _Columns(model, [key, *fields])
    assignments = ", ".join(f'"{column}" = new."{column}"' for column in columns.columns[1:])
    statement = (
        f"UPDATE {columns.table} old SET {assignments} FROM unnest({columns.arrays()}) new({columns.names()}) "
        f'WHERE old."{columns.columns[0]}" = new."{columns.columns[0]}"'
    )
    await db.execute_query(statement, columns.values(rows))


class _Columns:
    """Columns of a model as the arrays that Postgres's unnest() takes."""

    def __init__(self, model: type[Model], fields: Sequence[str]) -> None:
        self.table = f'"{model._meta.db_table}"'
        self._fields = [model._meta.fields_map[name] for name in fields]
        self._attributes = fields
        self.columns = [model._meta.fields_db_projection[name] for name in fields]

    def names(self) -> str:
        return ", ".join(f'"{column}"' for column in self.columns)

    def arrays(self) -> str:
        # Ringback's own tables keep JSON as it was written (migration 0006).
        types = (field.get_for_dialect("postgres", "SQL_TYPE").replace("JSONB", "JSON") for field in self._fields)
        return ", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, 1))

    def values(self, rows: Sequence[Model]) -> list[list[Any]]:
        return [
            [_plain(field.to_db_value(getattr(row, name), row)) for row in rows]
            for name, field in zip(self._attributes, self._fields, strict=True)
        ]


def _made_by_database(model: type[Model], name: str) -> bool:
    field = model._meta.fields_map[name]
    return bool(field.generated) or (field.has_db_default() and field.default is None)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _for(db: BaseDBAsyncClient, statement: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    if on_postgres(db):
        return statement, [_plain(value) for value in values]
    texts = [str(v) if isinstance(v, UUID | dt.datetime) else _plain(v) for v in values]
    return statement.replace("$", "?"), texts
