"""Loaded fields: read through a DataLoader, for one object or for all objects of a page at once.

A loaded field names its loader and the key to load, and fetches nothing itself. The executor can therefore load the
field for a whole page in one statement. A single object still loads its own value.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import strawberry
from strawberry.types.field import StrawberryField

from ringback.graphql_api.context.dataloaders import Load, Loaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.attribute_field import path_reader

Key = TypeVar("Key")
Row = TypeVar("Row")
Value = TypeVar("Value")
Node = TypeVar("Node")

_METADATA_KEY = "ringback.loaded_field"


@dataclass(frozen=True, slots=True)
class LoadedField:
    """The parts of a loaded field: the loader, the key of an object, and the value made of the object and the result.

    The executor stores a value that it has loaded in the object's `__dict__`, under the field's name.
    """

    load: Load
    key: Callable[[Any], Hashable | None]
    make: Callable[[Any, Any], Any]

    async def fetch(self, source: Any, loaders: Loaders) -> Any:
        """Load the field for one object, batched with the other keys that the loader is asked for meanwhile."""
        key = self.key(source)
        if key is None:
            return self.make(source, None)
        return self.make(source, await loaders[self.load].load(key))


def loaded_field(
    load: Callable[[list[Key]], Awaitable[Sequence[Row]]],
    key: Key | None,
    description: str,
    make: Callable[[Any, Row], Value],
) -> Value:
    """Make a field whose value `make` returns, given the object and the result of `load`.

    `key` is a path of `row_paths`, or a tuple of such paths. If an object has no key, the result is None.
    """
    loaded = LoadedField(load=load, key=path_reader(key), make=make)

    async def resolve(self: Any, info: Info):  # type: ignore[no-untyped-def]  # as in attribute_field
        values, name = vars(self), info.python_name
        if name in values:
            return values[name]
        return await loaded.fetch(self, info.context.loaders)

    return cast(Value, strawberry.field(resolver=resolve, description=description, metadata={_METADATA_KEY: loaded}))


def node_field(
    load: Callable[[list[Key]], Awaitable[Sequence[Row | None]]],
    key: Key | None,
    description: str,
    node: Callable[[Row], Node],
) -> Node | None:
    """Make a field for the object of the row that `load` finds. Null if there is none."""

    def make(_: Any, row: Row | None) -> Node | None:
        return None if row is None else node(row)

    return loaded_field(load, key, description, make)


def node_list_field(
    load: Callable[[list[Key]], Awaitable[Sequence[list[Row]]]],
    key: Key,
    description: str,
    node: Callable[[Row], Node],
) -> list[Node]:
    """Make a field for the objects of the rows that `load` finds."""

    def make(_: Any, rows: list[Row]) -> list[Node]:
        return [node(row) for row in rows]

    return loaded_field(load, key, description, make)


def find_loaded_field(field: StrawberryField) -> LoadedField | None:
    """Return how a loaded field is loaded; None for any other field."""
    return field.metadata.get(_METADATA_KEY)
