"""Edges: fields whose value is read through a loader, for one object or for all objects of a page at once.

An edge says what it needs instead of fetching it: a loader, the key by which an object is looked up in it, and what
becomes of the row. So the executor can fetch for a whole page what its objects will be asked for, and an object that is
reached in another way still fetches for itself.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField

from ringback.graphql_api.context.dataloaders import Load, Loaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.attribute_field import RowObject

_KEY = "ringback.edge"


@dataclass(frozen=True, slots=True)
class LoadedField:
    """What a field needs. What was fetched is kept in the object's `__dict__`, under the field's name."""

    load: Load
    key: Callable[[Any], Hashable | None]
    make: Callable[[Any, Any], Any]

    async def fetch(self, source: Any, loaders: Loaders) -> Any:
        """The field's value for one object, together with what else is asked of the same loader meanwhile."""
        key = self.key(source)
        return self.make(source, None if key is None else await loaders[self.load].load(key))


def _itself(source: Any, found: Any) -> Any:
    return found


def loaded_field(load: Load, key: str, description: str, make: Callable[[Any, Any], Any] = _itself) -> Any:
    """Make a field of what `load` finds for an object's key.

    `key` holds a path such as "row.event_id", or several with spaces between them for a key of several parts. `make`
    returns the field's value, from the object and what was found; that is None if the key is None.
    """
    found = LoadedField(load, attrgetter(*key.split()), make)

    async def resolve(self: Any, info: Info):  # type: ignore[no-untyped-def]  # as for an attribute
        kept = vars(self)
        name = info.python_name
        return kept[name] if name in kept else await found.fetch(self, info.context.loaders)

    return strawberry.field(resolver=resolve, description=description, metadata={_KEY: found})


def node(kind: Callable[[], type[RowObject]]) -> Callable[[Any, Any], Any]:
    """Return an edge's `make` for objects of the schema: one of a row, a list of them of a list of rows.

    `kind` returns their class, which may stand further down in its module.
    """

    def make(_: Any, found: Any) -> Any:
        if isinstance(found, list):
            return [kind().of(row) for row in found]
        return None if found is None else kind().of(found)

    return make


def loaded_field_of(field: StrawberryField) -> LoadedField | None:
    """The edge that a field is, if it is one."""
    return field.metadata.get(_KEY)
