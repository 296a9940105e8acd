"""Snapshots: the stored state of an object, children included, as plain JSON values.

The same walk over a model's columns gives the snapshot of an object, the field paths that a template may use and the
sample that a test-fire sends, so the three cannot disagree.
"""

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from pypika_tortoise.enums import Order
from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields.base import Field
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models.database.sql import fetch_rows, is_postgres
from ringback.models.errors import TrackingError
from ringback.models.templates.field_info import FieldInfo
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking.registry import Child, Tracking, tracking_of

#: Keys per statement: SQLite allows 32,766 parameters.
KEYS_PER_STATEMENT = 10_000

#: The types of fields as the API shows them, the most special first, with the value of a sample.
FIELD_TYPES: tuple[tuple[type[Field[Any]], str, Any], ...] = (
    (fields.BooleanField, "boolean", True),
    (fields.DecimalField, "decimal", "1.00"),
    (fields.FloatField, "float", 1.5),
    (fields.IntField, "integer", 1),
    (fields.DatetimeField, "datetime", "2026-01-31T12:00:00.000000Z"),
    (fields.DateField, "date", "2026-01-31"),
    (fields.TimeField, "time", "12:00:00"),
    (fields.TimeDeltaField, "seconds", 60.0),
    (fields.UUIDField, "id", "01890a5d-ac96-774b-bcce-b302099a8057"),
    (fields.JSONField, "json", {}),
    (fields.BinaryField, "base64", ""),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored state of an object, or of a row that belongs to one.

    `item` is what is shown: the snapshot without its computed values. `compared` says by the same names what tells a
    change: without the columns that every save sets (`auto_now`), so that a save which changes nothing else is no
    change, and with the excluded columns of children. `hidden` holds the excluded columns, for the comparison alone.
    """

    item: dict[str, Any]
    compared: dict[str, Any]
    hidden: dict[str, Any]


async def read(db: BaseDBAsyncClient, root: type[Model], keys: Iterable[Any]) -> dict[Any, Stored]:
    """The stored states of these objects by key; objects that do not exist are left out."""
    tracking = tracking_of(root)
    key_name = root._meta.pk_attr
    found: dict[Any, Stored] = {}
    for part in parts(list(keys)):
        rows = await _rows(db, root, key_name, part)
        children = await _read_children(db, root, tracking, [row[key_name] for row in rows])
        found |= {row[key_name]: _of_root(root, tracking, row, children[row[key_name]]) for row in rows}
    return found


def of_row(root: type[Model], row: Mapping[str, Any]) -> Stored:
    """The state of an object that has no children, by its row."""
    tracking = tracking_of(root)
    assert not tracking.children
    return _of_root(root, tracking, row, {})


def parts(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The keys in portions that fit one statement."""
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        yield keys[start : start + KEYS_PER_STATEMENT]


def differences(before: Stored, after: Stored) -> list[str] | None:
    """The names of the shown fields that differ, in the snapshot's order; None when no stored value does."""
    names = [name for name, value in after.compared.items() if _json(value) != _json(before.compared.get(name))]
    return names if names or _json(after.hidden) != _json(before.hidden) else None


def field_infos(root: type[Model]) -> list[FieldInfo]:
    """Every path that a template may use on this model, parents before their parts."""
    tracking = tracking_of(root)
    infos = [FieldInfo("item.id", "id", "The object's id, the same as the event's objectId.")]
    infos += [i for i in _infos(root, tracking, "item") if i.path != "item.id"]
    return infos


def sample(root: type[Model]) -> dict[str, Any]:
    """The object that a test-fire sends by default."""
    tracking = tracking_of(root)
    if tracking.sample is not None:
        return dict(tracking.sample)
    made = {"id": None, **_sample(root, tracking)}
    has_number = isinstance(root._meta.pk, fields.IntField)
    made["id"] = "1" if has_number else tracking.object_id(UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
    return made


def _shown(model: type[Model], spec: Child, link: str | None) -> list[tuple[str, Field[Any]]]:
    """The columns that a snapshot shows, with their fields: without the excluded, and a child's link to its parent."""
    names = [name for name in model._meta.fields_db_projection if name not in spec.exclude and name != link]
    return [(name, model._meta.fields_map[name]) for name in names]


def _stored(
    model: type[Model], spec: Child, row: Mapping[str, Any], children: Mapping[str, Any], link: str | None = None
) -> Stored:
    """The state of one row, whose `children` are one Stored or a list of them by the name of the relation."""
    stored = Stored({}, {}, {})
    for name, field, is_shown, tells, is_hidden in _parts_of_a_row(model, frozenset(spec.exclude), link):
        value = row[name]
        if type(value) is not str:
            value = _plain(value, field)
        if is_shown:
            stored.item[name] = value
        if tells:
            stored.compared[name] = value
        elif is_hidden:
            stored.hidden[name] = value
    for name, value in children.items():
        stored.item[name] = _each(value, lambda part: part.item)
        stored.compared[name] = _each(value, lambda part: [part.compared, part.hidden])
    return stored


@lru_cache(maxsize=1_000)
def _parts_of_a_row(
    model: type[Model], exclude: frozenset[str], link: str | None
) -> list[tuple[str, Field[Any], bool, bool, bool]]:
    """Each column, its field, and whether it is shown, is compared by its name, or is hidden (see `Stored`)."""
    found = []
    for name in model._meta.fields_db_projection:
        field = model._meta.fields_map[name]
        is_shown = name not in exclude and name != link
        counts = not getattr(field, "auto_now", False)
        found.append((name, field, is_shown, counts and is_shown, counts and name in exclude and not field.pk))
    return found


def _of_root(root: type[Model], tracking: Tracking, row: Mapping[str, Any], children: Mapping[str, Any]) -> Stored:
    stored = _stored(root, tracking, row, children)
    item = {"id": None, **stored.item}
    item["id"] = tracking.object_id(row[root._meta.pk_attr])
    return Stored(item, stored.compared, stored.hidden)


def _each(value: Any, of: Any) -> Any:
    if isinstance(value, list):
        return [of(part) for part in value]
    return None if value is None else of(value)


async def _read_children(
    db: BaseDBAsyncClient, model: type[Model], spec: Child, keys: Sequence[Any]
) -> dict[Any, dict[str, Any]]:
    """For each key the children's stored states, by the name of the relation."""
    found: dict[Any, dict[str, Any]] = {key: {} for key in keys}
    for name, child in spec.children.items():
        relation = cast(Any, model._meta.fields_map[name])
        related: type[Model] = relation.related_model
        link = str(relation.relation_field)
        single = name in model._meta.backward_o2o_fields
        rows = await _rows(db, related, link, keys, _order(related))
        grandchildren = await _read_children(db, related, child, [row[related._meta.pk_attr] for row in rows])
        for values in found.values():
            values[name] = None if single else []
        for row in rows:
            stored = _stored(related, child, row, grandchildren[row[related._meta.pk_attr]], link)
            if single:
                found[row[link]][name] = stored
            else:
                found[row[link]][name].append(stored)
    return found


async def _rows(
    db: BaseDBAsyncClient, model: type[Model], name: str, values: Sequence[Any], order: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The rows that have one of these values in a column, as Tortoise's `values()` gives them."""
    found: list[dict[str, Any]] = []
    for part in parts(values):
        if is_postgres(db):
            found += await _rows_on_postgres(db, model, name, part, tuple(order))
        else:
            query = QuerySet(model).using_db(db).filter(**{f"{name}__in": part}).order_by(*order)
            found += await query.values(*model._meta.fields_db_projection)
    return found


async def _rows_on_postgres(
    db: BaseDBAsyncClient, model: type[Model], name: str, values: Sequence[Any], order: tuple[str, ...]
) -> list[dict[str, Any]]:
    statement, readers = _statement(model, name, order)
    field = model._meta.fields_map[name]
    rows = await fetch_rows(db, statement, [field.to_db_value(value, model) for value in values])
    return [
        {column: value if read is None else read(value) for (column, read), value in zip(readers, row, strict=True)}
        for row in rows
    ]


@lru_cache(maxsize=1_000)
def _statement(
    model: type[Model], name: str, order: tuple[str, ...]
) -> tuple[str, list[tuple[str, Callable[[Any], Any] | None]]]:
    """What `_rows_on_postgres` asks, the same for any number of values, and what reads each column."""
    meta = model._meta
    native = {attribute for _, attribute, _ in meta.db_native_fields}
    readers: list[tuple[str, Callable[[Any], Any] | None]] = [
        (n, None if n in native else meta.fields_map[n].to_python_value) for n in meta.fields_db_projection
    ]
    written = meta.fields_db_projection
    table, column = meta.basetable, written[name]
    query = meta.db.query_class.from_(table).select(*(table[c] for c in written.values())).get_sql()
    if name == meta.pk_attr:
        # Each key by the index, whatever is believed of the table's size: a plan is kept while the table grows.
        kind = str(meta.pk.get_for_dialect("postgres", "SQL_TYPE")).partition("(")[0]
        one = f'{query} WHERE "{column}" = wanted.key OFFSET 0'
        return f"SELECT found.* FROM unnest($1::{kind}[]) wanted (key), LATERAL ({one}) found", readers
    by = ", ".join(f'"{written[n.lstrip("-")]}" {"DESC" if n.startswith("-") else "ASC"}' for n in order)
    return f'{query} WHERE "{column}" = ANY($1) ORDER BY {by}', readers


def _order(model: type[Model]) -> list[str]:
    """The model's own order, with its key to settle ties: the same rows must always read the same."""
    names = [f"-{name}" if order == Order.desc else name for name, order in model._meta._default_ordering or ()]
    return [*names, model._meta.pk_attr]


def complete(model: type[Model], spec: Child, item: Mapping[str, Any]) -> dict[str, Any]:
    """The whole snapshot: stored values, children, and the computed ones."""
    made = dict(item)
    for name, child in spec.children.items():
        related = cast(Any, model._meta.fields_map[name]).related_model
        made[name] = _each(item[name], lambda part, m=related, c=child: complete(m, c, part))
    return _add_computed(model, spec, made)


def _add_computed(model: type[Model], spec: Child, item: dict[str, Any]) -> dict[str, Any]:
    for name, computed in spec.computed.items():
        try:
            item[name] = computed.compute(item)
        except Exception as error:
            raise TrackingError(f"{model.__name__}: the computed value {name} failed: {error!r}") from error
    return item


def _json(value: Any) -> str:
    """A value to compare by; unlike Python's ==, it tells true from 1 and 1 from 1.0."""
    return json.dumps(value, sort_keys=True, default=str)


def _plain(value: Any, field: Field[Any]) -> Any:
    """A column's value in JSON; Decimal as a string with the column's places."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Decimal):
        places = getattr(field, "decimal_places", None)
        return str(value) if places is None else f"{value:.{places}f}"
    if isinstance(value, dt.datetime):
        return format_timestamp(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, (str, int, float, dict, list)):
        return value
    if isinstance(field, fields.JSONField):
        return json.loads(str(field.to_db_value(value, field.model)))
    return str(value)  # a UUID, or what a field of your own makes of its column


def _type(field: Field[Any]) -> str:
    return next((name for kind, name, _ in FIELD_TYPES if isinstance(field, kind)), "string")


def _infos(model: type[Model], spec: Child, prefix: str, link: str | None = None) -> list[FieldInfo]:
    shown = _shown(model, spec, link)
    infos = [FieldInfo(f"{prefix}.{name}", _type(field), field.description or "") for name, field in shown]
    for name, child in spec.children.items():
        relation = cast(Any, model._meta.fields_map[name])
        single = name in model._meta.backward_o2o_fields
        about = relation.related_model._meta.table_description or ""
        infos.append(FieldInfo(f"{prefix}.{name}", "object" if single else "list", about))
        inner = f"{prefix}.{name}" if single else f"{prefix}.{name}[]"
        infos += _infos(relation.related_model, child, inner, str(relation.relation_field))
    infos += [FieldInfo(f"{prefix}.{name}", c.type, c.description) for name, c in spec.computed.items()]
    return infos


def _sample(model: type[Model], spec: Child, link: str | None = None) -> dict[str, Any]:
    made = {name: _sample_value(name, field) for name, field in _shown(model, spec, link)}
    for name, child in spec.children.items():
        relation = cast(Any, model._meta.fields_map[name])
        part = _sample(relation.related_model, child, str(relation.relation_field))
        made[name] = part if name in model._meta.backward_o2o_fields else [part]
    return _add_computed(model, spec, made)


def _sample_value(name: str, field: Field[Any]) -> Any:
    enum: type[Enum] | None = getattr(field, "enum_type", None)
    if enum is not None:
        return next(iter(enum)).value
    return next(
        (value for kind, _, value in FIELD_TYPES if isinstance(field, kind)), name.replace("_", " ").capitalize()
    )
