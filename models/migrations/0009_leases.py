"""Indexes of what waits and of what is leased, apart: each is small, and an event is in one of them.

What found a lease's events is not needed any more: they are known by their ids.
"""

from typing import Any

from tortoise import migrations
from tortoise.migrations import operations as ops

_DO = """
DROP INDEX ringback_event_of_lease;
DROP INDEX ringback_event_waiting;
CREATE INDEX ringback_event_waiting ON ringback_event (status, due_at) WHERE lease IS NULL AND due_at IS NOT NULL;
CREATE INDEX ringback_event_leased ON ringback_event (due_at) WHERE lease IS NOT NULL;
"""
_UNDO = """
DROP INDEX ringback_event_leased;
DROP INDEX ringback_event_waiting;
CREATE INDEX ringback_event_waiting ON ringback_event (status, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ringback_event_of_lease ON ringback_event (lease) WHERE lease IS NOT NULL;
"""
#: Room in each page of the table for the next version of its rows.
_FILLFACTOR = "ALTER TABLE ringback_event SET (fillfactor = 70)"


async def apply(apps: Any, schema_editor: Any) -> None:
    """The same indexes on both kinds of database; the room only where versions take any."""
    await schema_editor.client.execute_script(_DO)
    if schema_editor.client.capabilities.dialect == "postgres":
        await schema_editor.client.execute_script(_FILLFACTOR)


async def undo(apps: Any, schema_editor: Any) -> None:
    """The indexes that were there before."""
    await schema_editor.client.execute_script(_UNDO)


class Migration(migrations.Migration):
    dependencies = [("ringback", "0008_limits")]

    initial = False

    operations = [
        ops.RemoveIndex(model_name="Event", fields=["due_at"]),
        ops.RunPython(apply, undo),
    ]
