"""Inboxes: built-in test addresses that keep every request and answer as told."""

from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.enums import SignatureCheck
from ringback.models.ids import new_key


class Inbox(Model):
    """A test address."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    token = fields.CharField(max_length=64, unique=True)
    name = fields.CharField(max_length=200, null=True)
    #: {status_code, body, content_type, delay_ms}, the n-th for the n-th request, the last one repeats.
    responses: list[dict[str, Any]] = fields.JSONField()
    #: Encrypted (models.security.secret_box), null when the inbox has none of its own.
    signing_secret = fields.TextField(null=True)
    #: Requests received since the inbox was made or cleared.
    request_count = fields.IntField(default=0)
    #: Requests received since the inbox was made, whether it was cleared or not, by which they are numbered.
    received = fields.BigIntField(default=0, db_default=0)
    created_at = fields.DatetimeField()

    class Meta:
        table = "ringback_inbox"
        app = "ringback"


class InboxRequest(Model):
    """One request as an inbox received it."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    inbox: fields.ForeignKeyRelation[Inbox] = fields.ForeignKeyField(
        "ringback.Inbox", related_name="requests", on_delete=fields.CASCADE
    )
    #: Which of its inbox's requests it is, in the order of their commits, 0 when it is older than the numbering.
    number = fields.BigIntField(default=0, db_default=0)
    received_at = fields.DatetimeField()
    method = fields.CharField(max_length=32)
    #: Path and query as received.
    url = fields.TextField()
    headers: list[list[str]] = fields.JSONField()
    body = fields.BinaryField()
    remote_address = fields.CharField(max_length=64, null=True)
    response_status_code = fields.IntField()
    signature = fields.CharEnumField(SignatureCheck, max_length=16)
    #: The event that PS-WEBHOOK_EVENT-ID names, when it is one of ours.
    event_id = fields.UUIDField(null=True)
    #: The number of the attempt of that event that sent it, as Ringback-Attempt says.
    attempt_number = fields.IntField(null=True)

    inbox_id: UUID

    class Meta:
        table = "ringback_inbox_request"
        app = "ringback"
        indexes = (Index(fields=("inbox_id", "id")), Index(fields=("inbox_id", "number")), Index(fields=("event_id",)))
