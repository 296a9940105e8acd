"""The tree of names that a template may use, built from a model's field paths, and path look-up in it.

A false alarm would keep a user from saving a correct template. So everything is allowed below a point that the tree
cannot resolve: a field of unknown structure, an index that is itself a path, or an assigned name.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ringback.models.templates.errors import find_nearest, quote
from ringback.models.templates.formatting import format_path
from ringback.models.templates.scope import EventFacts

#: Properties that Liquid adds to every list, string and object.
_PROPERTIES = {"first", "last", "size"}
#: One step of a declared path. A name that is not an identifier is written as JSON in brackets.
_STEP = re.compile(r'\.?(?P<name>[^.*"\[\]]+)|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]|(?P<element>\[\])|(?P<open>\.\*)')


@dataclass(slots=True, eq=False)
class FieldShape:
    """The known structure of one value: its fields and its elements. `is_open` allows any other field.

    `other` is the structure of these other fields, None where it is unknown. `type` is the type that `FieldInfo` names,
    empty where it is unknown.
    """

    names: "dict[str, FieldShape]" = field(default_factory=dict)
    element: "FieldShape | None" = None
    other: "FieldShape | None" = None
    is_open: bool = False
    type: str = ""

    def add(self, path: str) -> "FieldShape":
        """Add a declared path, and return the structure of its value.

        Examples: `a.b`, `a["b c"]`, `a.rows[].b` for the elements of a list, `a.json.*` for fields of any name.
        """
        shape = self
        for step in _STEP.finditer(path):
            if step["open"]:
                shape.is_open = True
                shape.other = shape = shape.other or FieldShape()
            elif step["element"]:
                shape.element = shape = shape.element or FieldShape()
            else:
                name = step["name"] or json.loads(step["quoted"])
                shape = shape.names.setdefault(name, FieldShape())
        return shape


class PathLookup(NamedTuple):
    """The result of looking up a path.

    `shape` is the structure of the last known value. `unknown_at` is the index in the path of the first name that does
    not exist, or None if the path is valid.
    """

    shape: FieldShape
    unknown_at: int | None = None


#: A value of unknown structure.
OPEN = FieldShape(is_open=True)

NO_TYPES: Mapping[str, str] = {}
#: The types of the fields of `event`.
_EVENT_TYPES = {f"event.{name}": "string" for name in ("id", "model", "action", "created_at")} | {
    "event.changed_fields": "list",
    "event.changed_fields[]": "string",
}
_FORLOOP_TYPES = dict.fromkeys(("index", "index0", "length", "rindex", "rindex0"), "integer") | {
    "first": "boolean",
    "last": "boolean",
    "name": "string",
}
#: The variable `forloop` inside a loop.
FORLOOP = FieldShape(
    names={name: FieldShape(type=type_name) for name, type_name in _FORLOOP_TYPES.items()} | {"parentloop": OPEN}
)
#: The number of elements or characters.
_SIZE = FieldShape(is_open=True, type="integer")
#: Types of values that may be objects, whose `size` may be a field. The type of objects in lists is unknown.
_OBJECT_TYPES = {"", "json", "object"}


def build_root(paths: Collection[str], types: Mapping[str, str] = NO_TYPES) -> FieldShape:
    """Return the tree of all root names: `item` with the declared paths, and `event`.

    `types` are the types of fields, by their paths.
    """
    event_paths = [f"event.{name}" for name in EventFacts._fields]
    root = FieldShape()
    for path in ("item", "event.changed_fields[]", *event_paths, *paths):
        root.add(path)
    add_types(root, _EVENT_TYPES)
    add_types(root, types)
    return root


def add_types(root: FieldShape, types: Mapping[str, str]) -> None:
    """Add fields with their types to a tree."""
    for path, name in types.items():
        root.add(path).type = name


def look_up(root: FieldShape, path: list[object]) -> PathLookup:
    """Look up a path, given as names and indexes."""
    shape = root
    for index, segment in enumerate(path):
        if shape.is_open:
            return PathLookup(OPEN)
        if isinstance(segment, str):
            child = shape.names.get(segment)
            if child is None and index > 0 and segment in _PROPERTIES:
                child = _property_of(shape, segment)
            if child is None:
                return PathLookup(shape, unknown_at=index)
            shape = child
        elif isinstance(segment, int) and shape.element:
            shape = shape.element
        else:
            return PathLookup(OPEN)
    return PathLookup(shape)


def describe_unknown_field(root: FieldShape, shape: FieldShape, path: list[object], index: int) -> str:
    """Return the message that the name at `index` of `path` does not exist in `shape`, with the nearest valid path."""
    written, name = quote(format_path(path)), str(path[index])
    suggestion = _suggest(root, shape, path[:index], name)
    if suggestion is not None:
        return f"Unknown field {written}. Did you mean {quote(format_path([*suggestion, *path[index + 1 :]]))}?"
    if index == 0:
        return f"Unknown name {written}. Templates can use item and event"
    return f"Unknown field {written}"


def _property_of(shape: FieldShape, name: str) -> FieldShape:
    if name == "size":
        return OPEN if shape.type in _OBJECT_TYPES else _SIZE
    return shape.element or OPEN


def _suggest(root: FieldShape, shape: FieldShape, parent: list[object], name: str) -> list[object] | None:
    """Return the path that was probably meant by `name` below `parent`, or None."""
    nearest_name = find_nearest(name, shape.names)
    if nearest_name is not None:
        return [*parent, nearest_name]
    if not parent and name in root.names["item"].names:
        return ["item", name]
    if shape.element and name in shape.element.names:
        return [*parent, 0, name]
    return None
