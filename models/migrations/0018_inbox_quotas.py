"""Sizes of stored inbox requests, for the quotas of inboxes.

Requests that an inbox has stored before count as 0 bytes. They are the oldest of their inbox, so they are removed first
once the inbox exceeds a quota.
"""

from tortoise import fields, migrations

from ringback.models.migrations._droppable_field import AddDroppableField


class Migration(migrations.Migration):
    dependencies = [("ringback", "0017_pending_conditions")]

    initial = False

    operations = [
        AddDroppableField(
            model_name="Inbox",
            name="stored_bytes",
            field=fields.BigIntField(
                default=0, db_default=0, description="Total `size` of the stored requests of the inbox."
            ),
        ),
        AddDroppableField(
            model_name="InboxRequest",
            name="size",
            field=fields.IntField(
                default=0,
                db_default=0,
                description="Bytes of URL, headers and body, and 512 for the row, 0 for requests older than this "
                "column.",
            ),
        ),
    ]
