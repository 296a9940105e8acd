"""Selections: the fields that an operation selects of a type, compiled into one function that reads an object.

graphql-core takes about 5 µs per field and object, and a page of 100 events has 2,000 of them. Most are attributes or
loaded fields, which need no resolver once their rows are loaded; a reader takes a tenth of that time. Readers have no
side effects, so if one raises (graphql_api.execution.value_completion), graphql-core simply executes the fields again.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias

from graphql import GraphQLObjectType, GraphQLOutputType, get_named_type, get_nullable_type, is_list_type
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList
from strawberry.types.field import StrawberryField

from ringback.graphql_api.context.dataloaders import Load, Loaders
from ringback.graphql_api.execution.byte_budget import count_fields
from ringback.graphql_api.execution.value_completion import Reader, make_reader
from ringback.graphql_api.fields.attribute_field import find_attribute_reader
from ringback.graphql_api.fields.loaded_field import LoadedField, find_loaded_field

#: Collects the fields selected of a type below a field: graphql-core's cached method.
Collect: TypeAlias = Callable[[GraphQLObjectType, FieldDetailsList], CollectedFields]
#: Selections of one operation that are cached, at most: fragments can make many from a short document.
MAX_CACHED_SELECTIONS = 500
#: Fields of the schema without fields below them that are cached, at most: more than it has.
MAX_CACHED_LEAVES = 4_096
#: Fields that an object of a loaded list counts as, besides its own. The events of a change, for one, have no limit.
LISTED_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Field:
    """A selected field that needs no resolver: an attribute or a loaded field.

    `get` returns its value from an object, `read` its completed value. `read` is None if a field below
    needs a resolver.
    """

    name: str
    loaded: LoadedField | None
    below: "Selection | None"
    get: Reader
    read: Reader | None
    #: Number of fields below that `read` reads for each object. Those in lists are counted when they are read.
    width: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """The fields selected of one type that need no resolver, and a reader of the object if these are all fields."""

    fields: tuple[Field, ...]
    read: Reader | None
    #: Number of fields, with those of objects below that are not in lists.
    width: int
    #: Whether there are loaded fields in it, or below its fields.
    has_loaded_fields: bool

    async def load(self, objects: list[Any], loaders: Loaders) -> None:
        """Load the values of loaded fields into the objects, and into the objects below them.

        Each loader is asked once for all objects of a level. The values go to `__dict__`, where readers find them.
        """
        fields_by_load: dict[Load, dict[str, LoadedField]] = {}
        for field in self.fields:
            if field.loaded is not None:
                fields_by_load.setdefault(field.loaded.load, {})[field.name] = field.loaded
        for load, loaded_fields in fields_by_load.items():
            key_set = {loaded.key(source) for loaded in loaded_fields.values() for source in objects}
            keys = [key for key in key_set if key is not None]
            rows: dict[Hashable, Any] = {}
            if keys:
                rows = dict(zip(keys, await loaders[load].load_many(keys), strict=True))
            for name, loaded in loaded_fields.items():
                for source in objects:
                    row = rows.get(loaded.key(source))
                    if isinstance(row, list):
                        count_fields(len(row) * LISTED_FIELDS)
                    source.__dict__[name] = loaded.make(source, row)
        for field in self.fields:
            if field.below is not None and field.below.has_loaded_fields:
                objects_below = list(_flatten(field.get(source) for source in objects))
                if objects_below:
                    await field.below.load(objects_below, loaders)


def _flatten(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the objects in values that are objects, None, or nested lists of them."""
    for value in values:
        if isinstance(value, list):
            yield from _flatten(value)
        elif value is not None:
            yield value


#: Selections by type and by the ids of the fields' nodes. It must not outlive the document.
SelectionCache: TypeAlias = dict[tuple[GraphQLObjectType, tuple[int, ...]], Selection]


