"""Events whose condition was not evaluated when their change was recorded."""

from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class AddPendingCondition(ops.AddField):
    """An added column that is removed in place. On SQLite, Tortoise would copy the table and lose references to it."""

    async def database_backward(self, app_label: str, old_state: Any, new_state: Any, state_editor: Any = None) -> None:
        """Drop the column `condition_pending`."""
        await state_editor.client.execute_script("ALTER TABLE ringback_event DROP COLUMN condition_pending")


class Migration(migrations.Migration):
    dependencies = [("ringback", "0016_workers")]

    initial = False

    operations = [
        AddPendingCondition(
            model_name="Event",
            name="condition_pending",
            field=fields.BooleanField(
                default=False,
                db_default=False,
                description="Whether the webhook's condition was not evaluated at the change, for lack of time. Each "
                "attempt evaluates it.",
            ),
        ),
    ]
