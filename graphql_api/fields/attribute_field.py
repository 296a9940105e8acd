"""Attribute fields: read from an object by a plain function, without a resolver.

A GraphQL object holds its database row. Nothing is converted before it is selected, and the executor reads these fields
without Strawberry (graphql_api.execution.selections).
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Self, TypeVar, cast

import strawberry
from strawberry.types.field import StrawberryField

from ringback.models.ids import Prefix, encode

T = TypeVar("T")

_METADATA_KEY = "ringback.attribute"


@dataclass(kw_only=True)
class RowObject:
    """A GraphQL object whose fields are read from its row."""

    row: strawberry.Private[Any]

    @classmethod
    def of(cls, row: Any) -> Self:
        """Return the object of a row."""
        return cls(row=row)


def row_paths(row_type: type[T]) -> T:
    """Return a stand-in for an object's row, whose attributes are given to `attribute`.

    At run time it records the path of the attributes; mypy sees a row, and so finds wrong names and types.
    """
    return cast(T, _Path("row"))


def attribute(path: T, description: str) -> T:
    """Make a field that is read from the object's row: `attribute(EVENT.status, "…")`."""
    return cast(T, _make_field(path_reader(path), description))


def json_attribute(path: object, description: str) -> Any:
    """Make a field that is read from a JSON column; the field's own type says what the column holds."""
    return _make_field(path_reader(path), description)


def computed_field(read: Callable[[Any], T], description: str) -> T:
    """Make a field that a function computes from the object."""
    return cast(T, _make_field(read, description))


def id_attribute(prefix: Prefix, description: str) -> strawberry.ID:
    """Make the field `id` of an object whose row has a UUID as its key."""

    def read_id(source: RowObject) -> str:
        return encode(prefix, source.row.id)

    return cast(strawberry.ID, computed_field(read_id, description))


def path_reader(path: object) -> Callable[[Any], Any]:
    """Return the function that reads a path of `row_paths`, or a tuple of such paths, from an object."""
    if isinstance(path, tuple):
        return attrgetter(*map(str, path))
    return attrgetter(str(path))


def find_attribute_reader(field: StrawberryField) -> Callable[[Any], Any] | None:
    """Return the function that reads an attribute field; None for any other field."""
    return field.metadata.get(_METADATA_KEY)


def _make_field(read: Callable[[Any], Any], description: str) -> Any:
    def resolve(root):  # type: ignore[no-untyped-def]  # the class that has the field annotates its type
        return read(root)

    return strawberry.field(resolver=resolve, description=description, metadata={_METADATA_KEY: read})


class _Path:
    """A path of attributes: `_Path("row").entry.at` is written "row.entry.at"."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> "_Path":
        return _Path(f"{self._path}.{name}")

    def __str__(self) -> str:
        return self._path
