"""The subschemas of a JSON Schema, and which of them apply to one value.

Only references within the schema exist here (`#`, `#/$defs/a`, `#anchor`), and only to subschemas that the metaschema
has checked, so that whoever walks the graph need not distrust the shape of what it finds.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote

from ringback.models.json_schema.findings import Finding, Path

#: A subschema that constrains anything; true and false stand for themselves.
Node: TypeAlias = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MAX_SUBSCHEMAS = 2_000
#: Subschemas that apply to one value, references followed.
MAX_TOGETHER = 256

#: Keywords whose subschemas apply to the value itself, by the form in which they hold them.
_HERE_LISTS, _HERE, _HERE_MAPS = ("allOf", "anyOf", "oneOf"), ("if", "then", "else", "not"), ("dependentSchemas",)
#: Keywords whose subschemas apply to what the value holds.
_BELOW_LISTS, _BELOW_MAPS = ("prefixItems",), ("properties", "patternProperties")
_BELOW = (
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "contains",
    "unevaluatedItems",
)
#: All keywords that say something of what a value holds.
BELOW = frozenset((*_BELOW_LISTS, *_BELOW_MAPS, *_BELOW))
#: Keywords that keep subschemas for references.
_SHELVES = ("$defs", "definitions")
_REFERENCES = ("$ref", "$dynamicRef")


class SchemaFault(Exception):
    """The schema cannot be used; carries the findings that say where and why."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(f.message for f in findings))
        self.findings = findings


class SubschemaGraph:
    """The subschemas of a schema that the metaschema allows; raises SchemaFault when Ringback does not."""

    def __init__(self, schema: Node) -> None:
        self.root = schema
        self.nodes: list[Node] = []
        self._at: dict[str, Node | bool] = {}
        self._anchors: dict[str, Node] = {}
        self._together: dict[int, tuple[Node, ...]] = {}
        faults = list(self._walk())
        faults += [f for path, node in self._found for f in self._lost(path, node)] if not faults else []
        if faults:
            raise SchemaFault(*faults)
        for path, node in self._found:
            self._gather(path, node)

    def together(self, node: Node | bool) -> tuple[Node, ...]:
        """All subschemas that apply to one value because `node` does, itself first; as often as they are reached."""
        return self._together[id(node)] if isinstance(node, dict) else ()

    def _walk(self) -> Iterator[Finding]:
        self._found: list[tuple[Path, Node]] = []
        waiting: list[tuple[Path, Node | bool]] = [((), self.root)]
        while waiting:
            path, node = waiting.pop()
            self._at["/".join(["", *(_escaped(part) for part in path)])] = node
            if isinstance(node, bool):
                continue
            self._found.append((path, node))
            self.nodes.append(node)
            if len(self.nodes) > MAX_SUBSCHEMAS:
                yield Finding((), f"has more than {MAX_SUBSCHEMAS:,} subschemas", is_limit=True)
                return
            yield from _refused(path, node)
            for keyword in ("$anchor", "$dynamicAnchor"):
                if keyword in node:
                    self._anchors.setdefault(node[keyword], node)
            waiting += [((*path, *step), child) for step, child in _subschemas(node)][::-1]

    def _lost(self, path: Path, node: Node) -> Iterator[Finding]:
        for keyword in _REFERENCES:
            if keyword in node and self._target(node[keyword]) is None:
                yield Finding((*path, keyword), f"leads to no subschema: {node[keyword]!r:.200}")

    def _target(self, reference: str) -> Node | bool | None:
        name = unquote(reference[1:])
        return self._at.get(name) if not name or name.startswith("/") else self._anchors.get(name)

    def _gather(self, path: Path, start: Node) -> None:
        """Note what applies together with `start`; raises SchemaFault for a circle, and for too much."""
        found: list[Node] = []

        def visit(node: Node | bool, above: frozenset[int]) -> None:
            if isinstance(node, bool):
                return
            if id(node) in above:
                raise SchemaFault(Finding(path, "refers to itself in a circle: it would never be decided"))
            found.append(node)
            if len(found) > MAX_TOGETHER:
                message = f"has more than {MAX_TOGETHER} subschemas for the same value, references followed"
                raise SchemaFault(Finding(path, message, is_limit=True))
            for inner in self._in_place(node):
                visit(inner, above | {id(node)})

        visit(start, frozenset())
        self._together[id(start)] = tuple(found)

    def _in_place(self, node: Node) -> Iterator[Node | bool]:
        for keyword in _REFERENCES:
            if keyword in node:
                target = self._target(node[keyword])
                assert target is not None, "all references were followed before"
                yield target
        yield from (child for _, child in _held(node, _HERE_LISTS, _HERE_MAPS, _HERE))


def _refused(path: Path, node: Node) -> Iterator[Finding]:
    """What Ringback does not allow although the metaschema does."""
    if str(node.get("$schema", DRAFT)).removesuffix("#") != DRAFT:
        yield Finding((*path, "$schema"), f"must be {DRAFT}, or be left out")
    if "$id" in node and path:
        yield Finding((*path, "$id"), "may stand only at the top of the schema")
    for keyword in _REFERENCES:
        if keyword in node and not node[keyword].startswith("#"):
            message = "must begin with #: nothing is fetched; put what it refers to into $defs"
            yield Finding((*path, keyword), message)


def _subschemas(node: Node) -> Iterator[tuple[Path, Node | bool]]:
    """All direct subschemas with their places."""
    yield from _held(node, (*_HERE_LISTS, *_BELOW_LISTS), (*_HERE_MAPS, *_BELOW_MAPS, *_SHELVES), (*_HERE, *_BELOW))


def _held(
    node: Node, lists: tuple[str, ...], maps: tuple[str, ...], ones: tuple[str, ...]
) -> Iterator[tuple[Path, Node | bool]]:
    for keyword in lists:
        yield from (((keyword, index), child) for index, child in enumerate(node.get(keyword, ())))
    for keyword in maps:
        yield from (((keyword, name), child) for name, child in node.get(keyword, {}).items())
    yield from (((keyword,), node[keyword]) for keyword in ones if keyword in node)


def _escaped(part: str | int) -> str:
    """A step of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")
