"""The rows that every database has: what tells it from others, and the site's settings."""

import datetime as dt
from typing import Any, ClassVar

from tortoise import migrations
from tortoise.migrations import operations as ops

from ringback.models.ids import new_key
from ringback.models.statements import execute


async def insert(apps: Any, schema_editor: Any) -> None:
    """Insert both rows.

    In SQL: Tortoise remembers the columns of a table for the whole process, and so inserts those of later migrations
    where a database was open before.
    """
    now = dt.datetime.now(dt.UTC)
    db = schema_editor.client
    await execute(db, "INSERT INTO ringback_installation (id, epoch, created_at) VALUES (1, $1, $2)", new_key(), now)
    await execute(db, "INSERT INTO site_settings (id, track_leads, updated_at) VALUES (1, $1, $2)", False, now)


async def remove(apps: Any, schema_editor: Any) -> None:
    """Remove both rows."""
    await schema_editor.client.execute_script("DELETE FROM ringback_installation; DELETE FROM site_settings;")


class Migration(migrations.Migration):
    dependencies: ClassVar = [("ringback", "0001_initial")]
    operations: ClassVar = [ops.RunPython(insert, remove)]
