"""Describes the fields of tracked models: their paths and types for templates, and a sample object."""

from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, cast

from tortoise import fields
from tortoise.fields.base import Field
from tortoise.models import Model

from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.field_info import FieldInfo, types_by_path
from ringback.models.tracking.registry import Child, get_tracking
from ringback.models.tracking.snapshot import SAMPLE_UUID, Column, add_computed, list_shown_columns


class FieldType(NamedTuple):
    """A type that the API shows for fields of one class, with a value for samples."""

    field_class: type[Field[Any]]
    name: str
    sample: Any


#: A field has the first type that fits. Fields of other classes are strings.
FIELD_TYPES = (
    FieldType(fields.BooleanField, "boolean", True),
    FieldType(fields.DecimalField, "decimal", "1.00"),
    FieldType(fields.FloatField, "float", 1.5),
    FieldType(fields.IntField, "integer", 1),
    FieldType(fields.DatetimeField, "datetime", "2026-01-31T12:00:00.000000Z"),
    FieldType(fields.DateField, "date", "2026-01-31"),
    FieldType(fields.TimeField, "time", "12:00:00"),
    FieldType(fields.TimeDeltaField, "seconds", 60.0),
    FieldType(fields.UUIDField, "id", str(SAMPLE_UUID)),
    FieldType(fields.JSONField, "json", {}),
    FieldType(fields.BinaryField, "base64", ""),
)


def list_field_infos(root: type[Model]) -> list[FieldInfo]:
    """Return every path that a template of this model may use, each object or list before its own fields."""
    infos = [FieldInfo("item.id", "id", "The object's id, the same as the event's objectId.")]
    infos += [info for info in _list_fields(root, get_tracking(root), "item") if info.path != "item.id"]
    return infos


@lru_cache(maxsize=1_000)
def decimal_fields(root: type[Model]) -> DecimalFields:
    """Return the decimal fields of a model, which are numbers in templates."""
    return DecimalFields(types_by_path(list_field_infos(root)))


def make_sample(root: type[Model]) -> dict[str, Any]:
    """Return the object that a test-fire sends by default."""
    tracking = get_tracking(root)
    if tracking.sample is not None:
        return dict(tracking.sample)
    item = {"id": None, **_make_sample(root, tracking)}
    key = 1 if isinstance(root._meta.pk, fields.IntField) else SAMPLE_UUID
    item["id"] = tracking.encode_id(key)
    return item


def _list_fields(model: type[Model], spec: Child, prefix: str, link: str | None = None) -> list[FieldInfo]:
    infos = []
    for column in list_shown_columns(model, spec, link):
        field_type = _find_type(column.field)
        type_name = "string" if field_type is None else field_type.name
        infos.append(FieldInfo(f"{prefix}.{column.name}", type_name, column.field.description or ""))
    for name, child in spec.children.items():
        relation = cast(Any, model._meta.fields_map[name])
        related: type[Model] = relation.related_model
        path = f"{prefix}.{name}"
        is_single = name in model._meta.backward_o2o_fields
        type_name, inner_prefix = ("object", path) if is_single else ("list", f"{path}[]")
        infos.append(FieldInfo(path, type_name, related._meta.table_description or ""))
        infos += _list_fields(related, child, inner_prefix, str(relation.relation_field))
    for name, computed in spec.computed.items():
        infos.append(FieldInfo(f"{prefix}.{name}", computed.type, computed.description))
    return infos


def _make_sample(model: type[Model], spec: Child, link: str | None = None) -> dict[str, Any]:
    item = {column.name: _make_sample_value(column) for column in list_shown_columns(model, spec, link)}
    for name, child in spec.children.items():
        relation = cast(Any, model._meta.fields_map[name])
        part = _make_sample(relation.related_model, child, str(relation.relation_field))
        item[name] = part if name in model._meta.backward_o2o_fields else [part]
    return add_computed(model, spec, item)


def _make_sample_value(column: Column) -> Any:
    enum: type[Enum] | None = getattr(column.field, "enum_type", None)
    if enum is not None:
        return next(iter(enum)).value
    field_type = _find_type(column.field)
    if field_type is None:
        return column.name.replace("_", " ").capitalize()
    return field_type.sample


def _find_type(field: Field[Any]) -> FieldType | None:
    return next((each for each in FIELD_TYPES if isinstance(field, each.field_class)), None)
