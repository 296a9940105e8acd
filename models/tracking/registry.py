"""Declarations of tracked models, and the registry of all tracked models of the process.

The `Tracking` of a root model (an order) holds its name and the contents of its snapshot, including its children (the
order's items). Every write of a child counts as an update of its root (rule 7 in docs/architecture.md).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from tortoise.fields.base import CASCADE, SET_DEFAULT, SET_NULL
from tortoise.fields.relational import ForeignKeyFieldInstance
from tortoise.models import Model

from ringback.models import ids
from ringback.models.errors import TrackingError

#: What a database may do to a row when the row that it references is deleted, other than refuse.
CASCADING = (CASCADE, SET_NULL, SET_DEFAULT)
#: Names are sent in a header, `Ringback-Event: <name>.<action>`, and stored in a column of 100 characters.
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Computed:
    """A value of a snapshot that is not a column.

    `compute` gets the snapshot of its object, children included; an error that it raises rolls the write back. `type`
    is the type that the API shows, such as "decimal" or "string".
    """

    compute: Callable[[Mapping[str, Any]], Any]
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class Child:
    """Rows that belong to an object: a backward relation, shown as a list, or as an object if it is one-to-one.

    `exclude` names columns that the snapshot leaves out; a change of them still counts as a change. `computed` adds
    values that are not columns, `children` the rows that belong to these rows. A many-to-many relation cannot be a
    child.
    """

    exclude: frozenset[str] = frozenset()
    computed: Mapping[str, Computed] = field(default_factory=dict)
    children: Mapping[str, "Child"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tracking(Child):
    """The declaration of a root model.

    - `name`: the model's name in webhooks, such as "customer_order".
    - `labels`: its display names by language; "en" is required.
    - `exclude`: columns that no snapshot holds, such as secrets and personal data. A change of them still counts.
    - `id_prefix`: writes a UUID key as a TypeID with this prefix.
    - `sample`: the object that a test-fire sends; by default it is made from the field types.
    """

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    id_prefix: str | None = None
    sample: Mapping[str, Any] | None = None

    def encode_id(self, key: Any) -> str:
        """Return the id of an object in its snapshot, its events and the API."""
        if self.id_prefix and isinstance(key, UUID):
            return ids.encode(self.id_prefix, key)
        return str(key)


@dataclass(frozen=True, slots=True)
class Link:
    """A child's reference to its parent: the relation `attribute`, whose key is stored in `column`."""

    attribute: str
    column: str
    parent: type[Model]


@dataclass(frozen=True, slots=True)
class Cascade:
    """Rows of `model` that the database deletes or changes when the row that their `column` references is deleted."""

    model: type[Model]
    column: str
    deletes: bool


