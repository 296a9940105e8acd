"""The fields of a JSON Schema, as `models.tracking.snapshot` tells those of a tracked model.

What is said in several places of one value (`allOf`, alternatives, references) is merged. An object has the fields that
its `properties` name, unless it says that there are more, or names none at all: then it is open, and any path below it
may be right. Where a schema repeats itself, or grows too large, the rest is open too.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ringback.models.json_schema.findings import JSON_TYPES
from ringback.models.json_schema.subschemas import Node, SubschemaGraph
from ringback.models.templates.field_info import FieldInfo
from ringback.models.templates.formatting import path_text

#: Fields that are told apart, and how deep; below, everything is open.
MAX_FIELDS = 2_000
MAX_DEPTH = 10
_MAX_DESCRIPTION = 500

#: JSON types that fields have by another name.
_TYPES = {"number": "float", "array": "list"}
_FORMATS = {"date-time": "datetime", "date": "date", "time": "time", "uuid": "id", "decimal": "decimal"}


@dataclass(eq=False, slots=True)
class _Place:
    """A value within an item: what applies to it, and what it holds."""

    path: str
    nodes: tuple[Node, ...]
    #: What applies to the values around it, to see when the schema repeats itself.
    above: tuple[frozenset[int], ...] = ()
    is_element: bool = False
    is_open: bool = False
    parts: "list[_Place]" = field(default_factory=list)


def fields_of(graph: SubschemaGraph) -> list[FieldInfo]:
    """Every path that a template may use, parents before their parts."""
    root = _Place("item", graph.together(graph.root))
    waiting, count = deque([root]), 0
    while waiting:
        place = waiting.popleft()
        key = frozenset(id(node) for node in place.nodes)
        if count >= MAX_FIELDS or len(place.above) >= MAX_DEPTH or (key and key in place.above):
            place.is_open = True
            continue
        _expand(graph, place, key)
        count += len(place.parts)
        waiting.extend(place.parts)
    return list(_told(root, is_root=True))


def _expand(graph: SubschemaGraph, place: _Place, key: frozenset[int]) -> None:
    above = (*place.above, key)
    named: dict[str, list[Node]] = {}
    for node in place.nodes:
        for name, child in node.get("properties", {}).items():
            if child is not False:
                named.setdefault(name, []).extend(graph.together(child))
    place.parts = [_Place(path_text([place.path, name]), _once(nodes), above) for name, nodes in named.items()]
    elements = [node for one in place.nodes for child in _elements(one) for node in graph.together(child)]
    if elements:
        place.parts.append(_Place(f"{place.path}[]", _once(elements), above, is_element=True))
    place.is_open = _says_more(place.nodes) or (
        not named and _type(place.nodes) == "object" and not any(_is_closed(node) for node in place.nodes)
    )


def _elements(node: Node) -> Iterator[Node | bool]:
    yield from node.get("prefixItems", ())
    if "items" in node:
        yield node["items"]


def _once(nodes: list[Node]) -> tuple[Node, ...]:
    return tuple({id(node): node for node in nodes}.values())


def _says_more(nodes: tuple[Node, ...]) -> bool:
    """Whether a subschema says that there are fields besides those it names."""
    more = ("additionalProperties", "unevaluatedProperties")
    return any(
        node.get("patternProperties") or any(node.get(one, False) is not False for one in more) for node in nodes
    )


def _is_closed(node: Node) -> bool:
    return node.get("additionalProperties") is False or node.get("unevaluatedProperties") is False


def _told(place: _Place, *, is_root: bool = False) -> Iterator[FieldInfo]:
    kind = "object" if is_root else _type(place.nodes)
    # Elements that are objects are told by their fields, as the children of a tracked model are.
    if not is_root and not (place.is_element and kind == "object"):
        yield FieldInfo(place.path, kind, _about(place.nodes))
    for part in place.parts:
        yield from _told(part)
    if place.is_open and kind != "json":
        yield FieldInfo(f"{place.path}.*", "json", "Whatever else it holds.")


def _type(nodes: tuple[Node, ...]) -> str:
    types: set[str] = set()
    for node in nodes:
        said = node.get("type", ())
        types.update([said] if isinstance(said, str) else said)
        values = [*node.get("enum", ()), *([node["const"]] if "const" in node else [])]
        types.update(JSON_TYPES.get(type(value), "integer") for value in values)
    if not types:
        types = {kind for kind, keywords in _HINTS.items() if any(one in node for node in nodes for one in keywords)}
    types.discard("null")
    if types == {"integer", "number"}:
        types = {"number"}
    if len(types) != 1:
        return "json"
    (kind,) = types
    if kind == "string":
        return next((_FORMATS[f] for node in nodes if (f := node.get("format")) in _FORMATS), "string")
    return _TYPES.get(kind, kind)


#: What tells a type that is not said.
_HINTS = {
    "object": ("properties", "patternProperties", "additionalProperties", "required"),
    "array": ("items", "prefixItems"),
}


def _about(nodes: tuple[Node, ...]) -> str:
    for keyword in ("description", "title"):
        for node in nodes:
            if node.get(keyword):
                return str(node[keyword])[:_MAX_DESCRIPTION]
    return ""
