"""Description of one field of a model: its path, type and description."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A field that templates can use. `path` is its path in Liquid, with `[]` for the elements of a list."""

    path: str
    type: str
    description: str


def types_by_path(fields: Iterable[FieldInfo]) -> dict[str, str]:
    """Return the types of fields by their paths."""
    return {field.path: field.type for field in fields}