class Registry:
    """All tracked models of a process, and the ways in which writes of other rows affect them."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._registered: set[type[Model]] = set()
        self._roots: dict[str, type[Model]] = {}
        self._links: dict[type[Model], list[Link]] = {}
        self._cascades: dict[type[Model], list[Cascade]] = {}

    def build(self, models: Iterable[type[Model]], *, root_class: type[Model], child_class: type[Model]) -> None:
        """Register all models of the database that derive from `child_class`; those of `root_class` are roots.

        Raises TrackingError when changes of a model could be missed; the registry is empty then.
        """
        self._clear()
        tracked = {model for model in models if issubclass(model, child_class)}
        try:
            for model in sorted(tracked, key=_qualified_name):
                if issubclass(model, root_class):
                    self._add_root(model, child_class)
            seen: set[type[Model]] = set()
            for model in [*self._roots.values(), *self._links]:
                self._add_cascades(model, child_class, seen)
        except TrackingError:
            self._clear()
            raise
        self._registered = tracked

    def check_registered(self, model: type[Model]) -> None:
        """Raise TrackingError if the model is not registered, so that its writes would be missed."""
        if model not in self._registered:
            raise TrackingError(
                f"{model.__name__} is not registered, so this write would not be recorded. "
                "Call ringback.models.start_tracking() after Tortoise.init()."
            )

    def names(self) -> list[str]:
        """Return the names of the root models, sorted."""
        return sorted(self._roots)

    def get(self, name: str) -> type[Model] | None:
        """Return the root model with this name, or None."""
        return self._roots.get(name)

    def is_root(self, model: type[Model]) -> bool:
        """Return whether webhooks can watch the model itself."""
        return model in self._roots.values()

    def links(self, model: type[Model]) -> list[Link]:
        """Return the references of a child to its parents, [] for a model that is not a child."""
        return self._links.get(model, [])

    def cascades(self, model: type[Model]) -> list[Cascade]:
        """Return the foreign keys through which deleting a row of `model` deletes or changes tracked rows."""
        return self._cascades.get(model, [])

    def _add_root(self, model: type[Model], child_class: type[Model]) -> None:
        tracking = getattr(model, "tracking", None)
        if not isinstance(tracking, Tracking) or not tracking.name or "en" not in tracking.labels:
            raise TrackingError(f'{model.__name__}: set `tracking = Tracking(name=…, labels={{"en": …}}, …)`')
        if not NAME_PATTERN.fullmatch(tracking.name):
            raise TrackingError(
                f"{model.__name__}: {tracking.name!r} is not a valid name for a tracked model. Use at most 100 "
                "lowercase letters, digits and underscores, starting with a letter, such as customer_order."
            )
        other = self._roots.setdefault(tracking.name, model)
        if other is not model:
            raise TrackingError(
                f"{model.__name__} and {other.__name__} are both tracked as {tracking.name!r}. Rename one."
            )
        key = model._meta.pk_attr
        if key in tracking.exclude:
            raise TrackingError(
                f"{model.__name__}: `exclude` names the key {key}, which every snapshot shows as `id`. Remove it."
            )
        if key != "id" and "id" in model._meta.fields_db_projection.keys() - tracking.exclude:
            raise TrackingError(
                f"{model.__name__}: the column id is not the key, but the `id` of a snapshot is the key. Exclude it."
            )
        self._add_children(model, tracking, child_class)

    def _add_children(self, parent: type[Model], spec: Child, child_class: type[Model]) -> None:
        _check_names(parent, spec)
        for name, child in spec.children.items():
            relation = cast(Any, parent._meta.fields_map[name])
            model: type[Model] = relation.related_model
            if not issubclass(model, child_class):
                raise TrackingError(
                    f"{model.__name__} is a child of {parent.__name__}. "
                    f"Derive it from ringback.models.{child_class.__name__}."
                )
            attribute, key = next(
                (attribute, key)
                for attribute, key in _list_foreign_keys(model)
                if key.source_field == relation.relation_field
            )
            if not key.to_field_instance.pk:
                raise TrackingError(
                    f"{model.__name__}.{attribute} references {key.to_field_instance.model_field_name} of "
                    f"{parent.__name__}. A child must reference the primary key of its parent."
                )
            link = Link(attribute=attribute, column=str(key.source_field), parent=parent)
            if link not in self._links.setdefault(model, []):
                self._links[model].append(link)
            self._add_children(model, child, child_class)

    def _add_cascades(self, model: type[Model], child_class: type[Model], seen: set[type[Model]]) -> None:
        """Add the cascades into `model` and, recursively, into each model from which one starts.

        Raises TrackingError when a cascade would change tracked rows without being recorded.
        """
        if model in seen:
            return
        seen.add(model)
        for name, relation in _list_foreign_keys(model):
            if relation.on_delete not in CASCADING or not relation.db_constraint:
                continue
            target = relation.related_model
            if not issubclass(target, child_class):
                raise TrackingError(
                    f"{model.__name__}.{name}: deleting a {target.__name__} would change tracked rows unrecorded. "
                    f"Derive {target.__name__} from ringback.models.{child_class.__name__}, "
                    "or use on_delete=RESTRICT."
                )
            if not relation.to_field_instance.pk:
                raise TrackingError(
                    f"{model.__name__}.{name}: deleting a {target.__name__} would change tracked rows unrecorded. "
                    "Reference its primary key, or use on_delete=RESTRICT."
                )
            cascade = Cascade(model=model, column=str(relation.source_field), deletes=relation.on_delete == CASCADE)
            self._cascades.setdefault(target, []).append(cascade)
            self._add_cascades(target, child_class, seen)


#: The registry of this process.
registry = Registry()


def get_tracking(model: type[Model]) -> Tracking:
    """Return the declaration of a root model."""
    tracking: Tracking = cast(Any, model).tracking  # build() has checked that it exists
    return tracking


def _qualified_name(model: type[Model]) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def _check_names(model: type[Model], spec: Child) -> None:
    """Raise TrackingError if a name does not exist, or if two values of a snapshot have the same name."""
    columns = set(model._meta.fields_db_projection)
    unknown = spec.exclude - columns
    if unknown:
        raise TrackingError(
            f"{model.__name__}: `exclude` names columns that do not exist: {', '.join(sorted(unknown))}. Remove them."
        )
    for name in spec.children:
        if name not in model._meta.backward_fk_fields | model._meta.backward_o2o_fields:
            raise TrackingError(
                f"{model.__name__}: {name!r} in `children` is not a backward relation. Use the related_name of a "
                "foreign key or one-to-one field."
            )
    duplicates = spec.computed.keys() & (columns - spec.exclude | spec.children.keys() | {"id"})
    if duplicates:
        raise TrackingError(
            f"{model.__name__}: names in `computed` are already used: {', '.join(sorted(duplicates))}. Rename them."
        )


def _list_foreign_keys(model: type[Model]) -> list[tuple[str, ForeignKeyFieldInstance[Any]]]:
    names = sorted(model._meta.fk_fields | model._meta.o2o_fields)
    relations = [(name, model._meta.fields_map[name]) for name in names]
    return [(name, relation) for name, relation in relations if isinstance(relation, ForeignKeyFieldInstance)]
