"""Changes, events and attempts.

A change is one committed create, update or delete of one object. Each matching webhook gets one event for it. An
attempt is one request to deliver an event.
"""

from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.enums import Action, EventStatus, OutcomeName
from ringback.models.ids import new_key
from ringback.models.webhook import Webhook


class Change(Model):
    """One committed create, update or delete of one object, with its snapshot."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    model = fields.CharField(max_length=100)
    action = fields.CharEnumField(Action, max_length=8)
    object_id = fields.CharField(max_length=255)
    item: dict[str, Any] = fields.JSONField()
    changed_fields: list[str] = fields.JSONField(default=list)
    created_at = fields.DatetimeField()

    class Meta:
        table = "ringback_change"
        app = "ringback"


class Event(Model):
    """One delivery of one change to one webhook, its id is sent as PS-WEBHOOK_EVENT-ID."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    webhook: fields.ForeignKeyRelation[Webhook] = fields.ForeignKeyField(
        "ringback.Webhook", related_name="events", on_delete=fields.RESTRICT
    )
    change: fields.ForeignKeyNullableRelation[Change] = fields.ForeignKeyField(
        "ringback.Change", related_name="events", on_delete=fields.RESTRICT, null=True
    )
    model = fields.CharField(max_length=100)
    action = fields.CharEnumField(Action, max_length=8)
    object_id = fields.CharField(max_length=255, null=True)
    is_test = fields.BooleanField(default=False)
    #: Item of a test event, other events send the item of their change.
    test_item: dict[str, Any] | None = fields.JSONField(null=True)
    status = fields.CharEnumField(EventStatus, max_length=12, default=EventStatus.PENDING)
    #: Number of the last recorded attempt.
    attempt_count = fields.IntField(default=0)
    #: Attempts that the current round does not count: earlier rounds and abandoned attempts.
    attempts_before_round = fields.IntField(default=0)
    #: Attempts in a row that were abandoned, five end the event.
    abandoned_in_a_row = fields.IntField(default=0)
    #: Whether the webhook's condition was not evaluated at the change, for lack of time. Each attempt evaluates it.
    condition_pending = fields.BooleanField(default=False, db_default=False)
    max_attempts = fields.IntField()
    #: Due time of the next attempt, or of the attempt in flight, null if the event has ended.
    next_attempt_at = fields.DatetimeField(null=True)
    #: Worker that has claimed the event, else null. No foreign key: dead workers' rows are deleted.
    worker_id = fields.UUIDField(null=True)
    #: Time of the claim.
    claimed_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField()
    finished_at = fields.DatetimeField(null=True)

    webhook_id: UUID
    change_id: UUID | None

    class Meta:
        table = "ringback_event"
        app = "ringback"
        indexes = (
            Index(fields=("change_id",)),
            Index(fields=("status", "id")),
            Index(fields=("webhook_id", "status", "id")),
            Index(fields=("model", "id")),
            Index(fields=("object_id", "id")),
        )


class Attempt(Model):
    """One attempt to deliver an event: request, response, outcome and duration."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    event: fields.ForeignKeyRelation[Event] = fields.ForeignKeyField(
        "ringback.Event", related_name="attempts", on_delete=fields.RESTRICT
    )
    #: Webhook of the event, so that a webhook's attempts are listed without a join.
    webhook_id = fields.UUIDField()
    number = fields.IntField()
    started_at = fields.DatetimeField()
    duration_ms = fields.IntField(null=True)
    outcome = fields.CharEnumField(OutcomeName, max_length=16)
    error = fields.TextField(null=True)
    status_code = fields.IntField(null=True)
    #: {method, url, headers: [[name, value]], body}, secrets redacted, null if nothing was sent.
    request: dict[str, Any] | None = fields.JSONField(null=True)
    #: {headers: [[name, value]], body, body_truncated}, null if there was no response.
    response: dict[str, Any] | None = fields.JSONField(null=True)

    event_id: UUID

    class Meta:
        table = "ringback_attempt"
        app = "ringback"
        unique_together = (("event_id", "number"),)
        indexes = (
            Index(fields=("outcome", "id")),
            Index(fields=("webhook_id", "outcome", "id")),
        )
