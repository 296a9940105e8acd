"""An index of what waits for each webhook: by it the dispatcher goes from webhook to webhook, whatever their backlogs."""

from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("ringback", "0010_rare")]

    initial = False

    operations = [
        ops.RunSQL(
            "CREATE INDEX ringback_event_waiting_of ON ringback_event (webhook_id, status, due_at) "
            "WHERE lease IS NULL AND due_at IS NOT NULL",
            "DROP INDEX ringback_event_waiting_of",
        ),
    ]
