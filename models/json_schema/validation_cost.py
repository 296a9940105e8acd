"""Worst-case cost of a check, in visits: a visit is the time to compare one value with one keyword, about 50 ns.

If several subschemas apply to a value, and each leads to several for the value's fields, the visits multiply with each
level: a recursive schema of ten lines can require 2^64 of them. A long `enum`, or a pattern and a long text, cost as
much as many visits. jsonschema-rs holds Python's global lock for a whole check, so `JsonSchema.check` refuses an item
that would take too long: `CheckCost.estimate` is quick and enough for most items, `CheckCost.count` follows the item
through the schema.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ringback.models.json_schema.findings import Finding
from ringback.models.json_schema.json_values import count_values, measure_copy
from ringback.models.json_schema.subschemas import CHILD_KEYWORDS, Node, SchemaFault, SubschemaGraph

#: The ids, by id(), of subschemas that apply to the same value.
_Ids: TypeAlias = tuple[int, ...]

#: Depth of nested JSON that the API accepts.
MAX_JSON_DEPTH = 64
#: Visits for a byte beyond which counting stops: no item may cost as many.
_MAX_VISITS_PER_BYTE = 1e8
#: Edges of the graph that one schema may have, from a subschema to those for a field or an element of its value.
MAX_EDGES = 30_000

#: Visits for an entry of these keywords.
_VISITS_PER_ENTRY = {
    "required": 0.25,
    "dependentRequired": 1.0,
    "dependentSchemas": 1.0,
    "allOf": 0.25,
    "anyOf": 0.25,
    "oneOf": 0.25,
}
#: Visits for a scalar in `enum` or `const`, and for each value inside a list or object there.
_VISITS_PER_SCALAR, _VISITS_PER_NESTED_VALUE = 0.25, 3.0
#: Visits for `multipleOf` with a fraction, which is computed exactly, and with a very small one.
_VISITS_PER_FRACTION, _VISITS_PER_SMALL_FRACTION, _SMALL_FRACTION = 100.0, 1_000.0, 1e-9
#: Visits for each value inside a list with `uniqueItems`.
_VISITS_PER_UNIQUE_VALUE = 8.0
#: Visits for a character of a text with these formats, and with all others.
_VISITS_PER_FORMAT_CHARACTER = {"idn-hostname": 8.0, "idn-email": 8.0}
_VISITS_PER_OTHER_FORMAT_CHARACTER = 0.25
#: Bytes of a compiled pattern that a match visits in the time of one visit.
_PATTERN_BYTES_PER_VISIT = 100
#: Errors that one visit can find: one for each name of `required`.
_ERRORS_PER_VISIT = 4
#: Memory of listed errors that counts as one visit, in bytes.
_BYTES_PER_LISTED_VISIT = 6_500


@dataclass(slots=True)
class _Cost:
    """Visits for a value: once, for each of its characters, and for each value inside it.

    The characters of an object are those of its names.
    """

    fixed: float = 0.0
    per_character: float = 0.0
    per_nested_value: float = 0.0

    @property
    def per_byte(self) -> float:
        """Visits for a byte of JSON. A value, or a character, takes at least two bytes or one."""
        return self.fixed / 2 + self.per_character

    def add(self, other: "_Cost", times: int) -> None:
        """Add `times` times another cost."""
        self.fixed += times * other.fixed
        self.per_character += times * other.per_character
        self.per_nested_value += times * other.per_nested_value


class CheckCost:
    """The cost of checks against one schema. Raises SchemaFault for a schema with more than MAX_EDGES edges."""

    def __init__(self, graph: SubschemaGraph, pattern_sizes: Mapping[str, int]) -> None:
        self._by_id = {id(node): node for node in graph.nodes}
        self._root = id(graph.root)
        self._parents = {id(node): _find_parents(graph, node) for node in graph.nodes}
        self._costs = _sum_costs(graph, pattern_sizes)
        self._per_byte_by_depth = self._count_per_byte()
        self._unique_per_byte = max(cost.per_nested_value for cost in self._costs.values()) / 2

    def estimate(self, size: int, depth: int = MAX_JSON_DEPTH) -> float:
        """Return an upper limit of the visits for an item of `size` bytes whose values are nested up to `depth`."""
        per_byte = self._per_byte_by_depth[min(depth, len(self._per_byte_by_depth) - 1)]
        return size * (per_byte + self._unique_per_byte * (depth + 1))

    def count(self, item: Any, limit: float) -> float:
        """Return the most visits that a check of an item can take. Stops above `limit`."""
        visits = 0.0
        for value, nodes in self._walk(item):
            visits += self._visits_of_value(value, nodes)
            if visits > limit:
                break
        return visits

    def count_listing(self, item: Any, quoted_bytes: int, limit: float) -> float:
        """Return the most visits that listing the errors of an item can take. Stops above `limit`.

        Each error takes up to `quoted_bytes` for its path and for what it quotes, besides a copy of the wrong value.
        """
        visits = 0.0
        for value, nodes in self._walk(item):
            errors = _ERRORS_PER_VISIT * sum(self._costs[node_id].fixed for node_id in nodes)
            error_bytes = quoted_bytes + measure_copy(value)
            visits += self._visits_of_value(value, nodes) + errors * error_bytes / _BYTES_PER_LISTED_VISIT
            if visits > limit:
                break
        return visits

    def _walk(self, item: Any) -> Iterator[tuple[Any, _Ids]]:
        """Yield the values of an item that subschemas apply to, with these subschemas."""
        groups = _GroupCache(self._by_id, self._parents)
        pending: list[tuple[Any, _Ids]] = [(item, (self._root,))]
        while pending:
            value, nodes = pending.pop()
            yield value, nodes
            pending += groups.list_children(value, nodes)

    def _visits_of_value(self, value: Any, nodes: _Ids) -> float:
        characters = _count_characters(value)
        visits = 0.0
        for node_id in nodes:
            cost = self._costs[node_id]
            visits += cost.fixed + cost.per_character * characters
            if cost.per_nested_value and isinstance(value, list):
                visits += cost.per_nested_value * count_values(value)
        return visits

    def _count_per_byte(self) -> list[float]:
        """Return the most visits for a byte of an item, by the depth of the item. The last holds for greater depths."""
        children = _find_children(self._by_id, set(self._parents.values()))
        visits = {node_id: cost.per_byte for node_id, cost in self._costs.items()}
        by_depth = [visits[self._root]]
        for _ in range(MAX_JSON_DEPTH):
            child_visits = {key: _count_child_visits(groups, visits) for key, groups in children.items()}
            deeper = {node_id: max(count, child_visits[self._parents[node_id]]) for node_id, count in visits.items()}
            if deeper == visits or by_depth[-1] == _MAX_VISITS_PER_BYTE:
                break
            visits = deeper
            by_depth.append(visits[self._root])
        return by_depth


class _GroupCache:
    """The subschemas for the fields and elements of values. Those with the same subschemas share one tuple."""

    def __init__(self, by_id: Mapping[int, Node], parents: Mapping[int, _Ids]) -> None:
        self._by_id = by_id
        self._parents_by_id = parents
        self._parents: dict[_Ids, list[Node]] = {}
        self._field_groups: dict[tuple[_Ids, str | None], _Ids] = {}
        self._element_groups: dict[tuple[_Ids, int | None], _Ids] = {}

    def list_children(self, value: Any, nodes: _Ids) -> Iterator[tuple[Any, _Ids]]:
        """Yield the fields, their names and the elements of a value that subschemas apply to, with these subschemas."""
        if not isinstance(value, dict | list):
            return
        parents = self._find_parents(nodes)
        if not parents:
            return
        if isinstance(value, dict):
            names = _ids_for_names(parents)
            for name, child in value.items():
                if names:
                    yield name, names
                group = self._find_field_group(nodes, parents, name)
                if group:
                    yield child, group
        else:
            for index, child in enumerate(value):
                group = self._find_element_group(nodes, parents, index)
                if group:
                    yield child, group

    def _find_parents(self, nodes: _Ids) -> list[Node]:
        if nodes not in self._parents:
            parents: list[Node] = []
            for node_id in nodes:
                parents += [self._by_id[parent_id] for parent_id in self._parents_by_id[node_id]]
            self._parents[nodes] = parents
        return self._parents[nodes]

    def _find_field_group(self, nodes: _Ids, parents: list[Node], name: str) -> _Ids:
        is_declared = any(name in parent.get("properties", ()) for parent in parents)
        declared = name if is_declared else None
        if (nodes, declared) not in self._field_groups:
            self._field_groups[nodes, declared] = _ids_for_field(parents, declared)
        return self._field_groups[nodes, declared]

    def _find_element_group(self, nodes: _Ids, parents: list[Node], index: int) -> _Ids:
        is_declared = any(index < len(parent.get("prefixItems", ())) for parent in parents)
        declared = index if is_declared else None
        if (nodes, declared) not in self._element_groups:
            self._element_groups[nodes, declared] = _ids_for_element(parents, declared)
        return self._element_groups[nodes, declared]


def _sum_costs(graph: SubschemaGraph, pattern_sizes: Mapping[str, int]) -> dict[int, _Cost]:
    """Return the cost of all subschemas that are evaluated with each subschema, by its id."""
    own = {id(node): _cost_of(node, pattern_sizes) for node in graph.nodes}
    sums: dict[int, _Cost] = {}
    for start in graph.nodes:
        total = _Cost()
        for node, times in graph.evaluations(start):
            total.add(own[id(node)], times)
        sums[id(start)] = total
    return sums


def _cost_of(node: Node, pattern_sizes: Mapping[str, int]) -> _Cost:
    """Return the cost of the keywords of one subschema."""
    cost = _Cost(fixed=1.0)
    for keyword, visits in _VISITS_PER_ENTRY.items():
        cost.fixed += visits * len(node.get(keyword, ()))
    for names in node.get("dependentRequired", {}).values():
        cost.fixed += _VISITS_PER_ENTRY["required"] * len(names)
    for option in (*node.get("enum", ()), *_const_of(node)):
        cost.fixed += _visits_of_option(option)
    if isinstance(node.get("multipleOf"), float):
        is_small = node["multipleOf"] < _SMALL_FRACTION
        cost.fixed += _VISITS_PER_SMALL_FRACTION if is_small else _VISITS_PER_FRACTION
    if node.get("uniqueItems"):
        cost.per_nested_value = _VISITS_PER_UNIQUE_VALUE
    if "format" in node:
        cost.per_character += _VISITS_PER_FORMAT_CHARACTER.get(node["format"], _VISITS_PER_OTHER_FORMAT_CHARACTER)
    for pattern in (*_pattern_of(node), *node.get("patternProperties", ())):
        cost.per_character += pattern_sizes[pattern] / _PATTERN_BYTES_PER_VISIT
    return cost


def _const_of(node: Node) -> list[Any]:
    return [node["const"]] if "const" in node else []


def _pattern_of(node: Node) -> list[str]:
    return [node["pattern"]] if "pattern" in node else []


def _visits_of_option(option: Any) -> float:
    if isinstance(option, dict | list):
        return _VISITS_PER_NESTED_VALUE * count_values(option)
    return _VISITS_PER_SCALAR


def _count_characters(value: Any) -> int:
    """Return the characters of a text or of an object's names. Each counts for one more, so that "" costs something."""
    if isinstance(value, str):
        return len(value) + 1
    if isinstance(value, dict):
        return sum(map(len, value)) + len(value)
    return 0


