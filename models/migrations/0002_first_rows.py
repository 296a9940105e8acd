"""The rows that every database has: what tells it from others, and the site's settings."""

import datetime as dt
from typing import Any, ClassVar

from tortoise import migrations
from tortoise.migrations import operations as ops

from ringback.models.ids import new_key


async def insert(apps: Any, schema_editor: Any) -> None:
    """Insert both rows."""
    now = dt.datetime.now(dt.UTC)
    db = schema_editor.client
    await apps.get_model("ringback.Installation").create(id=1, epoch=new_key(), created_at=now, using_db=db)
    await apps.get_model("ringback.SiteSettings").create(id=1, track_leads=False, updated_at=now, using_db=db)


async def remove(apps: Any, schema_editor: Any) -> None:
    """Remove both rows."""
    await schema_editor.client.execute_script("DELETE FROM ringback_installation; DELETE FROM site_settings;")


class Migration(migrations.Migration):
    dependencies: ClassVar = [("ringback", "0001_initial")]
    operations: ClassVar = [ops.RunPython(insert, remove)]
