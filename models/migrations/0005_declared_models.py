from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from ringback.models.ids import new_key
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("ringback", "0004_following")]

    initial = False

    operations = [
        ops.CreateModel(
            name="DeclaredModel",
            fields=[
                ("name", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=100)),
                ("label", fields.CharField(description="Its name for people.", max_length=200)),
                ("description", fields.TextField(unique=False)),
                (
                    "json_schema",
                    fields.TextField(
                        description="JSON text, so that the compiled schema is found by it.", unique=False
                    ),
                ),
                ("sample", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("updated_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_declared_model",
                "app": "ringback",
                "pk_attr": "name",
                "table_description": "A model as it was declared last.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_key, unique=True, db_index=True)),
                ("model", fields.CharField(max_length=100)),
                ("key", fields.CharField(max_length=255)),
                ("digest", fields.CharField(description="SHA-256 of the change, in hexadecimal.", max_length=64)),
                (
                    "event_ids",
                    fields.JSONField(
                        description="The keys of its events, in order.", encoder=JSON_DUMPS, decoder=loads
                    ),
                ),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "ringback_idempotency_key",
                "app": "ringback",
                "unique_together": (("model", "key"),),
                "indexes": [Index(fields=["created_at"])],
                "pk_attr": "id",
                "table_description": "A key, and what was done under it.",
            },
            bases=["Model"],
        ),
    ]
