"""Description of one field of a model: its path, type and description."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A field that templates can use. `path` is its path in Liquid, with `[]` for the elements of a list."""

    path: str
    type: str
    description: str
