"""Snapshots: the stored state of an object, children included, as plain JSON values.

The snapshot of an object, the field paths that a template may use and the sample that a test-fire sends are made from
the same columns, so they cannot disagree.
"""

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple, cast
from uuid import UUID

from pypika_tortoise.enums import Order
from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields.base import Field
from tortoise.fields.data import JSON_LOADS
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models.database.sql import fetch_rows, is_postgres
from ringback.models.errors import TrackingError
from ringback.models.exact_json import load_stored, to_storable_integer
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking.registry import Child, Tracking, get_tracking

#: Keys per statement: SQLite allows 32,766 parameters.
KEYS_PER_STATEMENT = 10_000
SAMPLE_UUID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored state of an object, or of a row that belongs to one.

    - `item`: the snapshot without its computed values.
    - `compared`: the values under the same names that decide whether the object changed. It lacks the columns that
      every save sets (`auto_now`), so a save that changes nothing else is not a change. It includes the excluded
      columns of children.
    - `hidden`: the excluded columns, which are compared but not shown.
    """

    item: dict[str, Any]
    compared: dict[str, Any]
    hidden: dict[str, Any]


class Column(NamedTuple):
    """A column and the parts of `Stored` that hold it."""

    name: str
    #: A `Field`; mypy would take an attribute of that type for a descriptor.
    field: Any
    is_shown: bool
    is_compared: bool
    is_hidden: bool


async def read(db: BaseDBAsyncClient, root: type[Model], keys: Iterable[Any]) -> dict[Any, Stored]:
    """Return the stored states of the objects with these keys, by key. Objects that do not exist are left out."""
    tracking = get_tracking(root)
    key_name = root._meta.pk_attr
    states: dict[Any, Stored] = {}
    for part in split_keys(list(keys)):
        rows = await _fetch_rows(db, root, key_name, part)
        children = await _read_children(db, root, tracking, [row[key_name] for row in rows])
        for row in rows:
            key = row[key_name]
            states[key] = _decode_root(root, tracking, row, children[key])
    return states


def decode_row(root: type[Model], row: Mapping[str, Any]) -> Stored:
    """Return the state of an object without children from its row."""
    tracking = get_tracking(root)
    assert not tracking.children
    return _decode_root(root, tracking, row, {})


def split_keys(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Split keys into parts of at most KEYS_PER_STATEMENT."""
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        yield keys[start : start + KEYS_PER_STATEMENT]


def find_differences(before: Stored, after: Stored) -> list[str] | None:
    """Return the names of the shown fields that differ, in the snapshot's order.

    An empty list means that only hidden columns differ, None that no stored value differs.
    """
    names = [name for name, value in after.compared.items() if _to_json(value) != _to_json(before.compared.get(name))]
    if names or _to_json(after.hidden) != _to_json(before.hidden):
        return names
    return None


