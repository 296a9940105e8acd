"""The objects that an open transaction has touched, each with its stored state before the first write.

The first time a transaction touches an object, its stored row is read. Before the COMMIT `models.tracking.outbox` reads
it again; the difference decides whether the object was created, updated, deleted or not changed. Because only stored
rows are compared, stale instances, bulk writes, cascades and savepoints are all recorded correctly.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import TransactionManagementError
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models.database.sql import choose_database, lock_rows
from ringback.models.database.transactions import TRANSACTION_ENDED, check_recording
from ringback.models.database.unit_of_work import UnitOfWork, find_unit, require_unit
from ringback.models.errors import TrackingError
from ringback.models.tracking import outbox, snapshot
from ringback.models.tracking.registry import registry
from ringback.models.tracking.snapshot import Stored, split_keys

#: A row by its model and key.
Row = tuple[type[Model], Any]


class TouchedRows:
    """The touched objects of one transaction."""

    def __init__(self, db: BaseDBAsyncClient) -> None:
        self._db = db
        #: The stored state of each object before the transaction wrote it, in the order of the first touch. None: the
        #: object did not exist.
        self.before: dict[Row, Stored | None] = {}
        self._touched: set[Row] = set()
        #: `id()` of the instances that are being inserted.
        self._inserting: set[int] = set()

    async def touch(self, model: type[Model], keys: Sequence[Any], *, parents: Iterable[Row] = ()) -> None:
        """Touch rows that are about to be written, and the rows that they are about to belong to."""
        written = [_make_row(model, key) for key in keys]
        new_parents = [_make_row(*parent) for parent in parents]
        rows = list(dict.fromkeys([*written, *new_parents]))
        self._touched.update(rows)
        await self._read(await self._find_roots(rows))

    async def touch_deleted(self, model: type[Model], keys: Sequence[Any]) -> None:
        """Touch rows that are about to be deleted, and all rows that the database deletes or changes with them."""
        rows = [_make_row(model, key) for key in keys]
        await self._touch_cascade(model, [key for _, key in rows], set())

    @contextmanager
    def mark_inserting(self, instance: Model) -> Iterator[None]:
        """Mark an instance that the block inserts: it has no stored state that would have to be read."""
        self._inserting.add(id(instance))
        try:
            yield
        finally:
            self._inserting.discard(id(instance))

    def is_inserting(self, instance: Model) -> bool:
        """Return whether the instance is being inserted."""
        return id(instance) in self._inserting

    def add_inserted(self, model: type[Model], key: Any) -> None:
        """Touch a row that was just inserted, so it did not exist before."""
        if registry.is_root(model):
            self.before.setdefault(_make_row(model, key), None)

    def check_parents(self, parents: Iterable[Row]) -> None:
        """Raise TrackingError if a row was written into a parent that was not touched before."""
        for parent, key in parents:
            if _make_row(parent, key) not in self._touched:
                raise TrackingError(
                    f"a pre_save listener moved a row to another {parent.__name__}, which cannot be recorded. "
                    "Move it before save()."
                )

    async def _touch_cascade(self, model: type[Model], keys: Sequence[Any], seen: set[Row]) -> None:
        keys = [key for key in keys if (model, key) not in seen]
        if not keys:
            return
        seen.update((model, key) for key in keys)
        await self.touch(model, keys)
        for cascade in registry.cascades(model):
            related: list[Any] = []
            for part in split_keys(keys):
                rows = QuerySet(cascade.model).using_db(self._db).filter(**{f"{cascade.column}__in": part})
                related += await rows.values_list(cascade.model._meta.pk_attr, flat=True)
            if cascade.deletes:
                await self._touch_cascade(cascade.model, related, seen)
            else:
                await self.touch(cascade.model, related)

    async def _find_roots(self, rows: Sequence[Row]) -> list[Row]:
        """Return the root objects that these rows are or, as stored, belong to."""
        roots: dict[Row, None] = {}
        seen: set[Row] = set()
        unseen = list(rows)
        while unseen:
            seen.update(unseen)
            roots.update(dict.fromkeys(row for row in unseen if registry.is_root(row[0])))
            parents: list[Row] = []
            for model, keys in _group_by_model(unseen).items():
                parents += await self._fetch_parents(model, keys)
            unseen = [row for row in parents if row not in seen]
        return list(roots)

    async def _fetch_parents(self, model: type[Model], keys: Sequence[Any]) -> list[Row]:
        parents: dict[Row, None] = {}
        for link in registry.links(model):
            for part in split_keys(keys):
                children = QuerySet(model).using_db(self._db).filter(pk__in=part)
                for key in await children.values_list(link.column, flat=True):
                    if key is not None:
                        parents[link.parent, key] = None
        return list(parents)

    async def _read(self, roots: Sequence[Row]) -> None:
        unread = [root for root in roots if root not in self.before]
        for model, keys in _group_by_model(unread).items():
            await lock_rows(self._db, model, keys)
            stored = await snapshot.read(self._db, model, keys)
            for key in keys:
                # Meanwhile another task of this transaction may have read the object, and written it since.
                self.before.setdefault((model, key), stored.get(key))


@asynccontextmanager
async def track_touched_rows(
    model: type[Model], using_db: BaseDBAsyncClient | None = None
) -> AsyncIterator[tuple[BaseDBAsyncClient, TouchedRows]]:
    """Yield the open transaction of a tracked model's database and its touched rows; open a transaction if none is.

    Raises TrackingError when writes of the model cannot be recorded, and TransactionManagementError when `using_db` is
    a transaction that has ended.
    """
    registry.check_registered(model)
    db = using_db or choose_database(model)
    check_recording(model, db)
    unit = find_unit(db)
    if unit is None:
        async with db._in_transaction() as tx:
            yield tx, get_touched_rows(tx, require_unit(tx))
    elif getattr(db, "_finalized", False):
        raise TransactionManagementError(TRANSACTION_ENDED)
    else:
        yield db, get_touched_rows(db, unit)


def get_touched_rows(db: BaseDBAsyncClient, unit: UnitOfWork) -> TouchedRows:
    """Return the touched rows of a transaction, which the outbox turns into events just before its COMMIT."""
    existing: TouchedRows | None = unit.state_by_type.get(TouchedRows)
    if existing is not None:
        return existing
    outermost = _find_outermost(db)
    touched = unit.state_by_type[TouchedRows] = TouchedRows(outermost)

    async def record_touched() -> None:
        # Objects that a later step before the COMMIT writes are compared again, from here on.
        del unit.state_by_type[TouchedRows]
        await outbox.record_changes(outermost, touched.before)

    unit.before_commit(record_touched)
    return touched


def _make_row(model: type[Model], key: Any) -> Row:
    """Return the row with its key as Python reads it, so that "3" and 3 are the same row."""
    return model, model._meta.pk.to_python_value(key)


def _group_by_model(rows: Iterable[Row]) -> dict[type[Model], list[Any]]:
    keys: dict[type[Model], list[Any]] = {}
    for model, key in rows:
        keys.setdefault(model, []).append(key)
    return keys


def _find_outermost(db: BaseDBAsyncClient) -> BaseDBAsyncClient:
    """Return the outermost transaction, because the connection of a savepoint may have ended before the COMMIT."""
    while (outer := getattr(db, "outer", None)) is not None:
        db = outer
    return db
