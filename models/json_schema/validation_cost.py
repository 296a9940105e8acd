"""How often a check looks at one value, at the worst: known before anything is checked.

Where several subschemas apply to a value and lead to several for what it holds, the looks multiply with each level; a
recursive schema of ten lines can ask for 2^64 of them. So the worst case is counted for every depth, and whoever checks
an item refuses those that would take too long.
"""

from collections.abc import Iterator
from itertools import chain
from typing import TypeAlias

from ringback.models.json_schema.findings import Finding
from ringback.models.json_schema.subschemas import BELOW, Node, SchemaFault, SubschemaGraph

#: The subschemas, by id(), that say something of what one value holds.
_Holders: TypeAlias = tuple[int, ...]

#: As deep as JSON in the API may be nested.
MAX_DEPTH = 64
#: More than this is not counted apart: no item is worth it.
CAP = 10**8
#: Steps from a subschema to those for what its value holds, in a whole schema.
MAX_STEPS = 30_000


def looks_by_depth(graph: SubschemaGraph) -> list[int]:
    """The most looks at one value of an item nested `index` deep; the last entry holds for all that are deeper.

    Raises SchemaFault when the schema is too entangled to tell.
    """
    holders = {id(node): _holders(graph, node) for node in graph.nodes}
    steps = _steps(graph, set(holders.values()))
    now = {id(node): len(graph.together(node)) for node in graph.nodes}
    most = [now[id(graph.root)]]
    for _ in range(MAX_DEPTH):
        below = {
            key: min(CAP, max((sum(now[child] for child in group) for group in groups), default=0))
            for key, groups in steps.items()
        }
        deeper = {key: max(now[key], below[holders[key]]) for key in now}
        if deeper == now or most[-1] == CAP:
            break
        now = deeper
        most.append(now[id(graph.root)])
    return most


def _holders(graph: SubschemaGraph, node: Node) -> _Holders:
    """What, of all that applies together with `node`, says something of what the value holds; often it is the same."""
    return tuple(id(one) for one in graph.together(node) if one.keys() & BELOW)


def _steps(graph: SubschemaGraph, wanted: set[_Holders]) -> dict[_Holders, list[list[int]]]:
    """For each thing that a value may hold, which subschemas apply to that."""
    by_id = {id(node): node for node in graph.nodes}
    found: dict[_Holders, list[list[int]]] = {}
    taken = 0
    for key in wanted:
        together = [by_id[one] for one in key]
        names = set(chain.from_iterable(one.get("properties", ()) for one in together))
        places = range(max((len(one.get("prefixItems", ())) for one in together), default=0))
        taken += len(together) * (len(names) + len(places) + 2)
        if taken > MAX_STEPS:
            raise SchemaFault(Finding((), "is too entangled: too many subschemas refer to one another", is_limit=True))
        groups = [[_ids(_of_name(one, name)) for one in together] for name in (*names, None)]
        groups += [[_ids(_of_place(one, place)) for one in together] for place in (*places, None)]
        found[key] = [flat for group in groups if (flat := list(chain.from_iterable(group)))]
    return found


def _of_name(node: Node, name: str | None) -> Iterator[Node | bool]:
    """The subschemas for a property; None stands for one without a subschema of its own."""
    properties = node.get("properties", {})
    if name in properties:
        yield properties[name]
    else:
        yield node.get("additionalProperties", True)
    yield from node.get("patternProperties", {}).values()
    yield node.get("unevaluatedProperties", True)
    yield node.get("propertyNames", True)


def _of_place(node: Node, place: int | None) -> Iterator[Node | bool]:
    """The subschemas for an element; None stands for one after all places with a subschema of their own."""
    prefix = node.get("prefixItems", ())
    yield prefix[place] if place is not None and place < len(prefix) else node.get("items", True)
    yield node.get("contains", True)
    yield node.get("unevaluatedItems", True)


def _ids(nodes: Iterator[Node | bool]) -> list[int]:
    return [id(node) for node in nodes if isinstance(node, dict)]
