"""The fields of declared models that templates can use, so that reading them compiles no schema.

Stop API processes of earlier versions before this migration: a model that they declare later has no fields until it is
declared again.
"""

import json
from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from ringback.models.database.sql import execute, fetch_rows
from ringback.models.json_schema.schema import derive_fields
from ringback.models.json_schema.subschemas import SchemaFault

#: The fields of a schema that a limit refuses now: templates may use any path.
_ANY_FIELD = [["item.*", "json", "Any other field."]]


async def fill_template_fields(apps: Any, schema_editor: Any) -> None:
    """Derive the fields of the models that are declared."""
    connection = schema_editor.client
    for (name,) in await fetch_rows(connection, "SELECT name FROM ringback_declared_model"):
        statement = "SELECT json_schema FROM ringback_declared_model WHERE name = $1"
        ((json_schema,),) = await fetch_rows(connection, statement, name)
        template_fields = json.dumps(_derive(json_schema), ensure_ascii=False)
        statement = "UPDATE ringback_declared_model SET template_fields = $1 WHERE name = $2"
        await execute(connection, statement, template_fields, name)


def _derive(json_schema: str) -> list[list[str]]:
    try:
        infos = derive_fields(json_schema)
    except SchemaFault:
        return _ANY_FIELD
    return [[info.path, info.type, info.description] for info in infos]


class Migration(migrations.Migration):
    dependencies = [("ringback", "0018_inbox_quotas")]

    initial = False

    operations = [
        ops.AddField(
            model_name="DeclaredModel",
            name="template_fields",
            field=fields.JSONField(
                db_default="[]",
                description="[path, type, description] of each field that templates can use, derived from the schema.",
            ),
        ),
        ops.RunPython(fill_template_fields, ops.RunPython.noop),
    ]
