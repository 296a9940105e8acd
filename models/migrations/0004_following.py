from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("ringback", "0003_inbox_attempts")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Inbox",
            name="received",
            field=fields.BigIntField(
                default=0,
                description="Requests received since the inbox was made, whether it was cleared or not, by which they are numbered.",
                db_default=0,
            ),
        ),
        ops.AddField(
            model_name="InboxRequest",
            name="number",
            field=fields.BigIntField(
                default=0,
                description="Which of its inbox's requests it is, in the order of their commits, 0 when it is older than the numbering.",
                db_default=0,
            ),
        ),
        ops.AddIndex(
            model_name="InboxRequest",
            index=Index(fields=["inbox_id", "number"]),
        ),
        ops.AddIndex(
            model_name="LogEntry",
            index=Index(fields=["webhook_id", "id"]),
        ),
    ]
