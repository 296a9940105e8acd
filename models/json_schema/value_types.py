"""The type of a value, from all that a JSON Schema says about it.

What always applies (`allOf`, references) narrows the type, and alternatives (`anyOf`, `oneOf`) widen it. Other
conditions (`if`, `not`, `dependentSchemas`) say nothing.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ringback.models.json_schema.findings import JSON_TYPES
from ringback.models.json_schema.subschemas import Node, SubschemaGraph
from ringback.models.templates.decimal_fields import DECIMAL_OR_STRING

#: Ringback's names of JSON types, where they differ.
_NAMES = {"array": "list"}
#: Types of strings with these formats.
_FORMATS = {"date-time": "datetime", "date": "date", "time": "time", "uuid": "id", "decimal": "decimal"}
#: Keywords that imply the type of a value without `type`.
_TYPE_HINTS = {
    "object": ("properties", "patternProperties", "additionalProperties", "required"),
    "array": ("items", "prefixItems"),
}
_NUMBERS = frozenset({"integer", "number"})
#: The formats of strings about which a schema says nothing.
_ANY_FORMAT = frozenset({""})


class Domain(NamedTuple):
    """The values that a schema allows.

    `types` are their JSON types, with `integer` besides `number`, or None if they are unknown. `string_formats` are
    the formats that its strings may have; "" is text of any kind.
    """

    types: frozenset[str] | None
    string_formats: frozenset[str] = _ANY_FORMAT


class DomainFinder:
    """The domains of a schema's subschemas, each found once."""

    def __init__(self, graph: SubschemaGraph) -> None:
        self._graph = graph
        #: By id().
        self._domains: dict[int, Domain] = {}

    def find(self, schema: Node | bool) -> Domain:
        """Return the values that a subschema allows."""
        if isinstance(schema, bool):
            return Domain(None if schema else frozenset())
        domain = self._domains.get(id(schema))
        if domain is None:
            domain = self._domains[id(schema)] = self._find(schema)
        return domain

    def _find(self, node: Node) -> Domain:
        parts = [_declared_domain(node)]
        parts += [self.find(part) for part in self._graph.required_parts(node)]
        for keyword in ("anyOf", "oneOf"):
            if keyword in node:
                parts.append(unite([self.find(alternative) for alternative in node[keyword]]))
        return intersect(parts)


def intersect(domains: Iterable[Domain]) -> Domain:
    """Return the values that are in all domains."""
    types: frozenset[str] | None = None
    formats = _ANY_FORMAT
    for domain in domains:
        if domain.types is not None:
            types = domain.types if types is None else types & domain.types
        if "" in formats and domain.string_formats != _ANY_FORMAT:
            formats = domain.string_formats
    return Domain(types, formats)


def unite(domains: Iterable[Domain]) -> Domain:
    """Return the values that are in any of the domains."""
    types: frozenset[str] = frozenset()
    is_known = True
    formats: frozenset[str] = frozenset()
    for domain in domains:
        if domain.types is None:
            is_known = False
        else:
            types |= domain.types
        if domain.types is None or "string" in domain.types:
            formats |= domain.string_formats
    return Domain(types if is_known else None, formats or _ANY_FORMAT)


def name_type(domain: Domain, nodes: Iterable[Node]) -> str:
    """Return Ringback's type of a value, or "json" if it may have several. `nodes` are the subschemas for it."""
    types = _implied_types(nodes) if domain.types is None else domain.types
    types -= {"null"}
    if types and types <= _NUMBERS:
        return "float" if "number" in types else "integer"
    formats = domain.string_formats
    if "decimal" in formats and "string" in types and types <= _NUMBERS | {"string"}:
        return "decimal" if len(formats) == 1 else DECIMAL_OR_STRING
    if len(types) != 1:
        return "json"
    (name,) = types
    if name == "string":
        return _FORMATS[min(formats)] if len(formats) == 1 and "" not in formats else name
    return _NAMES.get(name, name)


def _declared_domain(node: Node) -> Domain:
    """Return the values that `type`, `enum`, `const` and `format` allow."""
    domain = Domain(None, frozenset({_known_format(node)}))
    return intersect([domain, *(Domain(_with_integers(types)) for types in _declared_types(node))])


def _declared_types(node: Node) -> Iterator[set[str]]:
    """Yield the JSON types of `type`, those of `enum` and that of `const`, as far as they are there."""
    declared = node.get("type")
    if declared is not None:
        yield {declared} if isinstance(declared, str) else set(declared)
    if "enum" in node:
        yield {_type_of(value) for value in node["enum"]}
    if "const" in node:
        yield {_type_of(node["const"])}


def _type_of(value: object) -> str:
    return JSON_TYPES.get(type(value), "integer")


def _with_integers(types: set[str]) -> frozenset[str]:
    return frozenset(types | _NUMBERS) if "number" in types else frozenset(types)


def _known_format(node: Node) -> str:
    string_format = str(node.get("format", ""))
    return string_format if string_format in _FORMATS else ""


def _implied_types(nodes: Iterable[Node]) -> frozenset[str]:
    keywords: set[str] = set().union(*nodes)
    return frozenset(kind for kind, hints in _TYPE_HINTS.items() if not keywords.isdisjoint(hints))
