"""The fields of declared models that templates can use, so that reading them compiles no schema.

`migrate()` fills the column. Stop API processes of earlier versions before this migration: they do not update the
column when a model is declared again.
"""

from tortoise import fields, migrations

from ringback.models.migrations._droppable_field import AddDroppableField


class Migration(migrations.Migration):
    dependencies = [("ringback", "0018_inbox_quotas")]

    initial = False

    operations = [
        AddDroppableField(
            model_name="DeclaredModel",
            name="template_fields",
            field=fields.JSONField(
                null=True,
                description="[path, type, description] of each field that templates can use. Null until migrate() "
                "derives it from the schema.",
            ),
        ),
    ]
