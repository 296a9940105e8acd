"""Edges: fields whose value is read through a loader, for one object or for all objects of a page at once.

An edge says what it needs instead of fetching it: a loader, the key by which an object is looked up in it, and what
becomes of the row. So the executor can fetch for a whole page what its objects will be asked for, and an object that is
reached in another way still fetches for itself.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import strawberry
from strawberry.dataloader import DataLoader
from strawberry.types.field import StrawberryField

from ringback.graphql_api.context import Info
from ringback.graphql_api.loaders import Loaders

T = TypeVar("T")

_KEY = "ringback.edge"


@dataclass(frozen=True, slots=True)
class Edge:
    """What a field needs. What was fetched is kept in the object's `__dict__`, under the field's name."""

    name: str
    loader: Callable[[Loaders], DataLoader[Any, Any]]
    key: Callable[[Any], Hashable | None]
    make: Callable[[Any, Any], Any]

    async def fetch(self, source: Any, loaders: Loaders) -> Any:
        """The field's value for one object, together with what else is asked of the same loader meanwhile."""
        key = self.key(source)
        return self.make(source, None if key is None else await self.loader(loaders).load(key))


def edge(
    loader: Callable[[Loaders], DataLoader[Any, Any]], *, key: Callable[[Any], Hashable | None], description: str
) -> Callable[[Callable[[Any, Any], T]], T]:
    """Make a field of a method that turns what `loader` has for the object's `key` into the field's value.

    The method is given None where the key is None.
    """

    def field(make: Callable[[Any, Any], Any]) -> Any:
        found = Edge(make.__name__, loader, key, make)

        async def resolve(self: Any, info: Info) -> Any:
            kept = vars(self)
            return kept[found.name] if found.name in kept else await found.fetch(self, info.context.loaders)

        resolve.__name__, resolve.__qualname__, resolve.__module__ = make.__name__, make.__qualname__, make.__module__
        resolve.__annotations__ = {"self": Any, "info": Info, "return": make.__annotations__["return"]}
        return strawberry.field(resolve, description=description, metadata={_KEY: found})

    return field


def edge_of(field: StrawberryField) -> Edge | None:
    """The edge that a field is, if it is one."""
    return field.metadata.get(_KEY)
