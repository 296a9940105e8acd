"""The fields of a JSON Schema, as `models.tracking.model_fields` lists those of a tracked model.

Everything that a schema says about one value (`allOf`, alternatives, references) is merged. An object has the fields of
its `properties`. If it declares further fields, or names none at all, it is open: templates may use any path below it.
Values where the schema repeats itself, or exceeds the limits, are open too.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ringback.models.json_schema.findings import JSON_TYPES
from ringback.models.json_schema.subschemas import Node, SubschemaGraph
from ringback.models.templates.field_info import FieldInfo
from ringback.models.templates.formatting import format_path

#: Fields and elements after which no further value is expanded. Such a value is open: it allows any path.
MAX_FIELDS = 2_000
#: Characters of paths and descriptions after which no further value is expanded.
MAX_CHARACTERS = 200_000
#: Depth to which values are expanded.
MAX_LISTED_DEPTH = 10
_MAX_DESCRIPTION_CHARS = 500
#: A field of an object that is open.
ANY_FIELD = FieldInfo("item.*", "json", "Any other field.")

#: Ringback's names of JSON types, where they differ.
_TYPES = {"number": "float", "array": "list"}
#: Types of strings with these formats.
_FORMATS = {"date-time": "datetime", "date": "date", "time": "time", "uuid": "id", "decimal": "decimal"}
#: Keywords that imply the type of a value without `type`.
_TYPE_HINTS = {
    "object": ("properties", "patternProperties", "additionalProperties", "required"),
    "array": ("items", "prefixItems"),
}


@dataclass(eq=False, slots=True)
class _Value:
    """A value within an item: the subschemas that apply to it, and its fields and elements."""

    path: str
    nodes: tuple[Node, ...]
    #: The subschemas of each enclosing value, by id(), to notice when the schema repeats itself.
    enclosing: tuple[frozenset[int], ...] = ()
    is_element: bool = False
    is_open: bool = False
    children: "list[_Value]" = field(default_factory=list)


def list_fields(graph: SubschemaGraph) -> list[FieldInfo]:
    """Return every path that a template can use, parents before their children."""
    root = _Value("item", graph.applied_with(graph.root))
    pending, count, characters = deque([root]), 0, 0
    while pending:
        value = pending.popleft()
        key = frozenset(id(node) for node in value.nodes)
        is_recursive = bool(key) and key in value.enclosing
        if is_recursive or count >= MAX_FIELDS or len(value.enclosing) >= MAX_LISTED_DEPTH:
            value.is_open = True
            continue
        fields = _collect_fields(graph, value.nodes)
        characters += sum(
            len(value.path) + len(name) + len(_description(tuple(nodes))) for name, nodes in fields.items()
        )
        if characters > MAX_CHARACTERS:
            value.is_open = True
            continue
        _expand(graph, value, key, fields)
        count += len(value.children)
        pending.extend(value.children)
    return list(_field_infos(root, is_root=True))


def _expand(graph: SubschemaGraph, value: _Value, key: frozenset[int], fields: dict[str, list[Node]]) -> None:
    """Set the children of a value, and whether it is open."""
    enclosing = (*value.enclosing, key)
    for name, nodes in fields.items():
        value.children.append(_Value(format_path([value.path, name]), _unique(nodes), enclosing))
    elements = _collect_elements(graph, value.nodes)
    if elements:
        value.children.append(_Value(f"{value.path}[]", _unique(elements), enclosing, is_element=True))
    has_unknown_fields = not fields and _type(value.nodes) == "object" and not any(map(_is_closed, value.nodes))
    value.is_open = has_unknown_fields or any(map(_allows_more_fields, value.nodes))


def _collect_fields(graph: SubschemaGraph, nodes: tuple[Node, ...]) -> dict[str, list[Node]]:
    """Return the subschemas of each field."""
    fields: dict[str, list[Node]] = {}
    for node in nodes:
        for name, child in node.get("properties", {}).items():
            if child is not False:
                fields.setdefault(name, []).extend(graph.applied_with(child))
    return fields


def _collect_elements(graph: SubschemaGraph, nodes: tuple[Node, ...]) -> list[Node]:
    """Return the subschemas of all elements."""
    elements: list[Node] = []
    for node in nodes:
        for child in node.get("prefixItems", ()):
            elements += graph.applied_with(child)
        if "items" in node:
            elements += graph.applied_with(node["items"])
    return elements


def _unique(nodes: list[Node]) -> tuple[Node, ...]:
    return tuple({id(node): node for node in nodes}.values())


def _allows_more_fields(node: Node) -> bool:
    """Return whether a subschema declares fields besides those that it names."""
    if node.get("patternProperties"):
        return True
    return any(node.get(keyword, False) is not False for keyword in ("additionalProperties", "unevaluatedProperties"))


def _is_closed(node: Node) -> bool:
    return node.get("additionalProperties") is False or node.get("unevaluatedProperties") is False


def _field_infos(value: _Value, *, is_root: bool = False) -> Iterator[FieldInfo]:
    kind = "object" if is_root else _type(value.nodes)
    # An element that is an object is listed by its fields only, as the children of a tracked model are.
    if not is_root and not (value.is_element and kind == "object"):
        yield FieldInfo(value.path, kind, _description(value.nodes))
    for child in value.children:
        yield from _field_infos(child)
    if value.is_open and kind != "json":
        yield FieldInfo(f"{value.path}.*", ANY_FIELD.type, ANY_FIELD.description)


def _type(nodes: tuple[Node, ...]) -> str:
    """Return Ringback's type of a value, or "json" if the schema allows several."""
    types = _declared_types(nodes) or _implied_types(nodes)
    types.discard("null")
    if types == {"integer", "number"}:
        return "float"
    if len(types) != 1:
        return "json"
    (kind,) = types
    if kind == "string":
        return _string_type(nodes)
    return _TYPES.get(kind, kind)


def _declared_types(nodes: tuple[Node, ...]) -> set[str]:
    """Return the JSON types of `type`, `enum` and `const`."""
    types: set[str] = set()
    for node in nodes:
        declared = node.get("type", ())
        if isinstance(declared, str):
            types.add(declared)
        else:
            types.update(declared)
        values = list(node.get("enum", ()))
        if "const" in node:
            values.append(node["const"])
        types.update(JSON_TYPES.get(type(value), "integer") for value in values)
    return types


def _implied_types(nodes: tuple[Node, ...]) -> set[str]:
    keywords: set[str] = set().union(*nodes)
    return {kind for kind, hints in _TYPE_HINTS.items() if not keywords.isdisjoint(hints)}


def _string_type(nodes: tuple[Node, ...]) -> str:
    for node in nodes:
        if node.get("format") in _FORMATS:
            return _FORMATS[node["format"]]
    return "string"


def _description(nodes: tuple[Node, ...]) -> str:
    for keyword in ("description", "title"):
        for node in nodes:
            if node.get(keyword):
                return str(node[keyword])[:_MAX_DESCRIPTION_CHARS]
    return ""
