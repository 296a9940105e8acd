"""The index of attempts by status holds the statuses that are rare, so that a delivered attempt costs one entry less."""

from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("ringback", "0011_waiting_of_a_webhook")]

    initial = False

    operations = [
        ops.RemoveIndex(model_name="Attempt", fields=["status_code", "id"]),
        ops.RunSQL(
            "CREATE INDEX ringback_attempt_status ON ringback_attempt (status_code, id) WHERE status_code <> 200",
            "DROP INDEX ringback_attempt_status",
        ),
    ]
