"""The graph of a JSON Schema's subschemas, and which of them apply to the same value.

References exist only within the schema (`#`, `#/$defs/a`, `#anchor`), and only to subschemas that the metaschema has
checked. So code that walks the graph can rely on the types of its keywords.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from ringback.models.json_schema.findings import Finding, Path

#: A subschema that is an object. The schemas true and false are no nodes.
Node: TypeAlias = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MAX_SUBSCHEMAS = 2_000
#: Subschemas that apply to one value, those behind references included.
MAX_SUBSCHEMAS_PER_VALUE = 256
#: How often the subschemas below one with `unevaluatedProperties` or `unevaluatedItems` are evaluated for a value.
_EVALUATIONS = 3
#: Evaluations of subschemas for one value. Nested `unevaluatedProperties` multiply them.
MAX_EVALUATIONS_PER_VALUE = 1_000


class _Keywords(NamedTuple):
    """Keywords that hold subschemas: each a list of them, a map of them, or one."""

    lists: tuple[str, ...]
    maps: tuple[str, ...]
    singles: tuple[str, ...]


#: In-place applicators: their subschemas apply to the same value (JSON Schema Core, section 10.2).
_IN_PLACE = _Keywords(
    lists=("allOf", "anyOf", "oneOf"), maps=("dependentSchemas",), singles=("if", "then", "else", "not")
)
#: Those whose subschemas apply to some values only.
_CONDITIONAL = _IN_PLACE._replace(lists=("anyOf", "oneOf"))
#: Child applicators: their subschemas apply to the value's fields, elements and names (sections 10.3 and 11).
_CHILD = _Keywords(
    lists=("prefixItems",),
    maps=("properties", "patternProperties"),
    singles=(
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "items",
        "contains",
        "unevaluatedItems",
    ),
)
#: All keywords with subschemas, those that only hold definitions included.
_ALL = _Keywords(
    lists=_IN_PLACE.lists + _CHILD.lists,
    maps=(*_IN_PLACE.maps, *_CHILD.maps, "$defs", "definitions"),
    singles=_IN_PLACE.singles + _CHILD.singles,
)
#: All keywords that constrain the fields or elements of a value.
CHILD_KEYWORDS = frozenset(_CHILD.lists + _CHILD.maps + _CHILD.singles)
_REFERENCES = ("$ref", "$dynamicRef")
_UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})


class SchemaFault(Exception):
    """A schema that cannot be used. `findings` say where and why."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = findings


class _Located(NamedTuple):
    """A subschema and its path in the schema."""

    path: Path
    schema: Node | bool


class Evaluation(NamedTuple):
    """A subschema that applies to a value, and how often it is evaluated for it."""

    node: Node
    times: int


