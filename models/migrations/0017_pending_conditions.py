"""Events whose condition was not evaluated when their change was recorded."""

from tortoise import fields, migrations

from ringback.models.migrations._droppable_field import AddDroppableField


class Migration(migrations.Migration):
    dependencies = [("ringback", "0016_workers")]

    initial = False

    operations = [
        AddDroppableField(
            model_name="Event",
            name="condition_pending",
            field=fields.BooleanField(
                default=False,
                db_default=False,
                description="Whether the webhook's condition was not evaluated at the change, for lack of time. Each "
                "attempt evaluates it.",
            ),
        ),
    ]
