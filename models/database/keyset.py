"""Keyset pagination: the newest rows that meet conditions, with a limit on the rows that are read.

Left to itself, Postgres walks back through the whole table whenever it estimates the requested rows to be frequent.
After an hour of retries the newest row that succeeded may be a million rows away. So the index is chosen here: if
several fit, the rows under each are counted, up to `MAX_COUNTED_ROWS`, and the index with the fewest is used.

Conditions that no index covers are checked on the rows of one index, in steps of growing size, up to a total. `Page`
reports how far the scan came, so that the caller can continue there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database.keyset_sql import IndexPrefix, KeysetQuery
from ringback.models.database.row_decoding import load_where
from ringback.models.database.sql import as_uuid, fetch, is_postgres

M = TypeVar("M", bound=Model)

#: Rows counted under each index: an index with more is as good as any other.
MAX_COUNTED_ROWS = 1_000
#: Rows scanned in each step when the index does not cover all conditions.
SCAN_STEP_ROWS: tuple[int, ...] = (100, 1_000, 10_000, 50_000)
#: Branches of one statement on Postgres.
MAX_BRANCHES = 10_000
#: Branches of one statement on SQLite, where the text of the statement grows with each.
MAX_BRANCHES_ON_SQLITE = 250


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Rows, newest first. If `scanned_to` is set, the rows below that id were not examined."""

    rows: list[M]
    scanned_to: UUID | None = None


class _IndexChoice(NamedTuple):
    """The index to read along, and whether it is known to have fewer than `MAX_COUNTED_ROWS` of the requested rows."""

    best_index: IndexPrefix
    is_short: bool


@dataclass(frozen=True, slots=True)
class KeysetScan(Generic[M]):
    """Rows with `least` <= id < `below` that have one of the values of `among` in each of its columns.

    `more` holds further SQL conditions, each with the value that replaces `{}` in it, if any. `indexes` are the indexes
    that may be used, best first; each must contain all requested rows.
    """

    model: type[M]
    among: Mapping[str, Collection[Any]] = field(default_factory=dict)
    more: Sequence[tuple[str, Any]] = ()
    least: UUID | None = None
    below: UUID | None = None
    indexes: Sequence[IndexPrefix] = ()

    async def newest(self, limit: int, below: UUID | None = None) -> Page[M]:
        """Return at most `limit` rows, those with the greatest ids first, with ids below `below` if it is given."""
        if not all(self.among.values()):
            return Page([])
        db = self.model._meta.db
        upper_bounds = [key for key in (below, self.below) if key is not None]
        upper = min(upper_bounds, default=None)
        index, is_short = await self._choose_index(db, upper)
        is_covered = not self.more and self.among.keys() <= set(index.columns)
        if is_short or is_covered:
            return Page(await self._read(index, limit, MAX_COUNTED_ROWS, self._query(db, self.least, upper)))
        return await self._scan(db, index, limit, upper)

    async def _choose_index(self, db: BaseDBAsyncClient, below: UUID | None) -> _IndexChoice:
        indexes = self._usable_indexes(db)
        if not indexes:
            return _IndexChoice(IndexPrefix(), is_short=False)
        # SQLite would read all rows to count them.
        if len(indexes) == 1 or indexes[0].few or not is_postgres(db):
            return _IndexChoice(indexes[0], indexes[0].few)
        counts = await self._count_rows(db, indexes, below)
        fewest = min(counts)
        return _IndexChoice(indexes[counts.index(fewest)], is_short=fewest < MAX_COUNTED_ROWS)

    def _usable_indexes(self, db: BaseDBAsyncClient) -> list[IndexPrefix]:
        """Return the indexes whose columns all have values, except those that another one extends."""
        max_branches = MAX_BRANCHES if is_postgres(db) else MAX_BRANCHES_ON_SQLITE
        usable = []
        for index in self.indexes:
            has_values = self.among.keys() >= set(index.columns)
            if has_values and (index.few or index.count_branches(self.among) <= max_branches):
                usable.append(index)
        return [index for index in usable if not _is_extended(index, usable)]

    async def _count_rows(self, db: BaseDBAsyncClient, indexes: Sequence[IndexPrefix], below: UUID | None) -> list[int]:
        """Return the number of rows under each index, at most `MAX_COUNTED_ROWS`."""
        query = self._query(db, self.least, below)
        counts = []
        for number, index in enumerate(indexes):
            ids = query.select_newest_ids(index, f"LIMIT {MAX_COUNTED_ROWS}")
            counts.append(f"(SELECT count(*) FROM (SELECT FROM {ids} LIMIT {MAX_COUNTED_ROWS}) counted) AS n{number}")
        (row,) = await fetch(db, f"SELECT {', '.join(counts)}", *query.values)
        return [row[f"n{number}"] for number in range(len(indexes))]

    async def _scan(self, db: BaseDBAsyncClient, index: IndexPrefix, limit: int, upper: UUID | None) -> Page[M]:
        """Search the rows of the index in steps until `limit` rows match or the last step is done."""
        rows: list[M] = []
        for step in SCAN_STEP_ROWS:
            rows_per_branch = max(step // index.count_branches(self.among), 1)
            lower = await self._find_step_end(db, index, upper, rows_per_branch)
            query = self._query(db, lower or self.least, upper)
            rows += await self._read(index, limit - len(rows), rows_per_branch, query)
            if lower is None or len(rows) == limit:
                return Page(rows)
            upper = lower
        return Page(rows, scanned_to=upper)

    async def _find_step_end(
        self, db: BaseDBAsyncClient, index: IndexPrefix, below: UUID | None, rows_per_branch: int
    ) -> UUID | None:
        """Return the id down to which no branch has more than `rows_per_branch` rows, or None if none has as many."""
        query = self._query(db, self.least, below)
        last_ids = query.select_newest_ids(index, f"LIMIT 1 OFFSET {rows_per_branch - 1}")
        last_id_rows = await fetch(db, f"SELECT id FROM {last_ids} ORDER BY id DESC LIMIT 1", *query.values)
        return as_uuid(last_id_rows[0]["id"]) if last_id_rows else None

    async def _read(self, index: IndexPrefix, limit: int, max_scanned: int, query: KeysetQuery) -> list[M]:
        condition = query.select_newest_rows(index, self.more, limit, max_scanned)
        return await load_where(query.db, self.model, condition, *query.values)

    def _query(self, db: BaseDBAsyncClient, least: UUID | None, below: UUID | None) -> KeysetQuery:
        return KeysetQuery(db=db, model=self.model, among=self.among, least=least, below=below)


def _is_extended(index: IndexPrefix, others: Sequence[IndexPrefix]) -> bool:
    """Return whether another index has all columns of this one and more."""
    columns = set(index.columns)
    return any(columns < set(other.columns) for other in others)
