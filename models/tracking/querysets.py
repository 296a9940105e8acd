"""Bulk writes of tracked models. Tortoise fires no signals for them, so they touch their rows here first.

`bulk_create`, `bulk_update`, `QuerySet.update` and `QuerySet.delete` work as in Tortoise, in the open transaction or in
one of their own. A bulk write that cannot be recorded raises a TrackingError that names an alternative.
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
#: Touches the rows that a write is about to change, within the write's transaction.
Touch = Callable[[TouchedRows, BaseDBAsyncClient], Awaitable[None]]

#: Objects per statement that looks for conflicting rows.
CONFLICTS_PER_STATEMENT = 100


class TrackedWrite(Generic[MODEL]):
    """A bulk write that first touches its rows, in one transaction. The rows of `inserted` did not exist before."""

    def __init__(
        self, model: type[MODEL], query: AwaitableQuery[MODEL], touch: Touch, inserted: Sequence[MODEL] = ()
    ) -> None:
        self._model = model
        self._query = query
        self._touch = touch
        self._inserted = inserted

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        async with track_touched_rows(self._model, self._query._db) as (tx, touched):
            await self._touch(touched, tx)
            self._query._db = tx
            result = await cast(Awaitable[Any], self._query)
            for instance in self._inserted:
                touched.add_inserted(self._model, instance.pk)
            return result

    def sql(self, params_inline: bool = False) -> str:
        """Return the SQL of the write."""
        return self._query.sql(params_inline)


class TrackedQuerySet(QuerySet[MODEL]):
    """Tortoise's query set with bulk writes that are recorded."""

    def update(self, **kwargs: Any) -> TrackedWrite[MODEL]:  # type: ignore[override]  # awaited in the same way
        """Update all matching rows. Raises TrackingError for an expression that moves rows to other parents."""
        parents = _list_new_parents(self.model, kwargs)

        async def touch(touched: TouchedRows, tx: BaseDBAsyncClient) -> None:
            await touched.touch(self.model, await self._fetch_keys(tx), parents=parents)

        return TrackedWrite(self.model, super().update(**kwargs), touch)

    def delete(self) -> TrackedWrite[MODEL]:  # type: ignore[override]  # awaited in the same way
        """Delete all matching rows, cascades included."""

        async def touch(touched: TouchedRows, tx: BaseDBAsyncClient) -> None:
            await touched.touch_deleted(self.model, await self._fetch_keys(tx))

        return TrackedWrite(self.model, super().delete(), touch)

    def bulk_update(  # type: ignore[override]  # awaited in the same way
        self, objects: Iterable[MODEL], fields: Iterable[str], batch_size: int | None = None
    ) -> TrackedWrite[MODEL]:
        """Update the named fields of the objects."""
        objects = list(objects)

        async def touch(touched: TouchedRows, tx: BaseDBAsyncClient) -> None:
            keys = [instance.pk for instance in objects]
            await touched.touch(self.model, keys, parents=list_parents(objects))

        return TrackedWrite(self.model, super().bulk_update(objects, list(fields), batch_size), touch)

    def bulk_create(  # type: ignore[override]  # awaited in the same way
        self,
        objects: Iterable[MODEL],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_fields: Iterable[str] | None = None,
        on_conflict: Iterable[str] | None = None,
    ) -> TrackedWrite[MODEL]:
        """Insert the objects. Raises TrackingError for root objects whose keys the database generates."""
        objects, conflict = list(objects), list(on_conflict or ())
        if registry.is_root(self.model) and any(instance.pk is None for instance in objects):
            raise TrackingError(
                f"bulk_create of {self.model.__name__} cannot tell which keys the database generates. Save the objects "
                "one by one inside one in_transaction(), or give the model a key made in Python, such as a UUID."
            )

        may_conflict = bool(ignore_conflicts or update_fields or conflict)

        async def touch(touched: TouchedRows, tx: BaseDBAsyncClient) -> None:
            keys: list[Any] = []
            if may_conflict:
                keys = [instance.pk for instance in objects if instance.pk is not None]
            keys += await self._fetch_conflicting_keys(tx, objects, conflict)
            await touched.touch(self.model, keys, parents=list_parents(objects))

        query = super().bulk_create(objects, batch_size, ignore_conflicts, update_fields, conflict or None)
        inserted = [] if may_conflict else objects
        return TrackedWrite(self.model, query, touch, inserted)

    async def _fetch_keys(self, tx: BaseDBAsyncClient) -> list[Any]:
        """Return the keys of the matching rows.

        A limit is dropped, because not every database applies it to a write; touching too many rows does no harm.
        """
        matching = self._clone().using_db(tx)
        matching._limit = matching._offset = None
        matching._orderings = []
        return list(await matching.values_list(self.model._meta.pk_attr, flat=True))

    async def _fetch_conflicting_keys(
        self, tx: BaseDBAsyncClient, objects: list[MODEL], columns: list[str]
    ) -> list[Any]:
        """Return the keys of the stored rows that ON CONFLICT would update."""
        if not columns:
            return []
        keys: list[Any] = []
        for start in range(0, len(objects), CONFLICTS_PER_STATEMENT):
            conflicts = [_equals(instance, columns) for instance in objects[start : start + CONFLICTS_PER_STATEMENT]]
            stored = QuerySet(self.model).using_db(tx).filter(Q(*conflicts, join_type="OR"))
            keys += await stored.values_list(self.model._meta.pk_attr, flat=True)
        return keys


class TrackedManager(Manager):
    """The manager of tracked models. Derive your own managers from it, and your query sets from TrackedQuerySet."""

    def get_queryset(self) -> TrackedQuerySet[Any]:
        """Return a query set whose bulk writes are recorded."""
        return TrackedQuerySet(self._model)


def list_parents(objects: Iterable[Any]) -> list[Row]:
    """Return the rows that these objects belong to once they are saved."""
    parents: list[Row] = []
    for instance in objects:
        for link in registry.links(type(instance)):
            key = getattr(instance, link.column, None)
            if key is not None:
                parents.append((link.parent, key))
    return parents


def _list_new_parents(model: type[Model], values: dict[str, Any]) -> list[Row]:
    """Return the rows to which an update with these values moves children."""
    parents: list[Row] = []
    for link in registry.links(model):
        parent = values.get(link.column, values.get(link.attribute))
        if isinstance(parent, Expression):
            raise TrackingError(
                f"{model.__name__}: an update sets {link.attribute} to an expression, so the new parents are unknown. "
                "Move the rows with save(), or with update() and a plain value."
            )
        key = parent.pk if isinstance(parent, Model) else parent
        if key is not None:
            parents.append((link.parent, key))
    return parents


def _equals(instance: Model, columns: Iterable[str]) -> Q:
    return Q(**{name: getattr(instance, name) for name in columns})
