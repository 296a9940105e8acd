"""Workers with one lease each. An event names its worker, and is due at `next_attempt_at`.

Stop old workers before this migration. Events that they had claimed without starting an attempt become due again.
Events with a started attempt name a worker that does not exist, so the first new worker records ABANDONED attempts.

Undoing this migration does not restore `ringback_claim`, the function of earlier commits for claiming on Postgres.
"""

from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

#: New databases do not have these indexes.
_BEFORE = """
DROP INDEX IF EXISTS ringback_event_waiting;
DROP INDEX IF EXISTS ringback_event_waiting_of;
DROP INDEX IF EXISTS ringback_event_leased;
DROP INDEX IF EXISTS ringback_event_under_way;
UPDATE ringback_event SET lease = NULL WHERE lease IS NOT NULL AND lease_begun_at IS NULL;
"""
#: Events in flight get an expired lease.
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
    """Removal of a column in place. On SQLite, Tortoise would copy the table and lose references to it."""

    async def database_forward(self, app_label: str, old_state: Any, new_state: Any, state_editor: Any = None) -> None:
        """Drop the column `due_at`."""
        await state_editor.client.execute_script("ALTER TABLE ringback_event DROP COLUMN due_at")


async def drop_claim_function(apps: Any, schema_editor: Any) -> None:
    """Drop the function for claiming, which only databases of earlier commits have."""
    if schema_editor.client.capabilities.dialect == "postgres":
        await schema_editor.client.execute_script("DROP FUNCTION IF EXISTS ringback_claim")


class Migration(migrations.Migration):
    dependencies = [("ringback", "0001_initial")]

    initial = False

    operations = [
        ops.RunSQL(_BEFORE, _UNDO_BEFORE),
        ops.RunPython(drop_claim_function, ops.RunPython.noop),
        ops.CreateModel(
            name="Worker",
            fields=[
                ("id", fields.UUIDField(primary_key=True)),
                ("host", fields.CharField(max_length=255)),
                ("pid", fields.IntField()),
                ("started_at", fields.DatetimeField()),
                (
                    "alive_until",
                    fields.DatetimeField(
                        null=True,
                        description="End of the lease by the database clock, null for a lease without end (SQLite).",
                    ),
                ),
            ],
            options={
                "table": "ringback_worker",
                "app": "ringback",
                "table_description": "A worker process and its lease. Events in flight name the worker that claimed "
                "them.",
            },
        ),
        ops.RenameField(model_name="Event", old_name="lease", new_name="worker_id"),
        ops.RenameField(model_name="Event", old_name="lease_begun_at", new_name="claimed_at"),
        DropDueAt(model_name="Event", name="due_at"),
        ops.RunSQL(_AFTER, _UNDO_AFTER),
    ]
