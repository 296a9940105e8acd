"""What may be watched: how a tracked model is declared, and the registry of all that are.

A root (an order) says in its `Tracking` how it is called and what its snapshot holds. Its children (the order's items)
are said there too, and every write of a child counts as an update of its root (rule 7 of the design).
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

#: What a database may do to a row when the row it points at is deleted, besides refusing.
CASCADING = (CASCADE, SET_NULL, SET_DEFAULT)
#: Names travel in a header, `Ringback-Event: <name>.<action>`, and in a column of this length.
NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Computed:
    """A value of a snapshot that is no column; `compute` gets the snapshot of its object, children included.

    `type` is what the API shows, such as "decimal" or "string". An error that `compute` raises rolls the write back.
    """

    compute: Callable[[Mapping[str, Any]], Any]
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class Child:
    """Rows that belong to an object: a backward relation, shown as a list (or an object, where it is one to one).

    `exclude` names columns that the snapshot leaves out, though a change of them is a change; `computed` adds values
    that are no columns, `children` the rows that belong to these in turn. Many-to-many relations are no children.
    """

    exclude: frozenset[str] = frozenset()
    computed: Mapping[str, Computed] = field(default_factory=dict)
    children: Mapping[str, "Child"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tracking(Child):
    """How a root model is tracked. `name` is what webhooks name it by, such as "customer_order".

    `labels` are its names for people by language ("en" is required); `exclude` names columns that no snapshot holds
    (secrets, personal data), though a change of them is a change; `id_prefix` writes a UUID key as a TypeID; `sample`
    is the object that a test-fire sends, made up from the field types where it is not given.
    """

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    id_prefix: str | None = None
    sample: Mapping[str, Any] | None = None

    def object_id(self, key: Any) -> str:
        """The id of an object as its snapshot, its events and the API show it."""
        return ids.encode(self.id_prefix, key) if self.id_prefix and isinstance(key, UUID) else str(key)


@dataclass(frozen=True, slots=True)
class Link:
    """A child's way up: `column` of the child holds the key of its `parent`; `attribute` is the relation's name."""

    attribute: str
    column: str
    parent: type[Model]


@dataclass(frozen=True, slots=True)
class Cascade:
    """What the database does on its own: rows of `model` whose `column` points at a deleted row change or go."""

    model: type[Model]
    column: str
    deletes: bool


class Registry:
    """All tracked models of a process, and how writes of other rows reach them."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._known: set[type[Model]] = set()
        self._roots: dict[str, type[Model]] = {}
        self._links: dict[type[Model], list[Link]] = {}
        self._cascades: dict[type[Model], list[Cascade]] = {}

    def build(self, models: Iterable[type[Model]], *, tracked: type[Model], recorded: type[Model]) -> None:
        """Take in all models of the database; `tracked` and `recorded` are the base classes of roots and of the rest.

        Raises TrackingError when a model cannot be tracked without missing a change; the registry is empty then.
        """
        self._clear()
        known = {model for model in models if issubclass(model, recorded)}
        try:
            for model in sorted(known, key=lambda m: f"{m.__module__}.{m.__qualname__}"):
                if issubclass(model, tracked):
                    self._add_root(model, recorded)
            seen: set[type[Model]] = set()
            for watched in [*self._roots.values(), *self._links]:
                self._add_cascades(watched, recorded, seen)
        except TrackingError:
            self._clear()
            raise
        self._known = known

    def check_known(self, model: type[Model]) -> None:
        """Raises TrackingError when nobody listens to writes of this model."""
        if model not in self._known:
            raise TrackingError(
                f"{model.__name__} would be written unrecorded: "
                "call ringback.models.start_tracking() after Tortoise.init()"
            )

    def names(self) -> list[str]:
        """The names of the tracked models, sorted."""
        return sorted(self._roots)

    def get(self, name: str) -> type[Model] | None:
        """The tracked model of that name."""
        return self._roots.get(name)

    def is_root(self, model: type[Model]) -> bool:
        """Whether a model can be watched itself."""
        return model in self._roots.values()

    def links(self, model: type[Model]) -> list[Link]:
        """The ways from a child to its parents; empty for a model that is nobody's child."""
        return self._links.get(model, [])

    def cascades(self, model: type[Model]) -> list[Cascade]:
        """What the database changes on its own, among watched rows, when a row of `model` is deleted."""
        return self._cascades.get(model, [])

    def _add_root(self, model: type[Model], recorded: type[Model]) -> None:
        tracking = getattr(model, "tracking", None)
        if not isinstance(tracking, Tracking) or not tracking.name or "en" not in tracking.labels:
            raise TrackingError(f'{model.__name__}: set `tracking = Tracking(name=…, labels={{"en": …}}, …)`')
        if not NAME.fullmatch(tracking.name):
            raise TrackingError(
                f"{model.__name__}: {tracking.name!r} is no name for a tracked model; write it like customer_order"
            )
        other = self._roots.setdefault(tracking.name, model)
        if other is not model:
            raise TrackingError(
                f"{model.__name__} and {other.__name__} are both tracked as {tracking.name!r}: rename one"
            )
        key = model._meta.pk_attr
        if key in tracking.exclude:
            raise TrackingError(f"{model.__name__}: the key {key} cannot be excluded, every snapshot shows it as `id`")
        if key != "id" and "id" in model._meta.fields_db_projection.keys() - tracking.exclude:
            raise TrackingError(f"{model.__name__}: the column id is not its key, but a snapshot's `id` is; exclude it")
        self._add_children(model, tracking, recorded)

    def _add_children(self, parent: type[Model], spec: Child, recorded: type[Model]) -> None:
        _check_names(parent, spec)
        for name, child in spec.children.items():
            relation = cast(Any, parent._meta.fields_map[name])
            model: type[Model] = relation.related_model
            if not issubclass(model, recorded):
                raise TrackingError(
                    f"{model.__name__} is part of {parent.__name__}: derive it from ringback.models.{recorded.__name__}"
                )
            attribute, key = next(
                (attribute, key)
                for attribute, key in _foreign_keys(model)
                if key.source_field == relation.relation_field
            )
            if not key.to_field_instance.pk:
                raise TrackingError(
                    f"{model.__name__}.{attribute} points at {key.to_field_instance.model_field_name} of "
                    f"{parent.__name__}: a child must point at the primary key of its parent"
                )
            link = Link(attribute, str(key.source_field), parent)
            if link not in self._links.setdefault(model, []):
                self._links[model].append(link)
            self._add_children(model, child, recorded)

    def _add_cascades(self, model: type[Model], recorded: type[Model], seen: set[type[Model]]) -> None:
        """Find what the deletion of other rows does to rows of `model`, and who must be recorded because of it."""
        if model in seen:
            return
        seen.add(model)
        for name, relation in _foreign_keys(model):
            if relation.on_delete not in CASCADING or not relation.db_constraint:
                continue
            target = relation.related_model
            if not issubclass(target, recorded):
                raise TrackingError(
                    f"{model.__name__}.{name}: deleting a {target.__name__} would change tracked rows unseen; derive "
                    f"{target.__name__} from ringback.models.{recorded.__name__}, or use on_delete=RESTRICT"
                )
            if not relation.to_field_instance.pk:
                raise TrackingError(
                    f"{model.__name__}.{name}: deleting a {target.__name__} would change tracked rows unseen; point at "
                    "its primary key, or use on_delete=RESTRICT"
                )
            cascade = Cascade(model, str(relation.source_field), relation.on_delete == CASCADE)
            self._cascades.setdefault(target, []).append(cascade)
            self._add_cascades(target, recorded, seen)