class SubschemaGraph:
    """The subschemas of a schema that satisfies the metaschema. Raises SchemaFault if Ringback does not support it.

    `paths` are the paths of `nodes`, in the same order.
    """

    def __init__(self, schema: Node) -> None:
        self.root = schema
        self.nodes: list[Node] = []
        self.paths: list[Path] = []
        self._by_pointer: dict[str, Node | bool] = {}
        self._by_anchor: dict[str, Node] = {}
        self._evaluations: dict[int, tuple[Evaluation, ...]] = {}
        findings = list(self._collect_nodes()) or list(self._find_broken_references())
        if findings:
            raise SchemaFault(*findings)
        for path, node in zip(self.paths, self.nodes, strict=True):
            self._evaluations[id(node)] = self._collect_evaluations(path, node)

    def applied_with(self, node: Node | bool) -> tuple[Node, ...]:
        """Return all subschemas that apply to a value to which `node` applies, `node` first.

        A subschema that is reached in several ways occurs several times.
        """
        return tuple(evaluation.node for evaluation in self.evaluations(node))

    def evaluations(self, node: Node | bool) -> tuple[Evaluation, ...]:
        """Return the subschemas of `applied_with`, and how often each is evaluated."""
        return self._evaluations[id(node)] if isinstance(node, dict) else ()

    def required_parts(self, node: Node) -> Iterator[Node | bool]:
        """Yield the subschemas that apply whenever `node` does: those of references and `allOf`."""
        for keyword in _REFERENCES:
            if keyword in node:
                target = self._resolve(node[keyword])
                assert target is not None, "`_find_broken_references` has resolved all references"
                yield target
        yield from node.get("allOf", ())

    def _collect_nodes(self) -> Iterator[Finding]:
        """Collect the subschemas with their pointers and anchors. Yield what Ringback does not support."""
        pending = [_Located((), self.root)]
        while pending:
            path, node = pending.pop()
            self._by_pointer[_to_pointer(path)] = node
            if isinstance(node, bool):
                continue
            self.nodes.append(node)
            self.paths.append(path)
            if len(self.nodes) > MAX_SUBSCHEMAS:
                yield Finding((), f"has more than {MAX_SUBSCHEMAS:,} subschemas", is_limit=True)
                return
            yield from _find_unsupported(path, node)
            for keyword in ("$anchor", "$dynamicAnchor"):
                if keyword in node:
                    self._by_anchor.setdefault(node[keyword], node)
            children = [_Located((*path, *step), child) for step, child in _subschemas(node, _ALL)]
            pending += reversed(children)

    def _find_broken_references(self) -> Iterator[Finding]:
        for path, node in zip(self.paths, self.nodes, strict=True):
            for keyword in _REFERENCES:
                if keyword in node and self._resolve(node[keyword]) is None:
                    message = f"refers to {node[keyword]!r:.200}, which is not a subschema of this schema"
                    yield Finding((*path, keyword), message)

    def _resolve(self, reference: str) -> Node | bool | None:
        name = unquote(reference[1:])
        if not name or name.startswith("/"):
            return self._by_pointer.get(name)
        return self._by_anchor.get(name)

    def _collect_evaluations(self, path: Path, start: Node) -> tuple[Evaluation, ...]:
        """Return the value of `evaluations`. Raises SchemaFault for a cycle, and for too many subschemas."""
        applied: list[Evaluation] = []
        total = 0

        def visit(node: Node | bool, ancestors: frozenset[int], times: int) -> None:
            nonlocal total
            if isinstance(node, bool):
                return
            if id(node) in ancestors:
                message = "refers to itself for the same value. Remove the circular reference"
                raise SchemaFault(Finding(path, message))
            applied.append(Evaluation(node, times))
            total += times
            if len(applied) > MAX_SUBSCHEMAS_PER_VALUE:
                message = f"applies more than {MAX_SUBSCHEMAS_PER_VALUE} subschemas to one value, references included"
                raise SchemaFault(Finding(path, message, is_limit=True))
            if total > MAX_EVALUATIONS_PER_VALUE:
                message = "nests unevaluatedProperties or unevaluatedItems too deeply. Keep only the outermost"
                raise SchemaFault(Finding(path, message, is_limit=True))
            if node.keys() & _UNEVALUATED:
                times *= _EVALUATIONS
            for child in self._in_place(node):
                visit(child, ancestors | {id(node)}, times)

        visit(start, frozenset(), 1)
        return tuple(applied)

    def _in_place(self, node: Node) -> Iterator[Node | bool]:
        yield from self.required_parts(node)
        for _, child in _subschemas(node, _CONDITIONAL):
            yield child


def _find_unsupported(path: Path, node: Node) -> Iterator[Finding]:
    """Yield what the metaschema allows in a subschema but Ringback does not."""
    if str(node.get("$schema", DRAFT)).removesuffix("#") != DRAFT:
        yield Finding((*path, "$schema"), f"must be {DRAFT}, or be left out")
    if "$id" in node and path:
        yield Finding((*path, "$id"), "is allowed only at the top of the schema")
    if "dependencies" in node:  # jsonschema-rs applies it all the same
        message = "is not a keyword of draft 2020-12. Use dependentRequired or dependentSchemas"
        yield Finding((*path, "dependencies"), message)
    for keyword in _REFERENCES:
        if keyword in node and not node[keyword].startswith("#"):
            message = "must start with #, because nothing is fetched. Copy the subschema into $defs"
            yield Finding((*path, keyword), message)


def _subschemas(node: Node, keywords: _Keywords) -> Iterator[_Located]:
    """Yield the direct subschemas under these keywords, with paths relative to `node`."""
    for keyword in keywords.lists:
        for index, child in enumerate(node.get(keyword, ())):
            yield _Located((keyword, index), child)
    for keyword in keywords.maps:
        for name, child in node.get(keyword, {}).items():
            yield _Located((keyword, name), child)
    for keyword in keywords.singles:
        if keyword in node:
            yield _Located((keyword,), node[keyword])


def _to_pointer(path: Path) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    return "/".join(["", *steps])
