"""SQL that reads the newest rows along an index, with a branch for each combination of values that is asked for.

A branch bounds and orders its rows by all columns of the index, one value each: so no other index will do, whatever the
database believes of what is frequent.
"""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database.sql import array_parameter, column_in, is_postgres

_LEAST, _GREATEST = UUID(int=0), UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class IndexPrefix:
    """An index that has these columns and then the id, of the rows for which `where` (SQL) holds.

    With `few`, the id need not follow: to each value there are so few rows that they can be sorted.
    """

    columns: tuple[str, ...] = ()
    where: str = ""
    few: bool = False

    def branches(self, among: Mapping[str, Collection[Any]]) -> int:
        """How many combinations of the columns' values are asked for."""
        return math.prod(len(among[name]) for name in self.columns)


@dataclass(slots=True)
class KeysetQuery:
    """Texts of one statement, and the values of its parameters in `values`.

    The rows have ids from `least` to `below`, and in each column of `column_in` one of some values.
    """

    db: BaseDBAsyncClient
    model: type[Model]
    among: Mapping[str, Collection[Any]]
    least: UUID | None
    below: UUID | None
    values: list[Any] = field(default_factory=list)

    def newest(self, lead: IndexPrefix, more: Sequence[tuple[str, Any]], limit: int, looked_at: int) -> str:
        """What follows WHERE to select the newest rows that meet all conditions, and order them.

        No more rows of each branch than `looked_at` are compared with what the index does not have.
        """
        table = self.model._meta.db_table
        others = [*self._among([name for name in self.among if name not in lead.columns]), *self._more(more)]
        if lead.few:
            few = f"SELECT * FROM {table} WHERE {' AND '.join(self._among(lead.columns))}"
            which = " AND ".join([*self._range(), *others]) or "TRUE"
            ids = f"SELECT id FROM few WHERE {which} ORDER BY id DESC LIMIT {limit}"
            return f"id IN (WITH few AS MATERIALIZED ({few}) {ids}) ORDER BY id DESC"
        if lead.branches(self.among) == 1 and not others:
            (only,) = self._combinations(lead)
            of_lead = [self._parameter(value) for value in only]
            return f"{self._bounds(lead, of_lead, alone=True)} {_order(lead)} LIMIT {limit}"

        def branch(of_lead: Sequence[str]) -> str:
            if not others:
                return f"SELECT id FROM {table} WHERE {self._bounds(lead, of_lead)} {_order(lead)} LIMIT {limit}"
            looked = f"SELECT * FROM {table} WHERE {self._bounds(lead, of_lead)} {_order(lead)} LIMIT {looked_at}"
            return f"SELECT id FROM ({looked}) looked WHERE {' AND '.join(others)} {_order(lead)} LIMIT {limit}"

        return f"id IN (SELECT id FROM {self._each(lead, branch)} ORDER BY id DESC LIMIT {limit}) ORDER BY id DESC"

    def keys(self, lead: IndexPrefix, limit: str) -> str:
        """What follows FROM to select the newest ids of each branch, as many as `limit` says."""
        table = self.model._meta.db_table
        return self._each(
            lead, lambda of_lead: f"SELECT id FROM {table} WHERE {self._bounds(lead, of_lead)} {_order(lead)} {limit}"
        )

    def _each(self, lead: IndexPrefix, branch: Callable[[Sequence[str]], str]) -> str:
        """What follows FROM to select what each branch does, which is told the values of the index's columns.

        Postgres does not know these values when it plans: by them it would believe a comparison of a row that begins
        with the first or the last of all values to lead to next to nothing, and go any other way.
        """
        combinations = self._combinations(lead)
        if lead.columns and is_postgres(self.db):
            given = [f"of_{name}" for name in lead.columns]
            arrays = [
                f"{self._parameter(list(values))}::{self._kind(name)}[]"
                for name, values in zip(lead.columns, zip(*combinations, strict=True), strict=True)
            ]
            text = branch([f"given.{name}" for name in given])
            return f"unnest({', '.join(arrays)}) given({', '.join(given)}) CROSS JOIN LATERAL ({text}) branch"
        texts = [
            f"SELECT id FROM ({branch([self._parameter(value) for value in values])}) branch" for values in combinations
        ]
        return f"({' UNION ALL '.join(texts)}) branches"

    def _bounds(self, lead: IndexPrefix, of_lead: Sequence[str], alone: bool = False) -> str:
        """The rows of a branch; the index's last column is compared together with the id, all columns if it is alone.

        For whole rows that are compared there is no other index. But where many of them are read, Postgres believes
        that a comparison of the first column leads to fewer, and sorts what it does not have to.
        """
        terms = [lead.where] if lead.where else []
        if not lead.columns:
            return " AND ".join([*terms, *self._range()]) or "TRUE"
        first = 0 if alone else len(lead.columns) - 1
        terms += [f"{column} = {value}" for column, value in zip(lead.columns[:first], of_lead, strict=False)]
        columns = f"({', '.join(lead.columns[first:])}, id)"
        for sign, key in ((">=", self.least or _LEAST), ("<", self.below or _GREATEST)):
            terms.append(f"{columns} {sign} ({', '.join([*of_lead[first:], self._parameter(key)])})")
        return " AND ".join(terms)

    def _combinations(self, lead: IndexPrefix) -> list[tuple[Any, ...]]:
        return list(itertools.product(*(self.among[name] for name in lead.columns)))

    def _range(self) -> list[str]:
        ends = ((">=", self.least), ("<", self.below))
        return [f"id {sign} {self._parameter(key)}" for sign, key in ends if key is not None]

    def _among(self, names: Collection[str]) -> list[str]:
        terms = []
        for name in names:
            wanted = self.among[name]
            if len(wanted) == 1:
                terms.append(f"{name} = {self._parameter(*wanted)}")
            else:
                terms.append(column_in(self.db, name, len(self.values) + 1, self._kind(name)))
                self.values.append(array_parameter(self.db, wanted))
        return terms

    def _more(self, conditions: Sequence[tuple[str, Any]]) -> list[str]:
        return [sql.format(self._parameter(value)) if "{}" in sql else sql for sql, value in conditions]

    def _kind(self, name: str) -> str:
        kept = self.model._meta.fields_map[name]
        return "uuid" if isinstance(kept, fields.UUIDField) else "int" if isinstance(kept, fields.IntField) else "text"

    def _parameter(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


def _order(lead: IndexPrefix) -> str:
    return f"ORDER BY {', '.join(f'{column} DESC' for column in (*lead.columns, 'id'))}"
