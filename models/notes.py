"""Notes: which objects an open transaction has touched, and what was stored of them before.

At the first touch of an object its stored row is read; before the COMMIT `models.outbox` reads it again, and the
difference says created, updated, deleted or nothing. Stale instances, bulk writes, cascades and savepoints all come
out right, because only stored rows are compared.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ringback.models import outbox, snapshot
from ringback.models.registry import registry
from ringback.models.snapshot import KEYS_PER_STATEMENT, Stored
from ringback.models.transactions import UnitOfWork
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model
from tortoise.queryset import QuerySet

#: A row by its model and key.
Row = tuple[type[Model], Any]


class Notes:
    """The touched objects of one transaction: their state before it, None where they did not exist."""

    def __init__(self, db: BaseDBAsyncClient) -> None:
        self._db = db
        self.before: dict[Row, Stored | None] = {}

    async def touch(self, model: type[Model], keys: Sequence[Any], *, parents: Iterable[Row] = ()) -> None:
        """Note that rows of `model` are about to be written, and the rows which they are about to belong to."""
        roots = await self._roots(model, keys)
        for parent, key in parents:
            roots |= await self._roots(parent, [key])
        await self._read(roots)

    async def touch_deleted(self, model: type[Model], keys: Sequence[Any]) -> None:
        """Note that rows of `model` are about to be deleted, with all that the database will do on its own then."""
        seen: set[tuple[type[Model], Any]] = set()
        await self._touch_deleted(model, keys, seen)

    def created(self, model: type[Model], key: Any) -> None:
        """Note a row that was just inserted and so did not exist before."""
        if registry.is_root(model):
            self.before.setdefault((model, key), None)

    async def _touch_deleted(self, model: type[Model], keys: Sequence[Any], seen: set[Row]) -> None:
        keys = [key for key in keys if (model, key) not in seen]
        if not keys:
            return
        seen.update((model, key) for key in keys)
        await self.touch(model, keys)
        for cascade in registry.cascades(model):
            related: list[Any] = []
            for part in _parts(keys):
                rows = QuerySet(cascade.model).using_db(self._db).filter(**{f"{cascade.column}__in": part})
                related += await rows.values_list(cascade.model._meta.pk_attr, flat=True)
            if cascade.deletes:
                await self._touch_deleted(cascade.model, related, seen)
            else:
                await self.touch(cascade.model, related)

    async def _roots(self, model: type[Model], keys: Sequence[Any]) -> set[Row]:
        """The objects that these rows are, or are part of, as stored."""
        roots: set[Row] = {(model, key) for key in keys} if registry.is_root(model) else set()
        for link in registry.links(model):
            parents: set[Any] = set()
            for part in _parts(keys):
                stored = QuerySet(model).using_db(self._db).filter(pk__in=part)
                parents.update(await stored.values_list(link.column, flat=True))
            parents.discard(None)
            if parents:
                roots |= await self._roots(link.parent, list(parents))
        return roots

    async def _read(self, roots: set[Row]) -> None:
        missing: dict[type[Model], list[Any]] = {}
        for model, key in roots - self.before.keys():
            missing.setdefault(model, []).append(key)
        for model, keys in missing.items():
            stored = await snapshot.read(self._db, model, keys)
            for key in keys:
                self.before[model, key] = stored.get(key)


def notes_of(db: BaseDBAsyncClient, unit: UnitOfWork) -> Notes:
    """The notes of a transaction; at the first call the outbox is asked to write the events before the COMMIT."""
    notes: Notes | None = unit.belongings.get(Notes)
    if notes is None:
        outermost = _outermost(db)
        notes = unit.belongings[Notes] = Notes(outermost)

        async def record() -> None:
            await outbox.record(outermost, unit, notes.before)

        unit.before_commit(record)
    return notes


def _outermost(db: BaseDBAsyncClient) -> BaseDBAsyncClient:
    """The transaction whose COMMIT is real; a savepoint's connection may have ended by then."""
    while (outer := getattr(db, "outer", None)) is not None:
        db = outer
    return db


def _parts(keys: Sequence[Any]) -> list[Sequence[Any]]:
    return [keys[start : start + KEYS_PER_STATEMENT] for start in range(0, len(keys), KEYS_PER_STATEMENT)]
