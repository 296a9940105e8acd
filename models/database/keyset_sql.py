"""SQL that reads the newest rows along an index.

A statement has one branch for each combination of the requested column values. A branch restricts and orders its rows
by all columns of the index, so the planner cannot prefer another index, whatever it estimates.
"""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database.sql import array_parameter, column_in, is_postgres

_MIN_ID, _MAX_ID = UUID(int=0), UUID(int=2**128 - 1)

#: Builds the SELECT of one branch from the SQL expressions of the index's columns.
_BuildBranch: TypeAlias = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class IndexPrefix:
    """An index on these columns followed by the id, over the rows that satisfy `where` (SQL).

    With `few`, the id need not follow: each value has so few rows that they can be sorted.
    """

    columns: tuple[str, ...] = ()
    where: str = ""
    few: bool = False

    def count_branches(self, among: Mapping[str, Collection[Any]]) -> int:
        """Return how many combinations of the columns' values are requested."""
        return math.prod(len(among[name]) for name in self.columns)


@dataclass(slots=True)
class KeysetQuery:
    """A builder of one statement, which collects the parameters in `values`.

    Selects the rows with `least` <= id < `below` that have one of the values of `among` in each of its columns.
    """

    db: BaseDBAsyncClient
    model: type[Model]
    among: Mapping[str, Collection[Any]]
    least: UUID | None
    below: UUID | None
    values: list[Any] = field(default_factory=list)

    def select_newest_rows(
        self, index: IndexPrefix, more: Sequence[tuple[str, Any]], limit: int, max_scanned: int
    ) -> str:
        """Return the text after WHERE that selects the newest matching rows and orders them.

        Each branch compares at most `max_scanned` rows with the conditions that the index does not cover.
        """
        uncovered_columns = [name for name in self.among if name not in index.columns]
        filters = [*self._match_columns(uncovered_columns), *self._format_conditions(more)]
        if index.few:
            return self._select_few(index, filters, limit)
        if index.count_branches(self.among) == 1 and not filters:
            return self._select_one_branch(index, limit)
        return self._select_many_branches(index, filters, limit, max_scanned)

    def select_newest_ids(self, index: IndexPrefix, limit: str) -> str:
        """Return the text after FROM that selects the newest ids of each branch, cut off by `limit` (SQL)."""
        table = self.model._meta.db_table

        def build_branch(column_values: Sequence[str]) -> str:
            bounds = self._build_bounds(index, column_values)
            return f"SELECT id FROM {table} WHERE {bounds} {_build_order(index)} {limit}"

        return self._build_branches(index, build_branch)

    def _select_few(self, index: IndexPrefix, filters: Sequence[str], limit: int) -> str:
        matching = " AND ".join(self._match_columns(index.columns))
        few = f"SELECT * FROM {self.model._meta.db_table} WHERE {matching}"
        condition = " AND ".join([*self._bound_ids(), *filters]) or "TRUE"
        ids = f"SELECT id FROM few WHERE {condition} ORDER BY id DESC LIMIT {limit}"
        return f"id IN (WITH few AS MATERIALIZED ({few}) {ids}) ORDER BY id DESC"

    def _select_one_branch(self, index: IndexPrefix, limit: int) -> str:
        (combination,) = self._list_combinations(index)
        column_values = [self._add_parameter(value) for value in combination]
        return f"{self._build_bounds(index, column_values, whole_row=True)} {_build_order(index)} LIMIT {limit}"

    def _select_many_branches(self, index: IndexPrefix, filters: Sequence[str], limit: int, max_scanned: int) -> str:
        table = self.model._meta.db_table
        condition = " AND ".join(filters)

        def build_branch(column_values: Sequence[str]) -> str:
            bounds = self._build_bounds(index, column_values)
            if not filters:
                return f"SELECT id FROM {table} WHERE {bounds} {_build_order(index)} LIMIT {limit}"
            scanned = f"SELECT * FROM {table} WHERE {bounds} {_build_order(index)} LIMIT {max_scanned}"
            return f"SELECT id FROM ({scanned}) scanned WHERE {condition} {_build_order(index)} LIMIT {limit}"

        branches = self._build_branches(index, build_branch)
        return f"id IN (SELECT id FROM {branches} ORDER BY id DESC LIMIT {limit}) ORDER BY id DESC"

    def _build_branches(self, index: IndexPrefix, build_branch: _BuildBranch) -> str:
        """Return the text after FROM that selects the rows of all branches."""
        combinations = self._list_combinations(index)
        if index.columns and is_postgres(self.db):
            return self._build_lateral_branches(index, combinations, build_branch)
        selects = []
        for combination in combinations:
            column_values = [self._add_parameter(value) for value in combination]
            selects.append(f"SELECT id FROM ({build_branch(column_values)}) branch")
        return f"({' UNION ALL '.join(selects)}) branches"

    def _build_lateral_branches(
        self, index: IndexPrefix, combinations: Sequence[tuple[Any, ...]], build_branch: _BuildBranch
    ) -> str:
        """Return the branches for Postgres, with the column values in arrays to hide them from the planner.

        It estimates a row comparison that starts with the smallest or greatest value of a column at next to no rows,
        and would choose another plan.
        """
        arrays = []
        for name, column_values in zip(index.columns, zip(*combinations, strict=True), strict=True):
            arrays.append(f"{self._add_parameter(list(column_values))}::{self._find_sql_type(name)}[]")
        aliases = [f"of_{name}" for name in index.columns]
        branch = build_branch([f"given.{alias}" for alias in aliases])
        return f"unnest({', '.join(arrays)}) given({', '.join(aliases)}) CROSS JOIN LATERAL ({branch}) branch"

    def _build_bounds(self, index: IndexPrefix, column_values: Sequence[str], *, whole_row: bool = False) -> str:
        """Return the condition for the rows of one branch.

        The id is compared together with the last column, or with all columns if `whole_row`. No other index serves a
        comparison of all columns. With several branches, though, Postgres takes a comparison of the first column alone
        to be more selective, and sorts rows that it need not sort.
        """
        terms = [index.where] if index.where else []
        if not index.columns:
            return " AND ".join([*terms, *self._bound_ids()]) or "TRUE"
        first_compared = 0 if whole_row else len(index.columns) - 1
        for column, value in zip(index.columns[:first_compared], column_values, strict=False):
            terms.append(f"{column} = {value}")
        compared_columns = ", ".join([*index.columns[first_compared:], "id"])
        for operator, key in ((">=", self.least or _MIN_ID), ("<", self.below or _MAX_ID)):
            compared_values = ", ".join([*column_values[first_compared:], self._add_parameter(key)])
            terms.append(f"({compared_columns}) {operator} ({compared_values})")
        return " AND ".join(terms)

    def _list_combinations(self, index: IndexPrefix) -> list[tuple[Any, ...]]:
        return list(itertools.product(*(self.among[name] for name in index.columns)))

    def _bound_ids(self) -> list[str]:
        limits = ((">=", self.least), ("<", self.below))
        return [f"id {operator} {self._add_parameter(key)}" for operator, key in limits if key is not None]

    def _match_columns(self, names: Collection[str]) -> list[str]:
        """Return a condition for each column: that it holds one of its values in `among`."""
        terms = []
        for name in names:
            values = self.among[name]
            if len(values) == 1:
                terms.append(f"{name} = {self._add_parameter(*values)}")
            else:
                terms.append(column_in(self.db, name, len(self.values) + 1, self._find_sql_type(name)))
                self.values.append(array_parameter(self.db, values))
        return terms

    def _format_conditions(self, conditions: Sequence[tuple[str, Any]]) -> list[str]:
        terms = []
        for condition, value in conditions:
            if "{}" in condition:
                terms.append(condition.format(self._add_parameter(value)))
            else:
                terms.append(condition)
        return terms

    def _find_sql_type(self, name: str) -> str:
        column = self.model._meta.fields_map[name]
        if isinstance(column, fields.UUIDField):
            return "uuid"
        if isinstance(column, fields.IntField):
            return "int"
        return "text"

    def _add_parameter(self, value: Any) -> str:
        """Add a parameter and return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"


def _build_order(index: IndexPrefix) -> str:
    descending = [f"{column} DESC" for column in (*index.columns, "id")]
    return f"ORDER BY {', '.join(descending)}"
