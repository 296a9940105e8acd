from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("ringback", "0006_postgres")]

    initial = False

    operations = [
        ops.AddIndex(
            model_name="Attempt",
            index=Index(fields=["webhook_id", "outcome", "id"]),
        ),
        ops.AddIndex(
            model_name="Event",
            index=Index(fields=["webhook_id", "status", "id"]),
        ),
    ]
