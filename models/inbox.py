"""Inboxes: built-in test addresses that store every request and answer with prepared responses."""

from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.enums import SignatureCheck
from ringback.models.ids import new_key


class Inbox(Model):
    """A test address that stores requests and answers with prepared responses."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    token = fields.CharField(max_length=64, unique=True)
    name = fields.CharField(max_length=200, null=True)
    #: {status_code, body, content_type, delay_ms}, one for each request, the last one repeats.
    responses: list[dict[str, Any]] = fields.JSONField()
    #: Encrypted (models.security.secret_box), null if the inbox has no secret of its own.
    signing_secret = fields.TextField(null=True)
    #: Requests received since the inbox was created or cleared.
    request_count = fields.IntField(default=0)
    #: Requests received since the inbox was created, the number of the latest request.
    received = fields.BigIntField(default=0, db_default=0)
    #: Total `size` of the stored requests of the inbox.
    stored_bytes = fields.BigIntField(default=0, db_default=0)
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
    #: Number of the request in its inbox, in commit order, 0 for requests older than this column.
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
    #: Event of this database that PS-WEBHOOK_EVENT-ID names, else null.
    event_id = fields.UUIDField(null=True)
    #: Number of that event's attempt, from Ringback-Attempt.
    attempt_number = fields.IntField(null=True)
    #: Bytes of URL, headers and body, and 512 for the row, 0 for requests older than this column.
    size = fields.IntField(default=0, db_default=0)

    inbox_id: UUID

    class Meta:
        table = "ringback_inbox_request"
        app = "ringback"
        indexes = (Index(fields=("inbox_id", "id")), Index(fields=("inbox_id", "number")), Index(fields=("event_id",)))


#: Attributes of a request except its body, which may be large.
REQUEST_WITHOUT_BODY = (
    "inbox_id",
    *(name for name in InboxRequest._meta.fields_db_projection if name != "body"),
)
