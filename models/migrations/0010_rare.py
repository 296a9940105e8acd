"""Indexes of what is rare, so that finding it does not mean reading all that is not: they cost the other rows nothing."""

from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("ringback", "0009_leases")]

    initial = False

    operations = [
        ops.RunSQL(
            "CREATE INDEX ringback_event_tests ON ringback_event (id) WHERE is_test",
            "DROP INDEX ringback_event_tests",
        ),
        ops.RunSQL(
            "CREATE INDEX ringback_attempt_codes ON ringback_attempt (webhook_id, status_code, id) "
            "WHERE status_code <> 200",
            "DROP INDEX ringback_attempt_codes",
        ),
        ops.RunSQL(
            "CREATE INDEX ringback_attempt_odd ON ringback_attempt (status_code, id) "
            "WHERE status_code = 200 AND outcome <> 'DELIVERED'",
            "DROP INDEX ringback_attempt_odd",
        ),
    ]
