"""Bulk writes of recorded models: Tortoise fires no signal for them, so the rows they touch are noted here first.

`bulk_create`, `bulk_update`, `QuerySet.update` and `QuerySet.delete` do the same work as ever, in the open
transaction or one of their own; what cannot be recorded is refused with a TrackingError that names another way.
"""

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Expression, Q
from tortoise.manager import Manager
from tortoise.models import Model
from tortoise.queryset import AwaitableQuery, QuerySet

from ringback.models.errors import TrackingError
from ringback.models.tracking.registry import registry
from ringback.models.tracking.touched_rows import Row, TouchedRows, track_touched_rows

MODEL = TypeVar("MODEL", bound=Model)
#: Notes what a write is about to touch, within its transaction.
NoteTouched = Callable[[TouchedRows, BaseDBAsyncClient], Awaitable[None]]

#: How many conflicting rows one statement looks for.
CONFLICTS_PER_STATEMENT = 100


class TrackedWrite(Generic[MODEL]):
    """A bulk write that notes what it is about to touch, then runs, in one transaction; `inserted` did not exist."""

    def __init__(
        self, model: type[MODEL], query: AwaitableQuery[MODEL], note: NoteTouched, inserted: Sequence[MODEL] = ()
    ) -> None:
        self._model = model
        self._query = query
        self._note = note
        self._inserted = inserted

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        async with track_touched_rows(self._model, self._query._db) as (tx, notes):
            await self._note(notes, tx)
            self._query._db = tx
            result = await cast(Awaitable[Any], self._query)
            for instance in self._inserted:
                notes.created(self._model, instance.pk)
            return result

    def sql(self, params_inline: bool = False) -> str:
        """The statement's text."""
        return self._query.sql(params_inline)


class TrackedQuerySet(QuerySet[MODEL]):
    """Tortoise's query set, whose bulk writes are recorded."""

    def update(self, **kwargs: Any) -> TrackedWrite[MODEL]:  # type: ignore[override]  # awaited in the same way
        """Update all matching rows."""
        parents = _new_parents(self.model, kwargs)

        async def note(notes: TouchedRows, tx: BaseDBAsyncClient) -> None:
            await notes.touch(self.model, await self._keys(tx), parents=parents)

        return TrackedWrite(self.model, super().update(**kwargs), note)

    def delete(self) -> TrackedWrite[MODEL]:  # type: ignore[override]  # awaited in the same way
        """Delete all matching rows, and what cascades from them."""

        async def note(notes: TouchedRows, tx: BaseDBAsyncClient) -> None:
            await notes.touch_deleted(self.model, await self._keys(tx))

        return TrackedWrite(self.model, super().delete(), note)

    def bulk_update(  # type: ignore[override]  # awaited in the same way
        self, objects: Iterable[MODEL], fields: Iterable[str], batch_size: int | None = None
    ) -> TrackedWrite[MODEL]:
        """Update the named fields of the objects."""
        objects = list(objects)

        async def note(notes: TouchedRows, tx: BaseDBAsyncClient) -> None:
            await notes.touch(self.model, [o.pk for o in objects], parents=parents_of(objects))

        return TrackedWrite(self.model, super().bulk_update(objects, list(fields), batch_size), note)

    def bulk_create(  # type: ignore[override]  # awaited in the same way
        self,
        objects: Iterable[MODEL],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_fields: Iterable[str] | None = None,
        on_conflict: Iterable[str] | None = None,
    ) -> TrackedWrite[MODEL]:
        """Insert the objects; raises TrackingError where the database would make the keys of watched objects."""
        objects, conflict = list(objects), list(on_conflict or ())
        if registry.is_root(self.model) and any(o.pk is None for o in objects):
            raise TrackingError(
                f"bulk_create of {self.model.__name__} cannot tell which keys the database makes: save the objects one "
                "by one inside one in_transaction(), or give the model a key that is made in Python, such as a UUID"
            )

        inserted = [] if ignore_conflicts or update_fields or conflict else objects

        async def note(notes: TouchedRows, tx: BaseDBAsyncClient) -> None:
            keys = [] if inserted else [o.pk for o in objects if o.pk is not None]
            await notes.touch(
                self.model, keys + await self._conflicting(tx, objects, conflict), parents=parents_of(objects)
            )

        query = super().bulk_create(objects, batch_size, ignore_conflicts, update_fields, conflict or None)
        return TrackedWrite(self.model, query, note, inserted)

    async def _keys(self, tx: BaseDBAsyncClient) -> list[Any]:
        """The keys that match. A limit is dropped: not every database heeds it in a write, and too many do no harm."""
        matching = self._clone().using_db(tx)
        matching._limit = matching._offset = None
        matching._orderings = []
        return list(await matching.values_list(self.model._meta.pk_attr, flat=True))

    async def _conflicting(self, tx: BaseDBAsyncClient, objects: list[MODEL], columns: list[str]) -> list[Any]:
        """The keys of stored rows that ON CONFLICT would update."""
        same = [Q(**{name: getattr(o, name) for name in columns}) for o in objects] if columns else []
        keys: list[Any] = []
        for start in range(0, len(same), CONFLICTS_PER_STATEMENT):
            any_of = Q(*same[start : start + CONFLICTS_PER_STATEMENT], join_type="OR")
            stored = QuerySet(self.model).using_db(tx).filter(any_of)
            keys += await stored.values_list(self.model._meta.pk_attr, flat=True)
        return keys


class TrackedManager(Manager):
    """The manager of recorded models; derive your own managers from it, and your query sets from TrackedQuerySet."""

    def get_queryset(self) -> TrackedQuerySet[Any]:
        """A query set whose bulk writes are recorded."""
        return TrackedQuerySet(self._model)


def parents_of(objects: list[Any]) -> list[Row]:
    """The rows that these objects are about to belong to."""
    return [
        (link.parent, key)
        for o in objects
        for link in registry.links(type(o))
        if (key := getattr(o, link.column, None)) is not None
    ]


def _new_parents(model: type[Model], values: dict[str, Any]) -> list[Row]:
    """The rows that an update with these values moves children to."""
    found: list[Row] = []
    for link in registry.links(model):
        value = values.get(link.column, values.get(link.attribute))
        if isinstance(value, Expression):
            raise TrackingError(
                f"{model.__name__}: an expression for {link.attribute} moves rows to parents that cannot be told; move "
                "them with save(), or with update() and a plain value"
            )
        if value is not None:
            found.append((link.parent, value.pk if isinstance(value, Model) else value))
    return found
