"""Reading rows within a budget of bytes, so that many large rows are refused before they fill the memory.

Texts, JSON and binary values count, and so does each row of which all other columns are read. SQLite stops a few rows
behind the budget, and Postgres sends only the first row that exceeds it. Without a budget, or inside a transaction, all
rows are read.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

#: Bytes that a row counts besides its large columns. Its instance takes up to 2 kB until the operation ends.
ROW_BYTES = 512


class SizedRows(NamedTuple):
    """Rows as the driver gives them, and the bytes that they count."""

    rows: Sequence[Any]
    size: int


class LargeColumn(NamedTuple):
    """A column whose values may be long."""

    name: str
    is_json: bool


class RowSize(NamedTuple):
    """The bytes that each row of a statement counts: a fixed number, and those of its large columns."""

    fixed_bytes: int
    columns: Sequence[LargeColumn]


#: Reads all rows, or at least so many that they have more than a number of bytes.
ReadWithin: TypeAlias = Callable[[int], Awaitable[SizedRows]]


class ByteBudget(Protocol):
    """The bytes that an operation may read."""

    async def read(self, read_within: ReadWithin) -> Sequence[Any]:
        """Return all rows of a statement. Raises if they exceed the budget."""


@runtime_checkable
class SizedReader(Protocol):
    """A database client that can stop reading."""

    async def read_within(self, query: str, values: list[Any], row_size: RowSize, max_bytes: int) -> SizedRows:
        """Return the rows of a SELECT, or at least so many that they count more than `max_bytes`."""


#: The budget of the running operation, or None if it has none.
current_budget: ContextVar[ByteBudget | None] = ContextVar("current_budget", default=None)


async def read_rows(
    db: BaseDBAsyncClient, model: type[Model], query: str, values: list[Any], only: tuple[str, ...] = ()
) -> Sequence[Any]:
    """Return the rows of a SELECT from the table of `model`, within the budget of the running operation.

    `only` names the selected attributes unless all are.
    """
    budget = current_budget.get()
    row_size = _row_size(model, only)
    if budget is None or not row_size.columns or not isinstance(db, SizedReader):
        _, rows = await db.execute_query(query, values)
        return rows
    return await budget.read(partial(db.read_within, query, values, row_size))


@cache
def _row_size(model: type[Model], only: tuple[str, ...]) -> RowSize:
    columns = []
    fixed_bytes = ROW_BYTES
    for attribute, name in model._meta.fields_db_projection.items():
        field = model._meta.fields_map[attribute]
        is_large = isinstance(field, fields.TextField | fields.JSONField | fields.BinaryField)
        is_read = not only or attribute in only
        if is_large and is_read:
            columns.append(LargeColumn(name, is_json=isinstance(field, fields.JSONField)))
        elif not is_large and not is_read:
            fixed_bytes = 0
    return RowSize(fixed_bytes, columns)
