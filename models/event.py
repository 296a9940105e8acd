"""Changes, events and attempts: what happened, whom it is told, and each try to tell them.

A change is one committed create, update or delete of one object. Each matching webhook gets one event for it. Each try
to deliver an event is an attempt.
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
    """One firing of one webhook, its id is the PS-WEBHOOK_EVENT-ID that the receiver sees."""

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
    #: What a test-fire sends, a real event has its change's snapshot.
    test_item: dict[str, Any] | None = fields.JSONField(null=True)
    status = fields.CharEnumField(EventStatus, max_length=12, default=EventStatus.PENDING)
    #: The number of the last attempt on record.
    attempt_count = fields.IntField(default=0)
    #: Attempts that the present round of the schedule does not count: earlier rounds, and abandoned ones.
    attempts_before_round = fields.IntField(default=0)
    #: Attempts in a row that died between sending and recording, five end the event (rule 6).
    abandoned_in_a_row = fields.IntField(default=0)
    max_attempts = fields.IntField()
    #: When the next attempt is due, or the attempt in flight was, null when the event has ended.
    next_attempt_at = fields.DatetimeField(null=True)
    #: The worker that has claimed the event, null while it waits. No foreign key: the row of a dead worker is deleted.
    worker_id = fields.UUIDField(null=True)
    #: When that worker claimed it.
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
    """One try to deliver an event: what was sent, what came back, how long it took."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    event: fields.ForeignKeyRelation[Event] = fields.ForeignKeyField(
        "ringback.Event", related_name="attempts", on_delete=fields.RESTRICT
    )
    #: The event's webhook, so that a webhook's attempts are listed without a join.
    webhook_id = fields.UUIDField()
    number = fields.IntField()
    started_at = fields.DatetimeField()
    duration_ms = fields.IntField(null=True)
    outcome = fields.CharEnumField(OutcomeName, max_length=16)
    error = fields.TextField(null=True)
    status_code = fields.IntField(null=True)
    #: {method, url, headers: [[name, value]], body}, secrets masked, null when nothing was sent.
    request: dict[str, Any] | None = fields.JSONField(null=True)
    #: {headers: [[name, value]], body, body_truncated}, null when there was no answer.
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
