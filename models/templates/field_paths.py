"""The tree of names that a template may use, made from the paths of a model, and the look-up of a path in it.

A false alarm would keep a person from saving a template that is right, so wherever the tree cannot know (a field of
unknown structure, an index that is itself a path, an assigned name), everything below is allowed.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from ringback.models.templates.errors import nearest, quote
from ringback.models.templates.formatting import path_text
from ringback.models.templates.scope import EventFacts

#: What Liquid knows of every list, text and object besides its own names.
_PROPERTIES = {"first", "last", "size"}
#: One step of a declared path; a name that is no plain one stands in brackets, as JSON.
_STEP = re.compile(r'\.?(?P<name>[^.*"\[\]]+)|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]|(?P<element>\[\])|(?P<open>\.\*)')


@dataclass(slots=True, eq=False)
class FieldShape:
    """What is known of one value: its fields, or its elements, or nothing (`open`)."""

    names: "dict[str, FieldShape]" = field(default_factory=dict)
    element: "FieldShape | None" = None
    open: bool = False

    def add(self, path: str) -> None:
        """Add a declared path: `a.b`, `a["b c"]`, `a.rows[].b` for elements of a list, `a.json.*` for unknown ones."""
        shape = self
        for step in _STEP.finditer(path):
            if step["open"]:
                shape.open = True
            elif step["element"]:
                shape.element = shape = shape.element or FieldShape()
            else:
                shape = shape.names.setdefault(step["name"] or json.loads(step["quoted"]), FieldShape())


#: A value of which nothing is known.
OPEN = FieldShape(open=True)

#: What a loop knows of itself.
FORLOOP = FieldShape(
    names={name: FieldShape() for name in ("first", "index", "index0", "last", "length", "name", "rindex", "rindex0")}
    | {"parentloop": OPEN}
)


def root_of(paths: Collection[str]) -> FieldShape:
    """Return the tree of all root names: `item` with the declared paths, and `event`."""
    root = FieldShape()
    for path in ("item", "event.changed_fields[]", *(f"event.{name}" for name in EventFacts._fields), *paths):
        root.add(path)
    return root


def follow(root: FieldShape, path: list[object]) -> tuple[FieldShape, int | None]:
    """Return what a path leads to, and None; or where it certainly ends, and the place of the name not known there."""
    shape = root
    for place, segment in enumerate(path):
        if shape.open:
            return OPEN, None
        if isinstance(segment, str):
            known = shape.names.get(segment)
            if known is None and place > 0 and segment in _PROPERTIES:
                known = shape.element if segment != "size" and shape.element else OPEN
            if known is None:
                return shape, place
            shape = known
        elif isinstance(segment, int) and shape.element:
            shape = shape.element
        else:
            return OPEN, None
    return shape, None


def complaint(root: FieldShape, shape: FieldShape, path: list[object], place: int) -> str:
    """Say that a name of `path` does not exist in `shape`, and what was meant if something is near."""
    written, segment = quote(path_text(path)), str(path[place])
    near: list[object] | None = None
    if name := nearest(segment, shape.names):
        near = [*path[:place], name]
    elif place == 0 and segment in root.names["item"].names:
        near = ["item", segment]
    elif shape.element and segment in shape.element.names:
        near = [*path[:place], 0, segment]
    if near:
        return f"unknown field {written}: did you mean {quote(path_text([*near, *path[place + 1 :]]))}?"
    if place == 0:
        return f"unknown name {written}: templates know item and event"
    return f"unknown field {written}"
