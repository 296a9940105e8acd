"""On Postgres a webhook's log entries are found in commit order alone: the index of their keys is never used there."""

from typing import Any

from tortoise import migrations
from tortoise.migrations import operations as ops

_NAME = "idx_ringback_lo_webhook_d10e71"


async def drop(apps: Any, schema_editor: Any) -> None:
    """SQLite, whose commit order is that of the keys, keeps it."""
    if schema_editor.client.capabilities.dialect == "postgres":
        await schema_editor.client.execute_script(f"DROP INDEX {_NAME}")


async def undo(apps: Any, schema_editor: Any) -> None:
    """Have it again."""
    if schema_editor.client.capabilities.dialect == "postgres":
        await schema_editor.client.execute_script(f"CREATE INDEX {_NAME} ON ringback_log (webhook_id, id)")


class Migration(migrations.Migration):
    dependencies = [("ringback", "0013_by_webhook")]

    initial = False

    operations = [ops.RunPython(drop, undo)]
