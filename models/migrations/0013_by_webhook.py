"""A webhook's events and attempts are found by their few statuses and outcomes: one index less each to be written."""

from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("ringback", "0012_codes")]

    initial = False

    operations = [
        ops.RemoveIndex(model_name="Event", fields=["webhook_id", "id"]),
        ops.RemoveIndex(model_name="Attempt", fields=["webhook_id", "id"]),
    ]
