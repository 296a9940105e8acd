"""Selections: what an operation selects of the objects of a type, made into one function that reads it from an object.

graphql-core takes some 5 µs for each field of each object, and a page of 100 events has 2,000 of them. Most fields are
attributes that need no resolver, or edges that were fetched before: reading one takes a tenth of that.

A reader knows no errors. Whatever it meets that is not as it should be, a null where none may be or a value that does
not fit its type, makes it raise, and the caller leaves the object to graphql-core, which reports what it finds. Nothing
is lost by trying: reading attributes has no effects.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeAlias, cast

from graphql import GraphQLEnumType, GraphQLField, GraphQLObjectType, Undefined
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList
from graphql.type import GraphQLBoolean, GraphQLID, GraphQLString, is_leaf_type, is_list_type, is_non_null_type
from strawberry.types.field import StrawberryField

from ringback.graphql_api.edges import Edge, edge_of
from ringback.graphql_api.loaders import Loaders

Read: TypeAlias = Callable[[Any], Any]
#: graphql-core's memory of which fields are selected of a type below a field.
Collect: TypeAlias = Callable[[GraphQLObjectType, FieldDetailsList], CollectedFields]

#: Leaves that are what they are read as.
_PLAIN = {GraphQLString: str, GraphQLID: str, GraphQLBoolean: bool}


class Unfit(Exception):
    """A value is not as its type says."""


@dataclass(frozen=True, slots=True)
class Field:
    """A selected field that is only looked up: an attribute, or an edge.

    `read` takes its completed value from an object; None where something below it needs a resolver.
    """

    name: str
    edge: Edge | None
    below: "Selection | None"
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
        edges = [(field.name, field.edge) for field in self.fields if field.edge is not None]
        by_loader: dict[Any, list[tuple[str, Edge]]] = {}
        for name, edge in edges:
            by_loader.setdefault(edge.loader(loaders), []).append((name, edge))
        for loader, same in by_loader.items():
            wanted = {key for _, edge in same for source in objects if (key := edge.key(source)) is not None}
            keys = list(wanted)
            rows = dict(zip(keys, await loader.load_fn(keys), strict=True)) if keys else {}
            for name, edge in same:
                for source in objects:
                    source.__dict__[name] = edge.make(source, rows.get(edge.key(source)))
        for field in self.fields:
            if field.below is not None and field.below.fetches:
                found = list(_objects(getattr(source, field.name) for source in objects))
                if found:
                    await field.below.fetch(found, loaders)


def _objects(values: Iterable[Any]) -> Iterable[Any]:
    """The objects in values that are lists of such, objects or None."""
    for value in values:
        if isinstance(value, list):
            yield from _objects(value)
        elif value is not None:
            yield value


class Selections:
    """The selections of one operation, each made once."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        # By the identity of lists that graphql-core keeps alive as long as these.
        self._selections: dict[tuple[GraphQLObjectType, int], Selection] = {}
        self._fields: dict[tuple[GraphQLObjectType, int], Field | None] = {}

    def below(self, kind: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        """What is selected of the objects of a type that a field leads to."""
        key = (kind, id(selected))
        found = self._selections.get(key)
        if found is None:
            found = self._selections[key] = self._selection(kind, selected)
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
            return Field("__class__", None, None, lambda _: parent.name)
        definition = parent.fields.get(name)
        if definition is None:  # __schema or __type, which the query's root has besides its fields
            return None
        field = definition.extensions.get("strawberry-definition")
        edge = edge_of(field) if isinstance(field, StrawberryField) else None
        if not isinstance(field, StrawberryField) or not (edge or field.is_basic_field):
            return None
        below = None
        object_type = _object_type(definition)
        if object_type is not None:
            below = self.below(object_type, selected)
        complete = _completion(definition.type, below)
        read = None if complete is None else _reader(field.python_name, complete, fetched=edge is not None)
        return Field(field.python_name, edge, below, read)


def _object_type(definition: GraphQLField) -> GraphQLObjectType | None:
    kind: Any = definition.type
    while is_non_null_type(kind) or is_list_type(kind):
        kind = kind.of_type
    return kind if isinstance(kind, GraphQLObjectType) else None


def _object_reader(readers: dict[str, Read]) -> Read:
    pairs = tuple(readers.items())
    return lambda source: {name: read(source) for name, read in pairs}


def _reader(name: str, complete: Read, *, fetched: bool) -> Read:
    if fetched:
        return lambda source: complete(source.__dict__[name])
    get = attrgetter(name)
    return lambda source: complete(get(source))


def _completion(kind: Any, below: Selection | None) -> Read | None:
    """What makes a value of a type fit for the answer."""
    nullable = not is_non_null_type(kind)
    inner = kind if nullable else kind.of_type
    if is_list_type(inner):
        item = _completion(inner.of_type, below)
        complete = None if item is None else _list_completion(item)
    elif is_leaf_type(inner):
        complete = _leaf_completion(inner)
    else:
        complete = below.read if below is not None else None
    if complete is None:
        return None
    return _or_null(complete) if nullable else _never_null(complete)


def _or_null(complete: Read) -> Read:
    return lambda value: None if value is None else complete(value)


def _never_null(complete: Read) -> Read:
    def completed(value: Any) -> Any:
        if value is None:
            raise Unfit
        return complete(value)

    return completed


def _list_completion(item: Read) -> Read:
    def completed(values: Any) -> list[Any]:
        if not isinstance(values, list):
            raise Unfit
        return [item(value) for value in values]

    return completed


def _leaf_completion(kind: Any) -> Read:
    if kind in _PLAIN:
        return _exactly(_PLAIN[kind])
    if isinstance(kind, GraphQLEnumType):
        return _enum_completion(kind)
    coerce = kind.coerce_output_value

    def completed(value: Any) -> Any:
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise Unfit
        return coerced

    return completed


def _exactly(kind: type) -> Read:
    def completed(value: Any) -> Any:
        if type(value) is not kind:
            raise Unfit
        return value

    return completed


def _enum_completion(kind: GraphQLEnumType) -> Read:
    names: dict[Enum, str] = {}

    def completed(value: Any) -> Any:
        name = names.get(value)
        if name is None:
            name = names[value] = kind.coerce_output_value(value)
        return name

    return completed