class Selections:
    """The selections of one execution, each compiled once, and taken from `cache` if the operation has one."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self.cache: SelectionCache | None = None
        # Keyed by the id of lists that graphql-core keeps alive for as long as this object.
        self._selections: dict[tuple[GraphQLObjectType, int], Selection] = {}
        self._fields: dict[tuple[GraphQLObjectType, int], Field | None] = {}

    def below(self, object_type: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        """Return the selection below a field, for objects of a type."""
        key = (object_type, id(selected))
        selection = self._selections.get(key)
        if selection is None:
            selection = self._selections[key] = self._get_or_compile(object_type, selected)
        return selection

    def field(self, parent: GraphQLObjectType, selected: FieldDetailsList) -> Field | None:
        """Return a field of a type, or None if it needs a resolver."""
        key = (parent, id(selected))
        if key not in self._fields:
            self._fields[key] = self._compile_field(parent, selected)
        return self._fields[key]

    def _get_or_compile(self, object_type: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        if self.cache is None:
            return self._compile(object_type, selected)
        key = (object_type, tuple(id(details.node) for details in selected))
        selection = self.cache.get(key)
        if selection is None:
            selection = self._compile(object_type, selected)
            if len(self.cache) < MAX_CACHED_SELECTIONS:
                self.cache[key] = selection
        return selection

    def _compile(self, object_type: GraphQLObjectType, selected: FieldDetailsList) -> Selection:
        fields: list[Field] = []
        readers: dict[str, Reader] = {}
        has_loaded_fields = False
        width = 0
        grouped = self._collect(object_type, selected).grouped_field_set
        for response_name, details in grouped.items():
            width += 1
            field = self.field(object_type, details)
            if field is None:
                continue
            width += field.width
            fields.append(field)
            if field.read is not None:
                readers[response_name] = field.read
            if field.loaded is not None or (field.below is not None and field.below.has_loaded_fields):
                has_loaded_fields = True
        read = _make_object_reader(readers) if len(readers) == len(grouped) else None
        return Selection(tuple(fields), read, width, has_loaded_fields)

    def _compile_field(self, parent: GraphQLObjectType, selected: FieldDetailsList) -> Field | None:
        name = selected[0].node.name.value
        if name == "__typename":
            return _make_typename_field(parent)
        definition = parent.fields.get(name)
        if definition is None:  # __schema or __type, which the root of a query has besides its fields
            return None
        field = definition.extensions.get("strawberry-definition")
        if not isinstance(field, StrawberryField):
            return None
        object_type = get_named_type(definition.type)
        if not isinstance(object_type, GraphQLObjectType):
            return _compile_leaf(field, definition.type)
        get = _make_getter(field)
        if get is None:
            return None
        below = self.below(object_type, selected)
        width_below = below.width if below.read is not None else 0
        is_list = is_list_type(get_nullable_type(definition.type))
        return Field(
            name=field.python_name,
            loaded=find_loaded_field(field),
            below=below,
            get=get,
            read=make_reader(get, definition.type, below.read, width_below),
            width=0 if is_list else width_below,
        )


@lru_cache(MAX_CACHED_LEAVES)
def _compile_leaf(field: StrawberryField, type_: GraphQLOutputType) -> Field | None:
    """Return a field without fields below it. All operations share it: thousands that differ run at the same time."""
    get = _make_getter(field)
    if get is None:
        return None
    return Field(
        name=field.python_name,
        loaded=find_loaded_field(field),
        below=None,
        get=get,
        read=make_reader(get, type_, None, 0),
    )


def _make_typename_field(parent: GraphQLObjectType) -> Field:
    def get(_: Any) -> str:
        return parent.name

    return Field(name="__typename", loaded=None, below=None, get=get, read=get)


def _make_getter(field: StrawberryField) -> Reader | None:
    """Return a function that gets the field's value from an object, or None if the field needs a resolver."""
    name = field.python_name
    if find_loaded_field(field) is not None:
        return lambda source: source.__dict__[name]
    get = find_attribute_reader(field)
    if get is None and field.is_basic_field:
        get = attrgetter(name)
    return get


def _make_object_reader(readers: dict[str, Reader]) -> Reader:
    pairs = tuple(readers.items())
    return lambda source: {name: read(source) for name, read in pairs}
