from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("ringback", "0002_first_rows")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InboxRequest",
            name="attempt_number",
            field=fields.IntField(
                null=True, description="The number of the attempt of that event that sent it, as Ringback-Attempt says."
            ),
        ),
    ]
