"""Declared models: those whose objects live in another program, which publishes their changes."""

from typing import Any

from tortoise import fields
from tortoise.models import Model

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
