"""Tortoise's signals of recorded models: each single write is noted by the open transaction, before it happens.

Just before the COMMIT, the notes become changes and events (`models.tracking.outbox`); after the COMMIT, the message
that events are due goes to the workers (`ringback.jobs.announcer`). Bulk writes fire no signals;
`models.tracking.querysets` notes them.
"""

from collections.abc import Iterable

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model
from tortoise.signals import Signals

from ringback.models.database.unit_of_work import unit_of
from ringback.models.errors import TrackingError
from ringback.models.tracking.querysets import parents_of
from ringback.models.tracking.touched_rows import TouchedRows, touched_rows_of


def register_listeners(model: type[Model]) -> None:
    """Listen to the writes of a recorded model."""
    model.register_listener(Signals.pre_save, before_save)
    model.register_listener(Signals.post_save, after_save)
    model.register_listener(Signals.pre_delete, before_delete)


async def before_save(
    sender: type[Model], instance: Model, using_db: BaseDBAsyncClient, update_fields: Iterable[str] | None
) -> None:
    """Note the row that is about to be written, and the parents that it is about to belong to."""
    notes = _notes(using_db)
    keys = [] if instance.pk is None or notes.is_inserting(instance) else [instance.pk]
    await notes.touch(sender, keys, parents=parents_of([instance]))


async def after_save(
    sender: type[Model],
    instance: Model,
    created: bool,
    using_db: BaseDBAsyncClient,
    update_fields: Iterable[str] | None,
) -> None:
    """Note a row that did not exist before; raises TrackingError for a write that cannot be recorded."""
    notes = _notes(using_db)
    if created:
        notes.created(sender, instance.pk)
    elif notes.is_inserting(instance):
        raise TrackingError(
            f"a pre_save listener made a new {sender.__name__} one that was saved before, which cannot be recorded"
        )
    notes.check_announced(parents_of([instance]))


async def before_delete(sender: type[Model], instance: Model, using_db: BaseDBAsyncClient) -> None:
    """Note the row that is about to be deleted, with all that the database deletes with it."""
    await _notes(using_db).touch_deleted(sender, [instance.pk])


def _notes(db: BaseDBAsyncClient) -> TouchedRows:
    unit = unit_of(db)
    if unit is None:
        raise TrackingError(
            "a tracked object was written outside of a transaction: call save() or delete() of its class"
        )
    return touched_rows_of(db, unit)
