"""The webhook: which changes of which model are told to whom, and how."""

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.enums import HttpMethod, SuccessPolicy
from ringback.models.ids import new_key

#: The schedule of rule 4: seconds before the first attempt, and after the end of each one before.
DEFAULT_RETRY_DELAYS_SECONDS = (5, 240, 480)
#: How long an endpoint has in all, in seconds, connect and body included.
DEFAULT_TIMEOUT_SECONDS = 3.0


def default_retry_delays() -> list[int]:
    """A new list of the default schedule."""
    return list(DEFAULT_RETRY_DELAYS_SECONDS)


class Webhook(Model):
    """A webhook as an administrator configured it."""

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
    #: Pairs of name and value, in the order given.
    headers: list[list[str]] = fields.JSONField(default=list)
    condition = fields.TextField(null=True)
    #: Seconds, one entry an attempt.
    retry_delays: list[int] = fields.JSONField(default=default_retry_delays)
    timeout_seconds = fields.FloatField(default=DEFAULT_TIMEOUT_SECONDS)
    success_policy = fields.CharEnumField(SuccessPolicy, max_length=16, default=SuccessPolicy.STATUS_200)
    #: Attempts under way at the same time, in all workers together, null for the setting's bound.
    max_concurrency = fields.IntField(null=True)
    #: Attempts per second, in all workers together, null for no limit.
    rate_limit_per_second = fields.FloatField(null=True)
    #: The moment given to the last attempt that the rate let go.
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
