"""Tortoise's signals of tracked models: each single write adds its row to the touched rows of the open transaction.

The rows are added before the write. Just before the COMMIT, `models.tracking.outbox` turns them into changes and
events; after it, `ringback.jobs.announcer` tells the workers that events are due. Bulk writes fire no signals, see
`models.tracking.querysets`.
"""

from collections.abc import Iterable

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model
from tortoise.signals import Signals

from ringback.models.database.unit_of_work import find_unit
from ringback.models.errors import TrackingError
from ringback.models.tracking.querysets import list_parents
from ringback.models.tracking.touched_rows import TouchedRows, get_touched_rows


def register_listeners(model: type[Model]) -> None:
    """Listen to the writes of a tracked model."""
    model.register_listener(Signals.pre_save, before_save)
    model.register_listener(Signals.post_save, after_save)
    model.register_listener(Signals.pre_delete, before_delete)


async def before_save(
    sender: type[Model], instance: Model, using_db: BaseDBAsyncClient, update_fields: Iterable[str] | None
) -> None:
    """Touch the row that is about to be written, and the parents that it is about to belong to."""
    touched = _require_touched_rows(using_db)
    is_new = instance.pk is None or touched.is_inserting(instance)
    keys = [] if is_new else [instance.pk]
    await touched.touch(sender, keys, parents=list_parents([instance]))


async def after_save(
    sender: type[Model],
    instance: Model,
    created: bool,
    using_db: BaseDBAsyncClient,
    update_fields: Iterable[str] | None,
) -> None:
    """Touch a row that was just inserted.

    Raises TrackingError when another pre_save listener changed the write so that it cannot be recorded.
    """
    touched = _require_touched_rows(using_db)
    if created:
        touched.add_inserted(sender, instance.pk)
    elif touched.is_inserting(instance):
        raise TrackingError(
            f"a pre_save listener turned the insert of a {sender.__name__} into an update, which cannot be recorded. "
            "Change the object before save()."
        )
    touched.check_parents(list_parents([instance]))


async def before_delete(sender: type[Model], instance: Model, using_db: BaseDBAsyncClient) -> None:
    """Touch the row that is about to be deleted, and all rows that the database deletes or changes with it."""
    await _require_touched_rows(using_db).touch_deleted(sender, [instance.pk])


def _require_touched_rows(db: BaseDBAsyncClient) -> TouchedRows:
    unit = find_unit(db)
    if unit is None:
        raise TrackingError("a tracked object was written outside of a transaction. Call its own save() or delete().")
    return get_touched_rows(db, unit)
