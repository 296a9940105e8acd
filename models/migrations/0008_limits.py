"""Limits of a webhook's own, and what finds an event by them: what is leased, and what waits, first attempts apart."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("ringback", "0007_of_a_webhook")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Webhook",
            name="max_concurrency",
            field=fields.IntField(
                null=True,
                description="Attempts under way at the same time, in all workers together, null for the setting's bound.",
            ),
        ),
        ops.AddField(
            model_name="Webhook",
            name="rate_limit_per_second",
            field=fields.FloatField(
                null=True, description="Attempts per second, in all workers together, null for no limit."
            ),
        ),
        ops.AddField(
            model_name="Webhook",
            name="last_slot_at",
            field=fields.DatetimeField(
                null=True,
                auto_now=False,
                auto_now_add=False,
                description="The moment given to the last attempt that the rate let go.",
            ),
        ),
        ops.RunSQL(
            "CREATE INDEX ringback_event_under_way ON ringback_event (webhook_id) WHERE lease IS NOT NULL",
            "DROP INDEX ringback_event_under_way",
        ),
        ops.RunSQL(
            "CREATE INDEX ringback_event_waiting ON ringback_event (status, due_at) WHERE due_at IS NOT NULL",
            "DROP INDEX ringback_event_waiting",
        ),
    ]