def _count_child_visits(groups: list[_Ids], visits: Mapping[int, float]) -> float:
    most = 0.0
    for group in groups:
        most = max(most, sum(visits[node_id] for node_id in group))
    return min(_MAX_VISITS_PER_BYTE, most)


def _find_parents(graph: SubschemaGraph, node: Node) -> _Ids:
    """Return the subschemas applied with `node` that constrain the value's fields. Many nodes share the same ones."""
    return tuple(id(applied) for applied in graph.applied_with(node) if applied.keys() & CHILD_KEYWORDS)


def _find_children(by_id: Mapping[int, Node], keys: set[_Ids]) -> dict[_Ids, list[_Ids]]:
    """Return the groups of subschemas that apply to one field, name or element, by the parents that apply to the value.

    Raises SchemaFault.
    """
    children: dict[_Ids, list[_Ids]] = {}
    edges = 0
    for key in keys:
        parents = [by_id[node_id] for node_id in key]
        names: set[str] = set()
        tuple_length = 0
        for parent in parents:
            names.update(parent.get("properties", ()))
            tuple_length = max(tuple_length, len(parent.get("prefixItems", ())))
        edges += len(parents) * (len(names) + tuple_length + 2)
        if edges > MAX_EDGES:
            message = "has too many subschemas that refer to one another. Simplify it"
            raise SchemaFault(Finding((), message, is_limit=True))
        groups = [_ids_for_field(parents, name) for name in (*names, None)]
        groups += [_ids_for_element(parents, index) for index in (*range(tuple_length), None)]
        groups.append(_ids_for_names(parents))
        children[key] = [group for group in groups if group]
    return children


