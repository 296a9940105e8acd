"""Selections: what an operation selects of the objects of a type, made into one function that reads it from an object.

graphql-core takes some 5 µs for each field of each object, and a page of 100 events has 2,000 of them. Most fields are
attributes that need no resolver, or edges that were fetched before: reading one takes a tenth of that.
Nothing is lost when a reader raises (graphql_api.execution.value_completion) and graphql-core has to read it all again:
reading has no effects.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias, cast

from graphql import GraphQLField, GraphQLObjectType, get_named_type
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList
from strawberry.types.field import StrawberryField

from ringback.graphql_api.context.dataloaders import Load, Loaders
from ringback.graphql_api.execution.value_completion import Read, make_reader
from ringback.graphql_api.fields.attribute_field import attribute_of
from ringback.graphql_api.fields.loaded_field import LoadedField, loaded_field_of

#: graphql-core's memory of which fields are selected of a type below a field.
Collect: TypeAlias = Callable[[GraphQLObjectType, FieldDetailsList], CollectedFields]


@dataclass(frozen=True, slots=True)
class Field:
    """A selected field that is only looked up: an attribute or an edge.

    `get` takes its value from an object, `read` its completed value; `read` is None where a resolver is needed below.
    """

    name: str
    edge: LoadedField | None
    below: "Selection | None"
    get: Read
    read: Read | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected of one type: its fields that are only looked up, and a reader if these are all."""

    fields: tuple[Field, ...]
    read: Read | None
    #: Whether there are edges in it, at any depth that looking up leads to.
    fetches: bool

    async def fetch(self, objects: list[Any], loaders: Loaders) -> None:
        """Fetch what lies behind the edges of these objects, and of what is found there: a statement for each loader.

        It is kept in the objects, where readers look for it.
        """
        edges_by_load: dict[Load, dict[str, LoadedField]] = {}
        for field in self.fields:
            if field.edge is not None:
                edges_by_load.setdefault(field.edge.load, {})[field.name] = field.edge
        for load, edges in edges_by_load.items():
            keys = list({key for edge in edges.values() for source in objects if (key := edge.key(source)) is not None})
            rows = dict(zip(keys, await loaders[load].load_many(keys), strict=True)) if keys else {}
            for name, edge in edges.items():
                for source in objects:
                    source.__dict__[name] = edge.make(source, rows.get(edge.key(source)))
        for field in self.fields:
            if field.below is not None and field.below.fetches:
                found = list(_objects(field.get(source) for source in objects))
                if found:
                    await field.below.fetch(found, loaders)


def _objects(values: Iterable[Any]) -> Iterable[Any]:
    """The objects in values that are lists of such, objects or None."""
    for value in values:
        if isinstance(value, list):
            yield from _objects(value)
        elif value is not None:
            yield value


#: Selections by type and by the fields' nodes, whose document must be kept as long.
Kept: TypeAlias = dict[tuple[GraphQLObjectType, tuple[int, ...]], Selection]
#: How many selections are kept of one operation: fragments can make many of a short document.
MAX_KEPT = 500


class Selections:
    """The selections of one operation, each made once; those that are `kept` serve its next executions too."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self.kept: Kept | None = None
        # By the identity of lists that graphql-core keeps alive as long as these.
        self._selections: dict[tuple[GraphQLObjectType, int], Selection] = {}
        self._fields: dict[tuple[GraphQLObjectType, int], Field | None] = {}

    def below(self, kind: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        """What is selected of the objects of a type that a field leads to."""
        key = (kind, id(selected))
        found = self._selections.get(key)
        if found is None:
            found = self._selections[key] = self._kept_or_made(kind, selected)
        return found

    def _kept_or_made(self, kind: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        if self.kept is None:
            return self._selection(kind, selected)
        key = (kind, tuple(id(details.node) for details in selected))
        found = self.kept.get(key)
        if found is None:
            found = self._selection(kind, selected)
            if len(self.kept) < MAX_KEPT:
                self.kept[key] = found
        return found

    def field(self, parent: GraphQLObjectType, selected: FieldDetailsList) -> Field | None:
        """A field of a type, if it is only looked up."""
        key = (parent, id(selected))
        if key not in self._fields:
            self._fields[key] = self._field(parent, selected)
        return self._fields[key]

    def _selection(self, kind: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        grouped = self._collect(kind, selected).grouped_field_set
        fields = {response_name: self.field(kind, details) for response_name, details in grouped.items()}
        looked_up = tuple(field for field in fields.values() if field is not None)
        readers = {response_name: field.read if field is not None else None for response_name, field in fields.items()}
        read = None if None in readers.values() else _object_reader(cast(dict[str, Read], readers))
        fetches = any(f.edge is not None or (f.below is not None and f.below.fetches) for f in looked_up)
        return Selection(looked_up, read, fetches)

    def _field(self, parent: GraphQLObjectType, selected: FieldDetailsList) -> Field | None:
        name = selected[0].node.name.value
        if name == "__typename":
            return Field(name, None, None, lambda _: parent.name, lambda _: parent.name)
        definition = parent.fields.get(name)
        if definition is None:  # __schema or __type, which the query's root has besides its fields
            return None
        field = definition.extensions.get("strawberry-definition")
        if not isinstance(field, StrawberryField):
            return None
        edge, get = loaded_field_of(field), attribute_of(field)
        if edge is not None:
            get = _fetched(field.python_name)
        elif get is None and field.is_basic_field:
            get = attrgetter(field.python_name)
        if get is None:
            return None
        object_type = _object_type(definition)
        below = self.below(object_type, selected) if object_type is not None else None
        read = make_reader(get, definition.type, below.read if below is not None else None)
        return Field(field.python_name, edge, below, get, read)


def _object_type(definition: GraphQLField) -> GraphQLObjectType | None:
    kind = get_named_type(definition.type)
    return kind if isinstance(kind, GraphQLObjectType) else None


def _fetched(name: str) -> Read:
    return lambda source: source.__dict__[name]


def _object_reader(readers: dict[str, Read]) -> Read:
    pairs = tuple(readers.items())
    return lambda source: {name: read(source) for name, read in pairs}
