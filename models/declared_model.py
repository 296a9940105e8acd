"""Declared models: the objects live in another program, which publishes their changes."""

from collections.abc import Iterable
from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.ids import new_key
from ringback.models.json_schema.field_paths import ANY_FIELD
from ringback.models.json_schema.schema import derive_fields
from ringback.models.json_schema.subschemas import SchemaFault
from ringback.models.templates.field_info import FieldInfo

#: Maximum length of an idempotency key, in characters.
MAX_KEY_CHARS = 255


class DeclaredModel(Model):
    """The current declaration of a model."""

    name = fields.CharField(primary_key=True, max_length=100)
    #: Name for people.
    label = fields.CharField(max_length=200)
    description = fields.TextField()
    #: JSON text, which is the key of the cache of compiled schemas.
    json_schema = fields.TextField()
    #: [path, type, description] of each field that templates can use. Null until migrate() derives it from the schema.
    template_fields: list[list[str]] | None = fields.JSONField(null=True)
    sample: dict[str, Any] = fields.JSONField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        table = "ringback_declared_model"
        app = "ringback"

    @property
    def field_infos(self) -> tuple[FieldInfo, ...]:
        """Return the fields that templates can use. As long as they are not derived, templates may use any path."""
        if self.template_fields is None:
            return (ANY_FIELD,)
        return tuple(FieldInfo(*values) for values in self.template_fields)

    @property
    def is_open(self) -> bool:
        """Whether an object may have other fields than those of the schema."""
        return self.template_fields is None or any(path == ANY_FIELD.path for path, *_ in self.template_fields)


async def fill_template_fields() -> None:
    """Derive the fields of models that were declared before the column existed."""
    rows = await DeclaredModel.filter(template_fields=None).only("name")
    for name in [row.name for row in rows]:
        row = await DeclaredModel.filter(name=name).only("json_schema").get()
        try:
            infos = derive_fields(row.json_schema)
        except SchemaFault:  # a limit refuses it now
            infos = (ANY_FIELD,)
        # A newer declaration, which another process may have stored meanwhile, has its own fields.
        unchanged = DeclaredModel.filter(name=name, json_schema=row.json_schema, template_fields=None)
        await unchanged.update(template_fields=to_template_fields(infos))


def to_template_fields(infos: Iterable[FieldInfo]) -> list[list[str]]:
    """Return fields as the column `template_fields` stores them."""
    return [[info.path, info.type, info.description] for info in infos]


class IdempotencyKey(Model):
    """An idempotency key, with the events of the change that was published under it."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    model = fields.CharField(max_length=100)
    key = fields.CharField(max_length=MAX_KEY_CHARS)
    #: SHA-256 of the change, in hexadecimal.
    digest = fields.CharField(max_length=64)
    #: Keys of the change's events, in order.
    event_ids: list[str] = fields.JSONField()
    created_at = fields.DatetimeField()

    class Meta:
        table = "ringback_idempotency_key"
        app = "ringback"
        unique_together = (("model", "key"),)
        indexes = (Index(fields=("created_at",)),)
