"""The fields of a JSON Schema, as `models.tracking.model_fields` lists those of a tracked model.

Everything that a schema says about one value (`allOf`, alternatives, references) is merged. An object has the fields of
its `properties`, and `*` for fields of any name that it declares. If it has `*`, or declares no fields at all, it is
open: templates may use any path below it. Values where the schema repeats itself, or exceeds the limits, are open too.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ringback.models.json_schema.subschemas import Node, SubschemaGraph
from ringback.models.json_schema.value_types import DomainFinder, intersect, name_type, unite
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


@dataclass(eq=False, slots=True)
class _Schemas:
    """The schemas of a value: those that always apply to it, and alternatives, of which any may."""

    required: list[Node | bool] = field(default_factory=list)
    alternatives: list[Node | bool] = field(default_factory=list)

    def add(self, schema: Node | bool, *, is_required: bool) -> None:
        """Add a schema."""
        schemas = self.required if is_required else self.alternatives
        schemas.append(schema)


@dataclass(eq=False, slots=True)
class _Value:
    """A value within an item: the schemas and all subschemas that apply to it, and its fields and elements."""

    path: str
    type: str
    description: str
    schemas: _Schemas
    nodes: tuple[Node, ...]
    #: The subschemas of each enclosing value, by id(), to notice when the schema repeats itself.
    enclosing: tuple[frozenset[int], ...]
    is_open: bool = False
    children: "list[_Value]" = field(default_factory=list)


def list_fields(graph: SubschemaGraph) -> list[FieldInfo]:
    """Return every path that a template can use, parents before their children."""
    return _Listing(graph).list_fields()


class _Listing:
    """A list of the fields of one schema."""

    def __init__(self, graph: SubschemaGraph) -> None:
        self._graph = graph
        self._domains = DomainFinder(graph)

    def list_fields(self) -> list[FieldInfo]:
        """Return every path, parents before their children."""
        root = self._make_value("item", _Schemas(required=[self._graph.root]))
        root.type = "object"
        pending, count, characters = deque([root]), 0, 0
        while pending:
            value = pending.popleft()
            key = frozenset(id(node) for node in value.nodes)
            is_recursive = bool(key) and key in value.enclosing
            if is_recursive or count >= MAX_FIELDS or len(value.enclosing) >= MAX_LISTED_DEPTH:
                value.is_open = True
                continue
            children = list(self._make_children(value, (*value.enclosing, key)))
            characters += sum(len(child.path) + len(child.description) for child in children)
            if characters > MAX_CHARACTERS:
                value.is_open = True
                continue
            value.children = children
            value.is_open = not children and value.type == "object" and not any(map(_is_closed, value.nodes))
            count += len(children)
            pending.extend(children)
        return list(_field_infos(root, is_root=True))

    def _make_children(self, value: _Value, enclosing: tuple[frozenset[int], ...]) -> Iterator[_Value]:
        """Yield the fields of a value, its elements, and its fields of any other name."""
        required_ids = self._find_required_ids(value.schemas)
        for name, schemas in _collect_fields(value.nodes, required_ids).items():
            yield self._make_value(format_path([value.path, name]), schemas, enclosing)
        elements = self._make_value(f"{value.path}[]", _collect_elements(value.nodes, required_ids), enclosing)
        if elements.nodes:
            yield elements
        members = _collect_members(value.nodes)
        if members.alternatives:
            yield self._make_value(f"{value.path}.*", members, enclosing, default_description=ANY_FIELD.description)

    def _make_value(
        self,
        path: str,
        schemas: _Schemas,
        enclosing: tuple[frozenset[int], ...] = (),
        *,
        default_description: str = "",
    ) -> _Value:
        all_schemas = [*schemas.required, *schemas.alternatives]
        nodes = _unique(node for schema in all_schemas for node in self._graph.applied_with(schema))
        return _Value(
            path=path,
            type=self._find_type(schemas, nodes),
            description=_description(nodes) or default_description,
            schemas=schemas,
            nodes=nodes,
            enclosing=enclosing,
        )

    def _find_type(self, schemas: _Schemas, nodes: tuple[Node, ...]) -> str:
        domain = intersect(map(self._domains.find, schemas.required))
        if domain.types is None and schemas.alternatives:
            domain = intersect([domain, unite(map(self._domains.find, schemas.alternatives))])
        return name_type(domain, nodes)

    def _find_required_ids(self, schemas: _Schemas) -> set[int]:
        """Return the subschemas that always apply to a value, by id()."""
        pending = list(schemas.required)
        if not pending and len(schemas.alternatives) == 1:
            pending = list(schemas.alternatives)
        ids: set[int] = set()
        while pending:
            schema = pending.pop()
            if not isinstance(schema, bool) and id(schema) not in ids:
                ids.add(id(schema))
                pending.extend(self._graph.required_parts(schema))
        return ids


def _collect_fields(nodes: tuple[Node, ...], required_ids: set[int]) -> dict[str, _Schemas]:
    """Return the schemas of each named field."""
    fields: dict[str, _Schemas] = {}
    for node in nodes:
        for name, schema in node.get("properties", {}).items():
            if schema is not False:
                fields.setdefault(name, _Schemas()).add(schema, is_required=id(node) in required_ids)
    return fields


def _collect_elements(nodes: tuple[Node, ...], required_ids: set[int]) -> _Schemas:
    """Return the schemas of all elements. Those of certain indexes are alternatives."""
    elements = _Schemas()
    for node in nodes:
        elements.alternatives += node.get("prefixItems", ())
        if node.get("items", False) is not False:
            elements.add(node["items"], is_required=id(node) in required_ids and "prefixItems" not in node)
    return elements


def _collect_members(nodes: tuple[Node, ...]) -> _Schemas:
    """Return the schemas of the fields that are declared without their names. Any of them may apply."""
    members = _Schemas()
    for node in nodes:
        members.alternatives += node.get("patternProperties", {}).values()
        for keyword in ("additionalProperties", "unevaluatedProperties"):
            if node.get(keyword, False) is not False:
                members.alternatives.append(node[keyword])
    return members


def _unique(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple({id(node): node for node in nodes}.values())


def _is_closed(node: Node) -> bool:
    return node.get("additionalProperties") is False or node.get("unevaluatedProperties") is False


def _field_infos(value: _Value, *, is_root: bool = False) -> Iterator[FieldInfo]:
    # An element that is an object is listed by its fields only, as the children of a tracked model are.
    is_listed = not is_root and not (value.path.endswith("[]") and value.type == "object")
    if is_listed:
        yield FieldInfo(value.path, value.type, value.description)
    for child in value.children:
        yield from _field_infos(child)
    if value.is_open and value.type != "json":
        yield FieldInfo(f"{value.path}.*", ANY_FIELD.type, ANY_FIELD.description)


def _description(nodes: tuple[Node, ...]) -> str:
    for keyword in ("description", "title"):
        for node in nodes:
            if node.get(keyword):
                return str(node[keyword])[:_MAX_DESCRIPTION_CHARS]
    return ""
