"""Hand-written SQL that runs on SQLite and Postgres, and row locks, which only Postgres needs.

Write parameters as `$1`, `$2`, …. On SQLite they become `?1`, `?2`, …, and timestamps and ids become text.
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

from ringback.models.timestamps import format_sqlite_timestamp

M = TypeVar("M", bound=Model)


def choose_database(model: type[Model]) -> BaseDBAsyncClient:
    """Return the connection for writes of a model, which is the open transaction if there is one."""
    return model._choose_db(True)


def is_postgres(db: BaseDBAsyncClient) -> bool:
    """Return whether a connection is one to Postgres."""
    return db.capabilities.dialect == "postgres"


async def execute(db: BaseDBAsyncClient, statement: str, *values: Any) -> int:
    """Run a statement and return the number of rows that it affected."""
    count, _ = await db.execute_query(*adapt_statement(db, statement, values))
    return count


async def fetch(db: BaseDBAsyncClient, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement as dictionaries."""
    return await db.execute_query_dict(*adapt_statement(db, statement, values))


async def fetch_rows(db: BaseDBAsyncClient, statement: str, *values: Any) -> Sequence[Sequence[Any]]:
    """Return the rows of a statement as the driver gives them, with values in the order of the columns."""
    _, rows = await db.execute_query(*adapt_statement(db, statement, values))
    return cast(Sequence[Sequence[Any]], rows)


async def copy_rows(db: BaseDBAsyncClient, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows with COPY. Postgres only."""
    # The Postgres driver is an optional dependency.
    from ringback.models.database.postgres import translate_errors  # noqa: PLC0415

    async with translate_errors(), db.acquire_connection() as connection:
        db.log.debug("COPY %s", table)
        await connection.copy_records_to_table(table, records=rows, columns=columns)


def column_in(db: BaseDBAsyncClient, column: str, number: int, kind: str = "uuid") -> str:
    """Return the condition that a column holds one of the values of parameter `number`, an `array_parameter`."""
    if is_postgres(db):
        return f"{column} = ANY(${number}::{kind}[])"
    return f"{column} IN (SELECT value FROM json_each(${number}))"


def array_parameter(db: BaseDBAsyncClient, keys: Collection[UUID | str | int]) -> Any:
    """Return any number of ids, texts or integers as one parameter: an array on Postgres, JSON on SQLite."""
    values = [enum_value(key) for key in keys]
    if is_postgres(db):
        return values
    return orjson.dumps(values).decode()


def as_uuid(value: Any) -> UUID:
    """Return an id from a row of either database as a UUID."""
    return value if isinstance(value, UUID) else _parse_uuid(value)


#: Cached, because an event's id is read when the event is claimed and again when its attempt is recorded.
_parse_uuid = lru_cache(8_192)(UUID)


def format_uuid(key: UUID) -> str:
    """Return an id as SQLite stores it. orjson takes a third of the time of `str(key)`, for plain UUIDs only."""
    return orjson.dumps(key)[1:-1].decode() if type(key) is UUID else str(key)


def for_update(query: QuerySet[M]) -> QuerySet[M]:
    """Return the query with its rows locked until the transaction ends. SQLite runs one transaction at a time anyway.

    Rows are locked in the order of their keys, so that two transactions cannot deadlock.
    """
    if not is_postgres(query._db):
        return query
    return query.order_by(query.model._meta.pk_attr).select_for_update()


async def lock_row(db: BaseDBAsyncClient, model: type[M], **conditions: Any) -> M | None:
    """Lock the row that meets the conditions until the transaction ends. Return its current state, or None."""
    return await for_update(model.filter(**conditions).using_db(db)).first()


async def lock_rows(db: BaseDBAsyncClient, model: type[Model], keys: Sequence[Any]) -> None:
    """Lock the rows with these keys until the transaction ends."""
    if is_postgres(db):
        await for_update(QuerySet(model).using_db(db).filter(pk__in=keys).only(model._meta.pk_attr))


def enum_value(value: Any) -> Any:
    """Return the value of an enum member, and any other value unchanged."""
    return value.value if isinstance(value, Enum) else value


def adapt_statement(db: BaseDBAsyncClient, statement: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return a statement and its values as the driver of the database takes them."""
    if is_postgres(db):
        return statement, [enum_value(value) for value in values]
    return statement.replace("$", "?"), [_sqlite_value(value) for value in values]


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, UUID):
        return format_uuid(value)
    if isinstance(value, dt.datetime):
        return format_sqlite_timestamp(value)
    return enum_value(value)


#: NUL ends a text in some databases, and lone surrogates are not valid Unicode.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether both databases can store the text: Unicode without NUL."""
    return _UNSTORABLE.search(text) is None
