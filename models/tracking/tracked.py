"""The base classes of models whose writes are recorded.

Derive root models, which webhooks can watch, from `Tracked`. Derive their children, and models whose deletion cascades
to tracked rows, from `TrackedChild`. `start_tracking()` registers all models of the open database and listens to their
signals; before that, writes of tracked models raise a TrackingError. All of Tortoise's ways to write are recorded; wrap
your own SQL in `track_sql()`.
"""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, ClassVar

from tortoise import Tortoise
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.manager import Manager
from tortoise.models import Model
from tortoise.queryset import RawSQLQuery
from tortoise.timezone import get_use_tz

from ringback.models.database.transactions import check_recording
from ringback.models.errors import TrackingError
from ringback.models.tracking.querysets import TrackedManager, TrackedQuerySet
from ringback.models.tracking.registry import Tracking, registry
from ringback.models.tracking.signals import register_listeners
from ringback.models.tracking.touched_rows import track_touched_rows
from ringback.models.webhook import Webhook

_READS = re.compile(r"\s*(SELECT|VALUES|WITH)\b", re.IGNORECASE)
#: A write may follow the last common table expression, which ends in a parenthesis.
_WRITES_AFTER_WITH = re.compile(r"\)\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)


def _list_managers(model: type[Model]) -> list[Manager]:
    own = [value for value in vars(model).values() if isinstance(value, Manager)]
    return [model._meta.manager, *own]


class TrackedChild(Model):
    """A model whose writes, single or in bulk, add their rows to the touched rows of the open transaction."""

    class Meta:
        abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for manager in _list_managers(cls):
            if type(manager) is not Manager and not isinstance(manager, TrackedManager):
                raise TrackingError(
                    f"{cls.__name__}: bulk writes of the manager {type(manager).__name__} would not be recorded. "
                    "Derive it from ringback.models.TrackedManager."
                )
        if type(cls._meta.manager) is Manager:
            cls._meta.manager = TrackedManager()

    async def save(
        self,
        using_db: BaseDBAsyncClient | None = None,
        update_fields: Iterable[str] | None = None,
        force_create: bool = False,
        force_update: bool = False,
    ) -> None:
        """Save the object and record the change in the same transaction: the open one, or one of its own."""
        is_insert = force_create or not (force_update or self._saved_in_db or update_fields)
        async with track_touched_rows(type(self), using_db) as (tx, touched):
            insert = touched.mark_inserting(self) if is_insert else nullcontext()
            with insert:
                await super().save(tx, update_fields, force_create, force_update)

    async def delete(self, using_db: BaseDBAsyncClient | None = None) -> None:
        """Delete the object and record the change in the same transaction: the open one, or one of its own."""
        async with track_touched_rows(type(self), using_db) as (tx, _):
            await super().delete(tx)

    @classmethod
    def raw(cls, sql: str, using_db: BaseDBAsyncClient | None = None) -> RawSQLQuery:
        """Return a query with SQL of your own that reads. Raises TrackingError for SQL that writes."""
        if not _READS.match(sql) or _WRITES_AFTER_WITH.search(sql):
            raise TrackingError(
                f"{cls.__name__}: a write by raw() would not be recorded. Use `async with track_sql({cls.__name__}, "
                "key) as db` and execute the statement on db."
            )
        return super().raw(sql, using_db)


class Tracked(TrackedChild):
    """A root model, which webhooks can watch. Its subclass sets `tracking`."""

    tracking: ClassVar[Tracking]

    class Meta:
        abstract = True


def start_tracking() -> None:
    """Build the registry from the models of the open database and listen to their signals.

    Call it after each `Tortoise.init()`, whose apps must include `tortoise_apps()`. Raises TrackingError when changes
    of a model could be missed.
    """
    apps = Tortoise.apps or {}
    if "ringback" not in apps:
        raise TrackingError("the Tortoise configuration lacks Ringback's models. Add tortoise_apps() to its apps.")
    if not get_use_tz():
        raise TrackingError("the Tortoise configuration has use_tz=False. Set use_tz=True.")
    models = [model for app in apps.values() for model in app.values()]
    tracked = [model for model in models if issubclass(model, TrackedChild)]
    for model in tracked:
        _check_database(model)
    registry.build(models, root_class=Tracked, child_class=TrackedChild)
    for model in tracked:
        register_listeners(model)


@asynccontextmanager
async def track_sql(
    model: type[TrackedChild], *keys: Any, using_db: BaseDBAsyncClient | None = None
) -> AsyncIterator[BaseDBAsyncClient]:
    """Record the changes that SQL of your own makes to the rows with these primary keys, cascades included.

    Pass the key of every row that the SQL inserts, changes or deletes, and execute it on the connection that the block
    yields. If the SQL moves a child, open another block around this one for the child's new parent.

        async with track_sql(Car, 1, 2) as db:
            await db.execute_query("UPDATE car SET mileage = mileage + 1 WHERE id IN (1, 2)")
    """
    async with track_touched_rows(model, using_db) as (tx, touched):
        await touched.touch_deleted(model, keys)
        yield tx


def _check_database(model: type[Model]) -> None:
    """Raise TrackingError unless one transaction can hold the model's writes and their changes."""
    ours = Webhook._meta.default_connection
    if model._meta.default_connection != ours:
        raise TrackingError(
            f"{model.__name__} is in the database {model._meta.default_connection!r}, but Ringback's tables are in "
            f"{ours!r}. Put both into the same database, so that one transaction can write the object and its change."
        )
    check_recording(model, model._meta.db)
    for manager in _list_managers(model):
        query_set = manager.get_queryset()
        if not isinstance(query_set, TrackedQuerySet):
            raise TrackingError(
                f"{model.__name__}: bulk writes of the query sets of {type(manager).__name__} would not be recorded. "
                f"Derive {type(query_set).__name__} from ringback.models.TrackedQuerySet."
            )
