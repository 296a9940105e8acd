"""The newest rows that meet conditions, read along an index that leads straight to them.

Left to itself, Postgres walks back through all rows whenever it believes what is asked for to be frequent; behind an
hour of retries that wait, the newest row that succeeded is a million rows away. Here a statement bounds and orders its
rows by an index's columns, with one value each, so that no other index will do. Where several would, it is counted how
many rows each leads to, up to a few, and the rarest is taken.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields import UUIDField
from tortoise.models import Model

from ringback.models.reading import load
from ringback.models.statements import among, fetch, many, on_postgres

M = TypeVar("M", bound=Model)

#: So many rows are counted; an index that leads to more is as good as any other.
COUNTED = 1_000
_LEAST, _GREATEST = UUID(int=0), UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Rows(Generic[M]):
    """Rows with ids between `least` and `below`, for which these columns hold one value, or one of several.

    `more` are conditions in SQL, each with the value that stands for `{}` in it, if any. `leads` are the columns that
    indexes have before the id, the best index first; those are considered whose columns hold one value each.
    """

    model: type[M]
    equal: Mapping[str, Any] = field(default_factory=dict)
    among: Mapping[str, Collection[Any]] = field(default_factory=dict)
    more: Sequence[tuple[str, Any]] = ()
    least: UUID | None = None
    below: UUID | None = None
    leads: Sequence[tuple[str, ...]] = ()

    async def newest(self, limit: int, below: UUID | None = None) -> list[M]:
        """At most so many of them, those with the greatest ids (and below one of them) first."""
        db = self.model._meta.db
        highest = min((key for key in (below, self.below) if key is not None), default=None)
        lead = await self._lead(db, highest)
        values: list[Any] = []
        terms = [*self._bounds(lead, highest, values), *self._conditions(db, lead, values)]
        order = ", ".join(f"{column} DESC" for column in (*lead, "id"))
        which = " AND ".join(terms) or "TRUE"
        return await load(db, self.model, f"{which} ORDER BY {order} LIMIT {limit}", *values)

    async def _lead(self, db: BaseDBAsyncClient, below: UUID | None) -> tuple[str, ...]:
        possible = [lead for lead in self.leads if all(column in self.equal for column in lead)]
        possible = [lead for lead in possible if not any(set(lead) < set(other) for other in possible)]
        if len(possible) < 2 or not on_postgres(db):  # SQLite would count by reading all
            return possible[0] if possible else ()
        values: list[Any] = []
        table = self.model._meta.db_table
        counts = [
            f"(SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {' AND '.join(self._bounds(lead, below, values))} "
            f"LIMIT {COUNTED}) {table}) AS n{number}"
            for number, lead in enumerate(possible)
        ]
        (row,) = await fetch(db, f"SELECT {', '.join(counts)}", *values)
        return possible[min(range(len(possible)), key=lambda number: row[f"n{number}"])]

    def _bounds(self, lead: tuple[str, ...], below: UUID | None, values: list[Any]) -> list[str]:
        """As comparisons of whole rows, which an index finds the beginning and the end by."""
        if not lead:
            bounds = [(">=", self.least), ("<", below)]
            return [f"id {sign} {_parameter(values, key)}" for sign, key in bounds if key is not None]
        columns = f"({', '.join(lead)}, id)"
        ends = [(">=", self.least or _LEAST), ("<", below or _GREATEST)]
        given = [self.equal[column] for column in lead]
        rows = ((sign, [_parameter(values, value) for value in (*given, key)]) for sign, key in ends)
        return [f"{columns} {sign} ({', '.join(row)})" for sign, row in rows]

    def _conditions(self, db: BaseDBAsyncClient, lead: tuple[str, ...], values: list[Any]) -> list[str]:
        terms = [f"{name} = {_parameter(values, value)}" for name, value in self.equal.items() if name not in lead]
        for name, wanted in self.among.items():
            is_id = isinstance(self.model._meta.fields_map[name], UUIDField)
            terms.append(among(db, name, len(values) + 1, "uuid" if is_id else "text"))
            values.append(many(db, wanted))
        for condition, value in self.more:
            terms.append(condition.format(_parameter(values, value)) if "{}" in condition else condition)
        return terms


def _parameter(values: list[Any], value: Any) -> str:
    values.append(value)
    return f"${len(values)}"
