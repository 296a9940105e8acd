"""The newest rows that meet conditions, with bounded work.

Left to itself, Postgres walks back through all rows whenever it believes what is asked for to be frequent; behind an
hour of retries that wait, the newest row that succeeded is a million rows away. Here an index is chosen by what is
asked for; where several would do, it is counted how many rows each leads to, up to a few, and the rarest is taken.

What no index has is looked for among the rows that one leads to: in a few stretches of them, each longer than the one
before, and no further. Whoever asks is told how far that was, and may go on from there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database.keyset_sql import IndexPrefix, KeysetQuery
from ringback.models.database.row_decoding import load
from ringback.models.database.sql import as_uuid, fetch, is_postgres

M = TypeVar("M", bound=Model)

#: So many rows are counted; an index that leads to more is as good as any other.
COUNTED = 1_000
#: So many rows are looked at, one stretch after the other, where an index leads to more than what is asked for.
STRETCHES: tuple[int, ...] = (100, 1_000, 10_000, 50_000)
#: So many branches a statement has at most; on SQLite each of them is written out.
MAX_BRANCHES, MAX_BRANCHES_ON_SQLITE = 10_000, 250


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Rows, newest first; below the id `scanned_to` there may be more, which were not looked for."""

    rows: list[M]
    scanned_to: UUID | None = None


@dataclass(frozen=True, slots=True)
class KeysetScan(Generic[M]):
    """Rows with ids from `least` to `below`, for which each of these columns holds one of some values.

    `more` are conditions in SQL, each with the value that stands for `{}` in it, if any. `leads` are the indexes that
    may be used, the best first; each of them must hold all these rows.
    """

    model: type[M]
    among: Mapping[str, Collection[Any]] = field(default_factory=dict)
    more: Sequence[tuple[str, Any]] = ()
    least: UUID | None = None
    below: UUID | None = None
    leads: Sequence[IndexPrefix] = ()

    async def newest(self, limit: int, below: UUID | None = None) -> Page[M]:
        """At most so many of them, those with the greatest ids (and below one of them) first."""
        if not all(self.among.values()):
            return Page([])
        db = self.model._meta.db
        highest = min((key for key in (below, self.below) if key is not None), default=None)
        lead, few = await self._lead(db, highest)
        if few or not (self.more or self.among.keys() - set(lead.columns)):
            return Page(await self._between(lead, limit, COUNTED, self._statement(db, self.least, highest)))
        found: list[M] = []
        for stretch in STRETCHES:
            of_each = max(stretch // lead.branches(self.among), 1)
            end = await self._behind(db, lead, highest, of_each)
            statement = self._statement(db, end or self.least, highest)
            found += await self._between(lead, limit - len(found), of_each, statement)
            if end is None or len(found) == limit:
                return Page(found)
            highest = end
        return Page(found, highest)

    async def _lead(self, db: BaseDBAsyncClient, below: UUID | None) -> tuple[IndexPrefix, bool]:
        """The index to use, and whether it is known to lead to few rows."""
        most = MAX_BRANCHES if is_postgres(db) else MAX_BRANCHES_ON_SQLITE
        possible = [
            lead
            for lead in self.leads
            if self.among.keys() >= set(lead.columns) and (lead.few or lead.branches(self.among) <= most)
        ]
        possible = [lead for lead in possible if not any(set(lead.columns) < set(other.columns) for other in possible)]
        if not possible:
            return IndexPrefix(), False
        if len(possible) == 1 or possible[0].few or not is_postgres(db):  # SQLite would count by reading all
            return possible[0], possible[0].few
        statement = self._statement(db, self.least, below)
        counts = [
            f"(SELECT count(*) FROM (SELECT FROM {statement.keys(lead, f'LIMIT {COUNTED}')} LIMIT {COUNTED}) counted) "
            f"AS n{number}"
            for number, lead in enumerate(possible)
        ]
        (row,) = await fetch(db, f"SELECT {', '.join(counts)}", *statement.values)
        best = min(range(len(possible)), key=lambda number: row[f"n{number}"])
        return possible[best], row[f"n{best}"] < COUNTED

    async def _behind(self, db: BaseDBAsyncClient, lead: IndexPrefix, below: UUID | None, of_each: int) -> UUID | None:
        """The id down to which no branch has more than so many rows; None when all have fewer."""
        statement = self._statement(db, self.least, below)
        each = statement.keys(lead, f"LIMIT 1 OFFSET {of_each - 1}")
        found = await fetch(db, f"SELECT id FROM {each} ORDER BY id DESC LIMIT 1", *statement.values)
        return as_uuid(found[0]["id"]) if found else None

    async def _between(self, lead: IndexPrefix, limit: int, looked_at: int, statement: KeysetQuery) -> list[M]:
        which = statement.newest(lead, self.more, limit, looked_at)
        return await load(statement.db, self.model, which, *statement.values)

    def _statement(self, db: BaseDBAsyncClient, least: UUID | None, below: UUID | None) -> KeysetQuery:
        return KeysetQuery(db, self.model, self.among, least, below)
