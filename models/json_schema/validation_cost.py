"""Worst-case cost of a check: how many times it visits one value of an item.

If several subschemas apply to a value, and each leads to several for the value's fields, the visits multiply with each
level: a recursive schema of ten lines can require 2^64 of them. So the worst case is computed for each depth when the
schema is compiled, and `JsonSchema.check` refuses items that would take too long.
"""

from collections.abc import Iterator
from itertools import chain
from typing import TypeAlias

from ringback.models.json_schema.findings import Finding
from ringback.models.json_schema.subschemas import CHILD_KEYWORDS, Node, SchemaFault, SubschemaGraph

#: The ids, by id(), of subschemas that apply to the same value and constrain its fields or elements.
_Parents: TypeAlias = tuple[int, ...]

#: Depth of nested JSON that the API accepts.
MAX_DEPTH = 64
#: Visits beyond which counting stops: no item may cost as many.
MAX_COUNTED_VISITS = 10**8
#: Edges of the graph that one schema may have, from a subschema to those for a field or an element of its value.
MAX_EDGES = 30_000


def count_visits_by_depth(graph: SubschemaGraph) -> list[int]:
    """Return the most visits to one value of an item, by the depth of the item.

    The last entry holds for all greater depths. Raises SchemaFault for a schema with more than MAX_EDGES edges.
    """
    parents = {id(node): _find_parents(graph, node) for node in graph.nodes}
    children = _find_children(graph, set(parents.values()))
    visits = {id(node): len(graph.applied_with(node)) for node in graph.nodes}
    visits_by_depth = [visits[id(graph.root)]]
    for _ in range(MAX_DEPTH):
        child_visits = {key: _count_child_visits(groups, visits) for key, groups in children.items()}
        deeper_visits = {node_id: max(count, child_visits[parents[node_id]]) for node_id, count in visits.items()}
        if deeper_visits == visits or visits_by_depth[-1] == MAX_COUNTED_VISITS:
            break
        visits = deeper_visits
        visits_by_depth.append(visits[id(graph.root)])
    return visits_by_depth


def _count_child_visits(groups: list[list[int]], visits: dict[int, int]) -> int:
    most = 0
    for group in groups:
        most = max(most, sum(visits[node_id] for node_id in group))
    return min(MAX_COUNTED_VISITS, most)


def _find_parents(graph: SubschemaGraph, node: Node) -> _Parents:
    """Return the subschemas applied with `node` that constrain the value's fields. Many nodes share the same ones."""
    return tuple(id(applied) for applied in graph.applied_with(node) if applied.keys() & CHILD_KEYWORDS)


def _find_children(graph: SubschemaGraph, keys: set[_Parents]) -> dict[_Parents, list[list[int]]]:
    """Return the groups of subschemas that apply to one field or element, by the parents that apply to the value."""
    by_id = {id(node): node for node in graph.nodes}
    children: dict[_Parents, list[list[int]]] = {}
    edges = 0
    for key in keys:
        parents = [by_id[node_id] for node_id in key]
        names = set(chain.from_iterable(parent.get("properties", ()) for parent in parents))
        tuple_length = max((len(parent.get("prefixItems", ())) for parent in parents), default=0)
        edges += len(parents) * (len(names) + tuple_length + 2)
        if edges > MAX_EDGES:
            message = "has too many subschemas that refer to one another. Simplify it"
            raise SchemaFault(Finding((), message, is_limit=True))
        groups = [_ids_for_field(parents, name) for name in (*names, None)]
        groups += [_ids_for_element(parents, index) for index in (*range(tuple_length), None)]
        children[key] = [group for group in groups if group]
    return children


def _ids_for_field(parents: list[Node], name: str | None) -> list[int]:
    """Return the ids of the subschemas for a field. None stands for a field that `properties` does not name."""
    return _node_ids(chain.from_iterable(_subschemas_for_field(parent, name) for parent in parents))


def _ids_for_element(parents: list[Node], index: int | None) -> list[int]:
    """Return the ids of the subschemas for an element. None stands for an element after those of `prefixItems`."""
    return _node_ids(chain.from_iterable(_subschemas_for_element(parent, index) for parent in parents))


def _subschemas_for_field(node: Node, name: str | None) -> Iterator[Node | bool]:
    properties = node.get("properties", {})
    if name in properties:
        yield properties[name]
    else:
        yield node.get("additionalProperties", True)
    yield from node.get("patternProperties", {}).values()
    yield node.get("unevaluatedProperties", True)
    yield node.get("propertyNames", True)


def _subschemas_for_element(node: Node, index: int | None) -> Iterator[Node | bool]:
    prefix_items = node.get("prefixItems", ())
    if index is not None and index < len(prefix_items):
        yield prefix_items[index]
    else:
        yield node.get("items", True)
    yield node.get("contains", True)
    yield node.get("unevaluatedItems", True)


def _node_ids(schemas: Iterator[Node | bool]) -> list[int]:
    return [id(schema) for schema in schemas if isinstance(schema, dict)]
