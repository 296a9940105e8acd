"""Reading rows within a budget of bytes, so that many large rows are refused before they fill the memory.

Texts, JSON and binary values count. SQLite stops a few rows behind the budget, and Postgres sends only the first row
that exceeds it. Without a budget, or inside a transaction, all rows are read.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model


class SizedRows(NamedTuple):
    """Rows as the driver gives them, and the bytes of their large columns."""

    rows: Sequence[Any]
    size: int


class LargeColumn(NamedTuple):
    """A column whose values may be long."""

    name: str
    is_json: bool


#: Reads all rows, or at least so many that they have more than a number of bytes.
ReadWithin: TypeAlias = Callable[[int], Awaitable[SizedRows]]


class ByteBudget(Protocol):
    """The bytes that an operation may read."""

    async def read(self, read_within: ReadWithin) -> Sequence[Any]:
        """Return all rows of a statement. Raises if they exceed the budget."""


@runtime_checkable
class SizedReader(Protocol):
    """A database client that can stop reading."""

    async def read_within(
        self, query: str, values: list[Any], columns: Sequence[LargeColumn], max_bytes: int
    ) -> SizedRows:
        """Return the rows of a SELECT, or at least so many that `columns` have more than `max_bytes`."""


#: The budget of the running operation, or None if it has none.
current_budget: ContextVar[ByteBudget | None] = ContextVar("current_budget", default=None)


async def read_rows(
    db: BaseDBAsyncClient, model: type[Model], query: str, values: list[Any], only: tuple[str, ...] = ()
) -> Sequence[Any]:
    """Return the rows of a SELECT from the table of `model`, within the budget of the running operation.

    `only` names the selected attributes unless all are.
    """
    budget = current_budget.get()
    columns = _large_columns(model, only)
    if budget is None or not columns or not isinstance(db, SizedReader):
        _, rows = await db.execute_query(query, values)
        return rows
    return await budget.read(partial(db.read_within, query, values, columns))


@cache
def _large_columns(model: type[Model], only: tuple[str, ...]) -> Sequence[LargeColumn]:
    columns = []
    for attribute, name in model._meta.fields_db_projection.items():
        if only and attribute not in only:
            continue
        field = model._meta.fields_map[attribute]
        if isinstance(field, fields.TextField | fields.JSONField | fields.BinaryField):
            columns.append(LargeColumn(name, is_json=isinstance(field, fields.JSONField)))
    return columns
