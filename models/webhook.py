"""Webhooks: which changes of a model to send, to which URL, and how."""

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.enums import HttpMethod, SuccessPolicy
from ringback.models.ids import new_key

#: Seconds before the first attempt, and then after the end of each attempt before the next.
DEFAULT_RETRY_DELAYS_SECONDS = (5, 240, 480)
#: Time for a whole attempt, from connecting to the end of the response body.
DEFAULT_TIMEOUT_SECONDS = 3.0


def default_retry_delays() -> list[int]:
    """Return the default schedule as a new list."""
    return list(DEFAULT_RETRY_DELAYS_SECONDS)


class Webhook(Model):
    """The configuration of a webhook."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    name = fields.CharField(max_length=200, null=True)
    model = fields.CharField(max_length=100)
    actions: list[str] = fields.JSONField()
    is_active = fields.BooleanField(default=True)
    method = fields.CharEnumField(HttpMethod, max_length=8, default=HttpMethod.POST)
    url = fields.TextField()
    send_json = fields.BooleanField(default=False)
    body_template = fields.TextField(default="")
    content_type = fields.CharField(max_length=200, null=True)
    #: Pairs of name and value, in the order in which they are sent.
    headers: list[list[str]] = fields.JSONField(default=list)
    condition = fields.TextField(null=True)
    #: Seconds before each attempt, one entry per attempt.
    retry_delays: list[int] = fields.JSONField(default=default_retry_delays)
    timeout_seconds = fields.FloatField(default=DEFAULT_TIMEOUT_SECONDS)
    success_policy = fields.CharEnumField(SuccessPolicy, max_length=16, default=SuccessPolicy.STATUS_200)
    #: Attempts in flight at the same time in all workers, null for the default of the settings.
    max_concurrency = fields.IntField(null=True)
    #: Attempts per second in all workers, null for no limit.
    rate_limit_per_second = fields.FloatField(null=True)
    #: Time of the last rate slot that was granted to an attempt.
    last_slot_at = fields.DatetimeField(null=True)
    #: Encrypted (models.security.secret_box).
    signing_secret = fields.TextField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()
    deleted_at = fields.DatetimeField(null=True)

    class Meta:
        table = "ringback_webhook"
        app = "ringback"
        indexes = (Index(fields=("model", "is_active")),)
