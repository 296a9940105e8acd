"""The base classes of everything whose writes are recorded, and the signals that note single writes.

Derive what webhooks can watch from `Tracked`; derive its children, and whatever a cascading delete may start from,
from `Recorded`. `connect()` takes all models of the open database into the registry and listens to their signals.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from ringback.models.errors import TrackingError
from ringback.models.notes import notes_of
from ringback.models.querysets import RecordedManager, parents_of
from ringback.models.registry import Tracking, registry
from ringback.models.transactions import UnitOfWork, unit_of, unit_of_work
from tortoise import Tortoise
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.manager import Manager
from tortoise.models import Model
from tortoise.signals import Signals


class Recorded(Model):
    """A model whose every write, single or in bulk, is noted by the open transaction."""

    class Meta:
        abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for manager in (cls._meta.manager, *(v for v in vars(cls).values() if isinstance(v, Manager))):
            if type(manager) is not Manager and not isinstance(manager, RecordedManager):
                raise TrackingError(
                    f"{cls.__name__}: the manager {type(manager).__name__} would write in bulk unseen: "
                    "derive it from ringback.models.RecordedManager"
                )
        if type(cls._meta.manager) is Manager:
            cls._meta.manager = RecordedManager()

    async def save(
        self,
        using_db: BaseDBAsyncClient | None = None,
        update_fields: Iterable[str] | None = None,
        force_create: bool = False,
        force_update: bool = False,
    ) -> None:
        """Save in the open transaction, or in one of its own: the object and its events are one write."""
        async with unit_of_work(type(self), using_db) as (tx, _):
            await super().save(tx, update_fields, force_create, force_update)

    async def delete(self, using_db: BaseDBAsyncClient | None = None) -> None:
        """Delete in the open transaction, or in one of its own."""
        async with unit_of_work(type(self), using_db) as (tx, _):
            await super().delete(tx)


class Tracked(Recorded):
    """A model that webhooks can watch; its subclass sets `tracking`."""

    tracking: ClassVar[Tracking]

    class Meta:
        abstract = True


def connect() -> None:
    """Build the registry from the models of the open database and listen to their signals.

    Raises TrackingError when a model cannot be tracked without missing a change.
    """
    models = [model for app in (Tortoise.apps or {}).values() for model in app.values()]
    registry.build(models, tracked=Tracked, recorded=Recorded)
    for model in models:
        if issubclass(model, Recorded):
            for signal, listener in _LISTENERS.items():
                if listener not in model._listeners[signal].get(model, []):
                    model.register_listener(signal, listener)


async def _before_save(
    sender: type[Model], instance: Model, using_db: BaseDBAsyncClient, update_fields: Iterable[str] | None
) -> None:
    keys = [] if instance.pk is None else [instance.pk]
    await notes_of(using_db, _unit(using_db)).touch(sender, keys, parents=parents_of([instance]))


async def _after_save(
    sender: type[Model],
    instance: Model,
    created: bool,
    using_db: BaseDBAsyncClient,
    update_fields: Iterable[str] | None,
) -> None:
    if created:
        notes_of(using_db, _unit(using_db)).created(sender, instance.pk)


async def _before_delete(sender: type[Model], instance: Model, using_db: BaseDBAsyncClient) -> None:
    await notes_of(using_db, _unit(using_db)).touch_deleted(sender, [instance.pk])


def _unit(db: BaseDBAsyncClient) -> UnitOfWork:
    unit = unit_of(db)
    if unit is None:
        raise TrackingError(
            "a tracked object was written outside of a transaction: call save() or delete() of its class"
        )
    return unit


_LISTENERS: dict[Signals, Any] = {
    Signals.pre_save: _before_save,
    Signals.post_save: _after_save,
    Signals.pre_delete: _before_delete,
}
