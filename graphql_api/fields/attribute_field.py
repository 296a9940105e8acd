"""Attributes: fields that are read off an object by a function, without a resolver's ceremony.

So an object of the schema is its row and nothing else: nothing is converted that nobody selected, and the executor may
read a field without asking Strawberry for it (graphql_api.execution.selections).
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Self

import strawberry
from strawberry.types.field import StrawberryField

from ringback.models.ids import encode

_KEY = "ringback.attribute"


@dataclass(kw_only=True)
class RowObject:
    """An object of the schema that is read off a row."""

    row: strawberry.Private[Any]

    @classmethod
    def of(cls, row: Any) -> Self:
        """Return the object of a row."""
        return cls(row=row)


def attribute(read: str | Callable[[Any], Any], description: str) -> Any:
    """A field that `read` takes from an object: a function, or a path such as "row.name"."""
    get: Callable[[Any], Any] = attrgetter(read) if isinstance(read, str) else read

    def resolve(root):  # type: ignore[no-untyped-def]  # what it returns is annotated where the field stands
        return get(root)

    return strawberry.field(resolver=resolve, description=description, metadata={_KEY: get})


def id_attribute(prefix: str, description: str) -> Any:
    """The field `id` of an object whose row has a key."""
    return attribute(lambda node: encode(prefix, node.row.id), description)


def attribute_of(field: StrawberryField) -> Callable[[Any], Any] | None:
    """What reads a field, if it is an attribute."""
    return field.metadata.get(_KEY)
