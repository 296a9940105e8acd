"""What may be watched: how a tracked model is declared, and the registry of all that are.

A root (an order) says in its `Tracking` how it is called and what its snapshot holds. Its children (the order's items)
are said there too, and every write of a child counts as an update of its root (rule 7 of the design).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from ringback.models import ids
from ringback.models.errors import TrackingError
from tortoise.fields.base import CASCADE, SET_DEFAULT, SET_NULL
from tortoise.fields.relational import ForeignKeyFieldInstance
from tortoise.models import Model

#: What a database may do to a row when the row it points at is deleted, besides refusing.
CASCADING = (CASCADE, SET_NULL, SET_DEFAULT)


@dataclass(frozen=True, slots=True)
class Computed:
    """A value of a snapshot that is no column; `compute` gets the snapshot of its object, children included."""

    compute: Callable[[Mapping[str, Any]], Any]
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class Child:
    """Rows that belong to an object: a backward relation, shown as a list (or an object, where it is one to one).

    `exclude` names columns that the snapshot leaves out.
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

    def label(self, locale: str = "en") -> str:
        """The label in a language such as "ru" or "ru-RU"; English where there is none."""
        language = locale.replace("_", "-").split("-")[0]
        return self.labels.get(locale) or self.labels.get(language) or self.labels["en"]

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
        self._roots: dict[str, type[Model]] = {}
        self._links: dict[type[Model], list[Link]] = {}
        self._cascades: dict[type[Model], list[Cascade]] = {}

    def build(self, models: Iterable[type[Model]], *, tracked: type[Model], recorded: type[Model]) -> None:
        """Take in all models of the database; `tracked` and `recorded` are the base classes of roots and of the rest.

        Raises TrackingError when a model cannot be tracked without missing a change.
        """
        self._roots, self._links, self._cascades = {}, {}, {}
        for model in models:
            if issubclass(model, tracked):
                self._add_root(model, recorded)
            for _, relation in _foreign_keys(model):
                if relation.on_delete in CASCADING:
                    cascade = Cascade(model, str(relation.source_field), relation.on_delete == CASCADE)
                    self._cascades.setdefault(relation.related_model, []).append(cascade)
        for watched in {*self._roots.values(), *self._links}:
            self._check_cascades(watched, recorded, set())

    def names(self) -> list[str]:
        """The names of the tracked models, sorted."""
        return sorted(self._roots)

    def get(self, name: str) -> type[Model] | None:
        """The tracked model of that name."""
        return self._roots.get(name)

    def tracking(self, name: str) -> Tracking:
        """How the tracked model of that name is tracked; raises KeyError when there is none."""
        return tracking_of(self._roots[name])

    def is_root(self, model: type[Model]) -> bool:
        """Whether a model can be watched itself."""
        return model in self._roots.values()

    def links(self, model: type[Model]) -> list[Link]:
        """The ways from a child to its parents; empty for a model that is nobody's child."""
        return self._links.get(model, [])

    def cascades(self, model: type[Model]) -> list[Cascade]:
        """What the database changes on its own when a row of `model` is deleted."""
        return self._cascades.get(model, [])

    def _add_root(self, model: type[Model], recorded: type[Model]) -> None:
        tracking = getattr(model, "tracking", None)
        if not isinstance(tracking, Tracking) or not tracking.name or "en" not in tracking.labels:
            raise TrackingError(f'{model.__name__}: set `tracking = Tracking(name=…, labels={{"en": …}}, …)`')
        other = self._roots.setdefault(tracking.name, model)
        if other is not model:
            raise TrackingError(
                f"{model.__name__} and {other.__name__} are both tracked as {tracking.name!r}: rename one"
            )
        self._add_children(model, tracking, recorded)

    def _add_children(self, parent: type[Model], spec: Child, recorded: type[Model]) -> None:
        unknown = spec.exclude - set(parent._meta.fields_db_projection)
        if unknown:
            raise TrackingError(f"{parent.__name__}: exclude names no such columns: {', '.join(sorted(unknown))}")
        for name, child in spec.children.items():
            if name not in parent._meta.backward_fk_fields | parent._meta.backward_o2o_fields:
                raise TrackingError(f"{parent.__name__}: {name!r} in children is no backward relation")
            relation = cast(Any, parent._meta.fields_map[name])
            model: type[Model] = relation.related_model
            if not issubclass(model, recorded):
                raise TrackingError(
                    f"{model.__name__} is part of {parent.__name__}: derive it from ringback.models.{recorded.__name__}"
                )
            link = next(
                Link(attribute, str(key.source_field), parent)
                for attribute, key in _foreign_keys(model)
                if key.source_field == relation.relation_field
            )
            if link not in self._links.setdefault(model, []):
                self._links[model].append(link)
            self._add_children(model, child, recorded)

    def _check_cascades(self, model: type[Model], recorded: type[Model], seen: set[type[Model]]) -> None:
        if model in seen:
            return
        seen.add(model)
        for name, relation in _foreign_keys(model):
            if relation.on_delete not in CASCADING:
                continue
            target = relation.related_model
            if not issubclass(target, recorded):
                raise TrackingError(
                    f"{model.__name__}.{name}: deleting a {target.__name__} would change tracked rows unseen; derive "
                    f"{target.__name__} from ringback.models.{recorded.__name__}, or use on_delete=RESTRICT"
                )
            self._check_cascades(target, recorded, seen)


def tracking_of(model: type[Model]) -> Tracking:
    """How a root is tracked."""
    return cast(Tracking, model.tracking)  # type: ignore[attr-defined]  # build() has made sure


def _foreign_keys(model: type[Model]) -> list[tuple[str, ForeignKeyFieldInstance[Any]]]:
    names = sorted(model._meta.fk_fields | model._meta.o2o_fields)
    return [(name, f) for name in names if isinstance(f := model._meta.fields_map[name], ForeignKeyFieldInstance)]


#: The registry of this process.
registry = Registry()
