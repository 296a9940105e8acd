"""A field whose migration can be undone without loss. Tortoise skips modules whose names start with an underscore."""

from typing import Any

from tortoise.migrations import operations as ops


class AddDroppableField(ops.AddField):
    """An added field whose column is dropped in place.

    On SQLite, Tortoise would copy the table and drop the old one, which deletes the rows that refer to it.
    """

    async def database_backward(self, app_label: str, old_state: Any, new_state: Any, state_editor: Any = None) -> None:
        """Drop the column."""
        model = old_state.apps.get_model(f"{app_label}.{self.model_name}")
        column = model._meta.fields_db_projection[self.name]
        await state_editor.client.execute_script(f'ALTER TABLE "{model._meta.db_table}" DROP COLUMN "{column}"')
