"""SQL of our own, written once for both kinds of database, and the locks of rows that only Postgres needs.

Parameters are written `$1`, `$2`, …; on SQLite they become `?1`, `?2`, …, and moments and ids become text.
"""

import datetime as dt
import re
from collections.abc import Collection, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar, cast
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models.timestamps import sqlite_timestamp

M = TypeVar("M", bound=Model)


def is_postgres(db: BaseDBAsyncClient) -> bool:
    """Whether a connection is one to Postgres."""
    return db.capabilities.dialect == "postgres"


async def execute(db: BaseDBAsyncClient, statement: str, *values: Any) -> int:
    """Run a statement; returns how many rows it touched."""
    count, _ = await db.execute_query(*_for(db, statement, values))
    return count


async def fetch(db: BaseDBAsyncClient, statement: str, *values: Any) -> list[dict[str, Any]]:
    """The rows that a statement gives."""
    return await db.execute_query_dict(*_for(db, statement, values))


async def fetch_rows(db: BaseDBAsyncClient, statement: str, *values: Any) -> Sequence[Sequence[Any]]:
    """The values of the rows that a statement gives, as the driver has them, in the order of their columns."""
    _, rows = await db.execute_query(*_for(db, statement, values))
    return cast(Sequence[Sequence[Any]], rows)


async def copy(db: BaseDBAsyncClient, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows by Postgres's COPY."""
    # Only with Postgres is there the driver that it needs.
    from ringback.models.database.postgres import translate_errors  # noqa: PLC0415

    async with translate_errors(), db.acquire_connection() as connection:
        db.log.debug("COPY %s", table)
        await connection.copy_records_to_table(table, records=rows, columns=columns)


def column_in(db: BaseDBAsyncClient, column: str, number: int, kind: str = "uuid") -> str:
    """The condition that a column holds one of the ids (or texts) which `array_parameter` made parameter `number`."""
    if is_postgres(db):
        return f"{column} = ANY(${number}::{kind}[])"
    return f"{column} IN (SELECT value FROM json_each(${number}))"


def array_parameter(db: BaseDBAsyncClient, keys: Collection[UUID | str]) -> Any:
    """Any number of ids or texts as one parameter."""
    values = [enum_value(key) for key in keys]
    return values if is_postgres(db) else orjson.dumps(values).decode()


def as_uuid(value: Any) -> UUID:
    """An id as a statement gives it on either kind of database."""
    return value if isinstance(value, UUID) else _key(value)


#: An event's id is read when it is claimed and when it is recorded.
_key = lru_cache(8_192)(UUID)


def uuid_text(key: UUID) -> str:
    """An id as SQLite keeps it; orjson writes the standard library's ids in a third of their own time."""
    return orjson.dumps(key)[1:-1].decode() if type(key) is UUID else str(key)


def for_update(query: QuerySet[M]) -> QuerySet[M]:
    """The query, whose rows stay as they are until the transaction ends; on SQLite every transaction is alone anyway.

    In the order of their keys, so that two transactions wait for each other in one direction only.
    """
    return query.order_by(query.model._meta.pk_attr).select_for_update() if is_postgres(query._db) else query


async def lock(db: BaseDBAsyncClient, model: type[M], **conditions: Any) -> M | None:
    """A row that nobody else changes until the transaction ends, as it is now; None when there is none."""
    return await for_update(model.filter(**conditions).using_db(db)).first()


async def lock_all(db: BaseDBAsyncClient, model: type[Model], keys: Sequence[Any]) -> None:
    """Have nobody else change these rows until the transaction ends."""
    if is_postgres(db):
        await for_update(QuerySet(model).using_db(db).filter(pk__in=keys).only(model._meta.pk_attr))


def enum_value(value: Any) -> Any:
    """Return a member of an enum as its value, and everything else as it is."""
    return value.value if isinstance(value, Enum) else value


def _for(db: BaseDBAsyncClient, statement: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    if is_postgres(db):
        return statement, [enum_value(value) for value in values]
    texts = [_text(value) for value in values]
    return statement.replace("$", "?"), texts


def _text(value: Any) -> Any:
    if isinstance(value, UUID):
        return uuid_text(value)
    return sqlite_timestamp(value) if isinstance(value, dt.datetime) else enum_value(value)


#: What no stored text may hold: NUL ends a text in some databases, and lone surrogates are no Unicode text.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether every database keeps the text as it is: Unicode without NUL."""
    return _UNSTORABLE.search(text) is None