def complete(model: type[Model], spec: Child, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole snapshot: stored values, children and computed values."""
    snapshot = dict(item)
    for name, child in spec.children.items():
        related = cast(Any, model._meta.fields_map[name]).related_model
        snapshot[name] = _map_children(item[name], partial(complete, related, child))
    return add_computed(model, spec, snapshot)


def add_computed(model: type[Model], spec: Child, item: dict[str, Any]) -> dict[str, Any]:
    """Add the computed fields to `item` and return it. Raises TrackingError if one cannot be computed."""
    for name, computed in spec.computed.items():
        try:
            item[name] = computed.compute(item)
        except Exception as error:
            raise TrackingError(f"{model.__name__}: the computed value {name} failed: {error!r}") from error
    return item


def list_shown_columns(model: type[Model], spec: Child, link: str | None) -> list[Column]:
    """Return the columns that a snapshot shows: not the excluded ones, and not a child's reference to its parent."""
    return [column for column in _list_columns(model, frozenset(spec.exclude), link) if column.is_shown]


async def _read_children(
    db: BaseDBAsyncClient, model: type[Model], spec: Child, keys: Sequence[Any]
) -> dict[Any, dict[str, Any]]:
    """Return the children of each key, by the name of the relation: a list of states, or one state or None."""
    children: dict[Any, dict[str, Any]] = {key: {} for key in keys}
    for name, child in spec.children.items():
        relation = cast(Any, model._meta.fields_map[name])
        related: type[Model] = relation.related_model
        link = str(relation.relation_field)
        is_single = name in model._meta.backward_o2o_fields
        rows = await _fetch_rows(db, related, link, keys, _list_order(related))
        grandchildren = await _read_children(db, related, child, [row[related._meta.pk_attr] for row in rows])
        for relations in children.values():
            relations[name] = None if is_single else []
        for row in rows:
            state = _decode(related, child, row, grandchildren[row[related._meta.pk_attr]], link)
            if is_single:
                children[row[link]][name] = state
            else:
                children[row[link]][name].append(state)
    return children


async def _fetch_rows(
    db: BaseDBAsyncClient, model: type[Model], name: str, values: Sequence[Any], order: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the rows whose column `name` has one of these values, in the form of Tortoise's `values()`.

    Unlike there, integers in JSON columns are exact.
    """
    decoders = _list_decoders(model, is_postgres(db))
    decoded_rows: list[dict[str, Any]] = []
    for part in split_keys(values):
        if is_postgres(db):
            rows = await _fetch_rows_on_postgres(db, model, name, part, tuple(order))
        else:
            rows = await _fetch_rows_on_sqlite(db, model, name, part, order)
        for row in rows:
            decoded = dict(zip(model._meta.fields_db_projection, row, strict=True))
            for column, decode in decoders:
                decoded[column] = decode(decoded[column])
            decoded_rows.append(decoded)
    return decoded_rows


async def _fetch_rows_on_sqlite(
    db: BaseDBAsyncClient, model: type[Model], name: str, values: Sequence[Any], order: Sequence[str]
) -> Sequence[Sequence[Any]]:
    query = QuerySet(model).using_db(db).filter(**{f"{name}__in": values}).order_by(*order)
    selected = query.values(*model._meta.fields_db_projection)
    selected.sql()  # builds the query
    _, rows = await db.execute_query(*selected.query.get_parameterized_sql())
    return cast(Sequence[Sequence[Any]], rows)


async def _fetch_rows_on_postgres(
    db: BaseDBAsyncClient, model: type[Model], name: str, values: Sequence[Any], order: tuple[str, ...]
) -> Sequence[Sequence[Any]]:
    field = model._meta.fields_map[name]
    statement = _build_query(model, name, order)
    return await fetch_rows(db, statement, [field.to_db_value(value, model) for value in values])


@lru_cache(maxsize=1_000)
def _list_decoders(model: type[Model], postgres: bool) -> list[tuple[str, Callable[[Any], Any]]]:
    """Return the decoder of each column whose values the driver does not return as Python values.

    `postgres` is part of the key of the cache, because the drivers differ.
    """
    meta = model._meta
    native = {attribute for _, attribute, _ in meta.db_native_fields}
    return [(name, _find_decoder(meta.fields_map[name])) for name in meta.fields_db_projection if name not in native]


def _find_decoder(field: Field[Any]) -> Callable[[Any], Any]:
    has_own_type = field.field_type is not fields.JSONField.field_type  # a Pydantic model
    if isinstance(field, fields.JSONField) and field.decoder is JSON_LOADS and not has_own_type:
        return partial(_decode_json, field)
    return field.to_python_value


def _decode_json(field: fields.JSONField[Any], value: Any) -> Any:
    if not isinstance(value, str):
        return field.to_python_value(value)
    try:
        return load_stored(value)
    except ValueError:
        return field.to_python_value(value)  # raises Tortoise's error


@lru_cache(maxsize=1_000)
def _build_query(model: type[Model], name: str, order: tuple[str, ...]) -> str:
    """Build a SELECT of the rows whose column `name` is in an array parameter."""
    meta = model._meta
    columns = meta.fields_db_projection
    table = meta.basetable
    select = meta.db.query_class.from_(table).select(*(table[column] for column in columns.values())).get_sql()
    if name == meta.pk_attr:
        # LATERAL looks up each key by the index. Without it a plan that Postgres caches while the table has 100 to 500
        # rows would scan the table after it has grown.
        key_type = str(meta.pk.get_for_dialect("postgres", "SQL_TYPE")).partition("(")[0]
        by_key = f'{select} WHERE "{columns[name]}" = given.key OFFSET 0'
        return f"SELECT stored.* FROM unnest($1::{key_type}[]) given (key), LATERAL ({by_key}) stored"
    terms = []
    for column in order:
        direction = "DESC" if column.startswith("-") else "ASC"
        terms.append(f'"{columns[column.lstrip("-")]}" {direction}')
    return f'{select} WHERE "{columns[name]}" = ANY($1) ORDER BY {", ".join(terms)}'


def _list_order(model: type[Model]) -> list[str]:
    """Return the model's own order, then its key: the same rows must always be read in the same order."""
    names = []
    for name, order in model._meta._default_ordering or ():
        sign = "-" if order == Order.desc else ""
        names.append(f"{sign}{name}")
    return [*names, model._meta.pk_attr]


def _decode_root(root: type[Model], tracking: Tracking, row: Mapping[str, Any], children: Mapping[str, Any]) -> Stored:
    stored = _decode(root, tracking, row, children)
    item = {"id": None, **stored.item}
    item["id"] = tracking.encode_id(row[root._meta.pk_attr])
    return Stored(item=item, compared=stored.compared, hidden=stored.hidden)


def _decode(
    model: type[Model], spec: Child, row: Mapping[str, Any], children: Mapping[str, Any], link: str | None = None
) -> Stored:
    """Return the state of one row.

    `children` holds the states of its children by the name of the relation; `link` is the column that references its
    parent.
    """
    stored = Stored(item={}, compared={}, hidden={})
    for column in _list_columns(model, frozenset(spec.exclude), link):
        name = column.name
        value = row[name]
        if type(value) is not str:
            value = _to_plain(value, column.field)
        if column.is_shown:
            stored.item[name] = value
        if column.is_compared:
            stored.compared[name] = value
        elif column.is_hidden:
            stored.hidden[name] = value
    for name, states in children.items():
        stored.item[name] = _map_children(states, attrgetter("item"))
        stored.compared[name] = _map_children(states, attrgetter("compared", "hidden"))
    return stored


@lru_cache(maxsize=1_000)
def _list_columns(model: type[Model], exclude: frozenset[str], link: str | None) -> list[Column]:
    columns = []
    for name in model._meta.fields_db_projection:
        field = model._meta.fields_map[name]
        is_shown = name not in exclude and name != link
        can_change = not getattr(field, "auto_now", False)
        columns.append(
            Column(
                name=name,
                field=field,
                is_shown=is_shown,
                is_compared=can_change and is_shown,
                is_hidden=can_change and name in exclude and not field.pk,
            )
        )
    return columns


def _map_children(states: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the children of one relation: a list, or one child or None."""
    if isinstance(states, list):
        return [function(state) for state in states]
    return None if states is None else function(states)


def _to_json(value: Any) -> str:
    """Encode a value for comparison. Unlike ==, this distinguishes true from 1 and 1 from 1.0."""
    return json.dumps(value, sort_keys=True, default=str)


def _to_plain(value: Any, field: Field[Any]) -> Any:
    """Convert a column's value to JSON types. A Decimal becomes a string with the column's decimal places."""
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
    if type(value) is int:
        return to_storable_integer(value)
    if value is None or isinstance(value, (str, int, float, dict, list)):
        return value
    if isinstance(field, fields.JSONField):
        return load_stored(str(field.to_db_value(value, field.model)))
    return str(value)  # a UUID, or the value of a custom field
