"""What is known of one field of a model: its path, type and description."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A field that a template may use; `path` as written in Liquid, list elements marked with `[]`."""

    path: str
    type: str
    description: str