def _check_names(model: type[Model], spec: Child) -> None:
    """Every name of a snapshot must be one thing only."""
    columns = set(model._meta.fields_db_projection)
    unknown = spec.exclude - columns
    if unknown:
        raise TrackingError(f"{model.__name__}: exclude names no such columns: {', '.join(sorted(unknown))}")
    for name in spec.children:
        if name not in model._meta.backward_fk_fields | model._meta.backward_o2o_fields:
            raise TrackingError(f"{model.__name__}: {name!r} in children is no backward relation")
    twice = spec.computed.keys() & (columns - spec.exclude | spec.children.keys() | {"id"})
    if twice:
        raise TrackingError(f"{model.__name__}: computed values hide other fields: {', '.join(sorted(twice))}")


def tracking_of(model: type[Model]) -> Tracking:
    """How a root is tracked."""
    return cast(Tracking, model.tracking)  # type: ignore[attr-defined]  # build() has made sure


def _foreign_keys(model: type[Model]) -> list[tuple[str, ForeignKeyFieldInstance[Any]]]:
    names = sorted(model._meta.fk_fields | model._meta.o2o_fields)
    return [(name, f) for name in names if isinstance(f := model._meta.fields_map[name], ForeignKeyFieldInstance)]


#: The registry of this process.
registry = Registry()
