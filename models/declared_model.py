"""Declared models: those whose objects live in another program, which publishes their changes."""

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.ids import new_key
from ringback.models.json_schema.schema import JsonSchema, load


class DeclaredModel(Model):
    """A model as it was declared last."""

    name = fields.CharField(primary_key=True, max_length=100)
    #: Its name for people.
    label = fields.CharField(max_length=200)
    description = fields.TextField()
    #: JSON text, so that the compiled schema is found by it.
    json_schema = fields.TextField()
    sample: dict[str, Any] = fields.JSONField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        table = "ringback_declared_model"
        app = "ringback"

    @property
    def schema(self) -> JsonSchema:
        """The schema, compiled."""
        return load(self.json_schema)


MAX_KEY = 255


class IdempotencyKey(Model):
    """A key, and what was done under it."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    model = fields.CharField(max_length=100)
    key = fields.CharField(max_length=MAX_KEY)
    #: SHA-256 of the change, in hexadecimal.
    digest = fields.CharField(max_length=64)
    #: The keys of its events, in order.
    event_ids: list[str] = fields.JSONField()
    created_at = fields.DatetimeField()

    class Meta:
        table = "ringback_idempotency_key"
        app = "ringback"
        unique_together = (("model", "key"),)
        indexes = (Index(fields=("created_at",)),)