def _ids_for_field(parents: list[Node], name: str | None) -> _Ids:
    """Return the ids of the subschemas for a field. None stands for a field that `properties` does not name."""
    return _node_ids(_subschemas_for_field(parents, name))


def _ids_for_names(parents: list[Node]) -> _Ids:
    """Return the ids of the subschemas for the names of fields."""
    return _node_ids(parent.get("propertyNames", True) for parent in parents)


def _ids_for_element(parents: list[Node], index: int | None) -> _Ids:
    """Return the ids of the subschemas for an element. None stands for an element after those of `prefixItems`."""
    return _node_ids(_subschemas_for_element(parents, index))


def _subschemas_for_field(parents: list[Node], name: str | None) -> Iterator[Node | bool]:
    for parent in parents:
        properties = parent.get("properties", {})
        if name in properties:
            yield properties[name]
        else:
            yield parent.get("additionalProperties", True)
        yield from parent.get("patternProperties", {}).values()
        yield parent.get("unevaluatedProperties", True)


def _subschemas_for_element(parents: list[Node], index: int | None) -> Iterator[Node | bool]:
    for parent in parents:
        prefix_items = parent.get("prefixItems", ())
        if index is not None and index < len(prefix_items):
            yield prefix_items[index]
        else:
            yield parent.get("items", True)
        yield parent.get("contains", True)
        yield parent.get("unevaluatedItems", True)


def _node_ids(schemas: Iterator[Node | bool]) -> _Ids:
    return tuple(id(schema) for schema in schemas if isinstance(schema, dict))
