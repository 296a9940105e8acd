"""Notes: which objects an open transaction has touched, and what was stored of them before.

At the first touch of an object its stored row is read; before the COMMIT `models.tracking.outbox` reads it again, and
the difference says created, updated, deleted or nothing. Stale instances, bulk writes, cascades and savepoints all come
out right, because only stored rows are compared.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import TransactionManagementError
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models.database.sql import lock_all
from ringback.models.database.transactions import ENDED, check_recording
from ringback.models.database.unit_of_work import UnitOfWork, require_unit, unit_of
from ringback.models.errors import TrackingError
from ringback.models.tracking import outbox, snapshot
from ringback.models.tracking.registry import registry
from ringback.models.tracking.snapshot import Stored, parts

#: A row by its model and key.
Row = tuple[type[Model], Any]


class TouchedRows:
    """The touched objects of one transaction: their state before it, None where they did not exist."""

    def __init__(self, db: BaseDBAsyncClient) -> None:
        self._db = db
        #: In the order of the first touch.
        self.before: dict[Row, Stored | None] = {}
        self._announced: set[Row] = set()
        #: The instances whose INSERT is under way, by their identity.
        self._inserting: set[int] = set()

    async def touch(self, model: type[Model], keys: Sequence[Any], *, parents: Iterable[Row] = ()) -> None:
        """Note that rows of `model` are about to be written, and the rows which they are about to belong to."""
        rows = dict.fromkeys([*(_row(model, key) for key in keys), *(_row(*parent) for parent in parents)])
        self._announced.update(rows)
        await self._read(await self._roots(list(rows)))

    async def touch_deleted(self, model: type[Model], keys: Sequence[Any]) -> None:
        """Note that rows of `model` are about to be deleted, with all that the database will do on its own then."""
        await self._touch_deleted(model, [_row(model, key)[1] for key in keys], set())

    @contextmanager
    def inserting(self, instance: Model) -> Iterator[None]:
        """Its row is inserted during the block, or nothing is: there is no state before that would have to be read."""
        self._inserting.add(id(instance))
        try:
            yield
        finally:
            self._inserting.discard(id(instance))

    def is_inserting(self, instance: Model) -> bool:
        """Whether its row is just being inserted."""
        return id(instance) in self._inserting

    def created(self, model: type[Model], key: Any) -> None:
        """Note a row that was just inserted, and so did not exist before."""
        if registry.is_root(model):
            self.before.setdefault(_row(model, key), None)

    def check_announced(self, parents: Iterable[Row]) -> None:
        """Raises TrackingError when a row was written into a parent that was not noted before."""
        for parent, key in parents:
            if _row(parent, key) not in self._announced:
                raise TrackingError(
                    f"a pre_save listener moved a row to another {parent.__name__}, which cannot be recorded; "
                    "move it before save()"
                )

    async def _touch_deleted(self, model: type[Model], keys: Sequence[Any], seen: set[Row]) -> None:
        keys = [key for key in keys if (model, key) not in seen]
        if not keys:
            return
        seen.update((model, key) for key in keys)
        await self.touch(model, keys)
        for cascade in registry.cascades(model):
            related: list[Any] = []
            for part in parts(keys):
                rows = QuerySet(cascade.model).using_db(self._db).filter(**{f"{cascade.column}__in": part})
                related += await rows.values_list(cascade.model._meta.pk_attr, flat=True)
            if cascade.deletes:
                await self._touch_deleted(cascade.model, related, seen)
            else:
                await self.touch(cascade.model, related)

    async def _roots(self, rows: Sequence[Row]) -> list[Row]:
        """The objects that these rows are, or are part of, as stored."""
        roots: dict[Row, None] = {}
        seen: set[Row] = set()
        while rows := [row for row in rows if row not in seen]:
            seen.update(rows)
            roots.update(dict.fromkeys(row for row in rows if registry.is_root(row[0])))
            by_model: dict[type[Model], list[Any]] = {}
            for model, key in rows:
                by_model.setdefault(model, []).append(key)
            rows = [parent for model, keys in by_model.items() for parent in await self._parents(model, keys)]
        return list(roots)

    async def _parents(self, model: type[Model], keys: Sequence[Any]) -> list[Row]:
        found: dict[Row, None] = {}
        for link in registry.links(model):
            for part in parts(keys):
                stored = QuerySet(model).using_db(self._db).filter(pk__in=part)
                for key in await stored.values_list(link.column, flat=True):
                    if key is not None:
                        found[link.parent, key] = None
        return list(found)

    async def _read(self, roots: Sequence[Row]) -> None:
        missing: dict[type[Model], list[Any]] = {}
        for model, key in roots:
            if (model, key) not in self.before:
                missing.setdefault(model, []).append(key)
        for model, keys in missing.items():
            await lock_all(self._db, model, keys)
            stored = await snapshot.read(self._db, model, keys)
            for key in keys:
                # Another task of this transaction may have read it meanwhile, and written it since.
                self.before.setdefault((model, key), stored.get(key))


@asynccontextmanager
async def track_touched_rows(
    model: type[Model], using_db: BaseDBAsyncClient | None = None
) -> AsyncIterator[tuple[BaseDBAsyncClient, TouchedRows]]:
    """The open transaction of a recorded model's database, or one around the block, with its notes.

    Raises TrackingError when the model's writes cannot be recorded, and TransactionManagementError when `using_db` is a
    transaction that has ended.
    """
    registry.check_known(model)
    db = using_db or model._choose_db(True)
    check_recording(model, db)
    unit = unit_of(db)
    if unit is None:
        async with db._in_transaction() as tx:
            yield tx, touched_rows_of(tx, require_unit(tx))
    elif getattr(db, "_finalized", False):
        raise TransactionManagementError(ENDED)
    else:
        yield db, touched_rows_of(db, unit)


def touched_rows_of(db: BaseDBAsyncClient, unit: UnitOfWork) -> TouchedRows:
    """The notes of a transaction; at the first call the outbox is asked to write the events before the COMMIT."""
    notes: TouchedRows | None = unit.belongings.get(TouchedRows)
    if notes is None:
        outermost = _outermost(db)
        notes = unit.belongings[TouchedRows] = TouchedRows(outermost)

        async def record() -> None:
            # What a later step writes is noted anew.
            del unit.belongings[TouchedRows]
            await outbox.record(outermost, notes.before)

        unit.before_commit(record)
    return notes


def _row(model: type[Model], key: Any) -> Row:
    """The row, with its key as it is read: "3" and 3 are one."""
    return model, model._meta.pk.to_python_value(key)


def _outermost(db: BaseDBAsyncClient) -> BaseDBAsyncClient:
    """The transaction whose COMMIT is real; a savepoint's connection may have ended by then."""
    while (outer := getattr(db, "outer", None)) is not None:
        db = outer
    return db
