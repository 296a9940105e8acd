"""Workers with one lease each: an event names its worker, and `next_attempt_at` alone says when it is due.

Stop old workers first. Events that they had claimed and not begun become due again; those that they had begun name no
worker, so the first new worker records them as ABANDONED.
"""

from importlib import import_module
from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

_claiming = import_module("ringback.models.migrations.0015_claiming")

_BEFORE = """
DROP INDEX ringback_event_waiting;
DROP INDEX ringback_event_waiting_of;
DROP INDEX ringback_event_leased;
DROP INDEX ringback_event_under_way;
UPDATE ringback_event SET lease = NULL WHERE lease IS NOT NULL AND lease_begun_at IS NULL;
"""
#: An event that a worker has in flight gets a lease that has ended.
_UNDO_BEFORE = """
UPDATE ringback_event SET due_at = CASE WHEN lease IS NULL THEN next_attempt_at ELSE lease_begun_at END
WHERE next_attempt_at IS NOT NULL OR lease IS NOT NULL;
CREATE INDEX ringback_event_under_way ON ringback_event (webhook_id) WHERE lease IS NOT NULL;
CREATE INDEX ringback_event_leased ON ringback_event (due_at) WHERE lease IS NOT NULL;
CREATE INDEX ringback_event_waiting_of ON ringback_event (webhook_id, status, due_at)
    WHERE lease IS NULL AND due_at IS NOT NULL;
CREATE INDEX ringback_event_waiting ON ringback_event (status, due_at) WHERE lease IS NULL AND due_at IS NOT NULL;
"""
_AFTER = """
CREATE INDEX ringback_event_waiting ON ringback_event (status, next_attempt_at)
    WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL;
CREATE INDEX ringback_event_waiting_by_webhook ON ringback_event (webhook_id, status, next_attempt_at)
    WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL;
CREATE INDEX ringback_event_claimed ON ringback_event (webhook_id, worker_id) WHERE worker_id IS NOT NULL;
"""
_UNDO_AFTER = """
DROP INDEX ringback_event_waiting;
DROP INDEX ringback_event_waiting_by_webhook;
DROP INDEX ringback_event_claimed;
"""


class DropDueAt(ops.RemoveField):
    """Drops the column in place: on SQLite, Tortoise would copy the table, and lose what refers to it."""

    async def database_forward(self, app_label: str, old_state: Any, new_state: Any, state_editor: Any = None) -> None:
        """Drop it."""
        await state_editor.client.execute_script("ALTER TABLE ringback_event DROP COLUMN due_at")


class Describe(ops.AlterField):
    """Changes the description of a field, of which the database knows nothing."""

    async def database_forward(self, *states: Any, **editor: Any) -> None:
        """Do nothing."""

    async def database_backward(self, *states: Any, **editor: Any) -> None:
        """Do nothing."""


def moment(description: str) -> fields.DatetimeField:
    """Return a field for a moment that may be missing."""
    return fields.DatetimeField(null=True, auto_now=False, auto_now_add=False, description=description)


async def before(apps: Any, schema_editor: Any) -> None:
    """Drop what depends on the columns that change."""
    await schema_editor.client.execute_script(_BEFORE)
    await _claiming.drop(apps, schema_editor)


async def undo_before(apps: Any, schema_editor: Any) -> None:
    """Restore it."""
    await schema_editor.client.execute_script(_UNDO_BEFORE)
    await _claiming.create(apps, schema_editor)


async def after(apps: Any, schema_editor: Any) -> None:
    """Create the indexes by which events are claimed."""
    await schema_editor.client.execute_script(_AFTER)


async def undo_after(apps: Any, schema_editor: Any) -> None:
    """Drop them."""
    await schema_editor.client.execute_script(_UNDO_AFTER)


class Migration(migrations.Migration):
    dependencies = [("ringback", "0015_claiming")]

    initial = False

    operations = [
        ops.RunPython(before, undo_before),
        ops.CreateModel(
            name="Worker",
            fields=[
                ("id", fields.UUIDField(primary_key=True, unique=True, db_index=True)),
                ("host", fields.CharField(max_length=255)),
                ("pid", fields.IntField()),
                ("started_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                (
                    "alive_until",
                    moment(
                        "End of the lease by the database's clock, null for the only worker of a SQLite file, whose "
                        "lease has no end."
                    ),
                ),
            ],
            options={
                "table": "ringback_worker",
                "app": "ringback",
                "pk_attr": "id",
                "table_description": "A worker process and its lease. Events in flight name the worker that claimed "
                "them.",
            },
            bases=["Model"],
        ),
        ops.RenameField(model_name="Event", old_name="lease", new_name="worker_id"),
        ops.RenameField(model_name="Event", old_name="lease_begun_at", new_name="claimed_at"),
        DropDueAt(model_name="Event", name="due_at"),
        Describe(
            model_name="Event",
            name="next_attempt_at",
            field=moment("When the next attempt is due, or the attempt in flight was, null when the event has ended."),
        ),
        Describe(
            model_name="Event",
            name="worker_id",
            field=fields.UUIDField(
                null=True,
                description="The worker that has claimed the event, null while it waits. No foreign key: the row of a "
                "dead worker is deleted.",
            ),
        ),
        Describe(model_name="Event", name="claimed_at", field=moment("When that worker claimed it.")),
        ops.RunPython(after, undo_after),
    ]
