"""The base classes of everything whose writes are recorded.

Derive what webhooks can watch from `Tracked`; derive its children, and whatever a cascading delete may start from, from
`TrackedChild`. `start_tracking()` takes all models of the open database into the registry and listens to their signals;
until then recorded models refuse to be written. All of Tortoise's ways to write them are seen; for SQL of your own
there is `track_sql()`.
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

#: SQL that reads; behind the common table expressions of a WITH, which end in a bracket, may stand a write.
_READS = re.compile(r"\s*(SELECT|VALUES|WITH)\b", re.IGNORECASE)
_WRITES_BEHIND_WITH = re.compile(r"\)\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)


def _managers(model: type[Model]) -> list[Manager]:
    return [model._meta.manager, *(value for value in vars(model).values() if isinstance(value, Manager))]


class TrackedChild(Model):
    """A model whose every write, single or in bulk, is noted by the open transaction."""

    class Meta:
        abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for manager in _managers(cls):
            if type(manager) is not Manager and not isinstance(manager, TrackedManager):
                raise TrackingError(
                    f"{cls.__name__}: the manager {type(manager).__name__} would write in bulk unseen: "
                    "derive it from ringback.models.TrackedManager"
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
        """Save in the open transaction, or in one of its own: the object and its events are one write."""
        inserts = force_create or not (force_update or self._saved_in_db or update_fields)
        async with track_touched_rows(type(self), using_db) as (tx, notes):
            with notes.inserting(self) if inserts else nullcontext():
                await super().save(tx, update_fields, force_create, force_update)

    async def delete(self, using_db: BaseDBAsyncClient | None = None) -> None:
        """Delete in the open transaction, or in one of its own."""
        async with track_touched_rows(type(self), using_db) as (tx, _):
            await super().delete(tx)

    @classmethod
    def raw(cls, sql: str, using_db: BaseDBAsyncClient | None = None) -> RawSQLQuery:
        """Objects by SQL of your own that reads; raises TrackingError for one that writes."""
        if not _READS.match(sql) or _WRITES_BEHIND_WITH.search(sql):
            raise TrackingError(
                f"{cls.__name__}: raw() would write unseen: use `async with writing({cls.__name__}, key) as db` and "
                "execute the statement there"
            )
        return super().raw(sql, using_db)


class Tracked(TrackedChild):
    """A model that webhooks can watch; its subclass sets `tracking`."""

    tracking: ClassVar[Tracking]

    class Meta:
        abstract = True


def start_tracking() -> None:
    """Build the registry from the models of the open database and listen to their signals.

    Call it after each `Tortoise.init()`, which must hold `tortoise_apps()` among its apps. Raises TrackingError when a
    model cannot be tracked without missing a change.
    """
    apps = Tortoise.apps or {}
    if "ringback" not in apps:
        raise TrackingError("the Tortoise configuration lacks Ringback's models: put tortoise_apps() into its apps")
    if not get_use_tz():
        raise TrackingError("the Tortoise configuration says use_tz=False: Ringback needs use_tz=True")
    models = [model for app in apps.values() for model in app.values()]
    recorded = [model for model in models if issubclass(model, TrackedChild)]
    for model in recorded:
        _check_database(model)
    registry.build(models, tracked=Tracked, recorded=TrackedChild)
    for model in recorded:
        register_listeners(model)


@asynccontextmanager
async def track_sql(
    model: type[TrackedChild], *keys: Any, using_db: BaseDBAsyncClient | None = None
) -> AsyncIterator[BaseDBAsyncClient]:
    """Record what SQL of your own does to these rows, cascades included.

    Name every row that the SQL inserts, changes or deletes by its primary key, and, where it moves a child, its new
    parent in a block around this one; then execute it on the connection that the block gives:

        async with writing(Car, 1, 2) as db:
            await db.execute_query("UPDATE car SET mileage = mileage + 1 WHERE id IN (1, 2)")
    """
    async with track_touched_rows(model, using_db) as (tx, notes):
        await notes.touch_deleted(model, keys)
        yield tx


def _check_database(model: type[Model]) -> None:
    """A change must be written by the transaction that changes the object, so both are in one database."""
    ours = Webhook._meta.default_connection
    if model._meta.default_connection != ours:
        raise TrackingError(
            f"{model.__name__} is in the database {model._meta.default_connection!r}, but Ringback's tables are in "
            f"{ours!r}: a change can only be recorded in the same database"
        )
    check_recording(model, model._meta.db)
    for manager in _managers(model):
        query_set = manager.get_queryset()
        if not isinstance(query_set, TrackedQuerySet):
            raise TrackingError(
                f"{model.__name__}: the query sets of {type(manager).__name__} would write in bulk unseen: derive "
                f"{type(query_set).__name__} from ringback.models.TrackedQuerySet"
            )
