"""Limits on the shape of a document: depth, aliases, root fields and introspection, with its fragments spread out.

It needs no schema, so it comes before the validation, whose costly rules then see small documents only. What has no
limit in the text, such as fragments that spread others twice, is measured once per fragment and multiplied, never
walked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_introspection_query,
    parse,
)

from ringback.graphql_api.limits import Limits, exceeded, too_deep

#: Levels of selection sets, fragments included: what walks them does so by recursion.
MAX_NESTING = 200
#: How many entries the lists of the introspection are taken to hold; a list that is not here holds none that matter.
INTROSPECTION_LISTS = {
    "types": 100, "fields": 8, "inputFields": 8, "enumValues": 8, "directives": 5, "args": 4, "possibleTypes": 4,
    "interfaces": 2,
}  # fmt: skip
#: How many times the standard introspection query, all its options on, one document may ask of the schema.
INTROSPECTIONS = 2


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of a selection set, fragments spread out: levels of fields, aliases at all levels, fields at the first.

    `values` is what its answer would hold if all of it were introspection, `introspected` what of it is.
    """

    depth: int = 0
    aliases: int = 0
    fields: int = 0
    values: int = 0
    introspected: int = 0


def check_shape(document: DocumentNode, limits: Limits) -> None:
    """Raises ApiError (LIMIT_EXCEEDED) when an operation is too deep, or has too many aliases or root fields.

    Fragments that spread themselves are left to the validation.
    """
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    shapes = _Shapes(fragments, limits)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            shape = shapes.of(definition.selection_set)
            _check("depth", shape.depth, limits.depth, "levels of fields")
            _check("aliases", shape.aliases, limits.aliases, "aliases")
            if isinstance(definition, OperationDefinitionNode):
                _check("rootFields", shape.fields, limits.root_fields, "root fields")
                if shape.introspected > INTROSPECTIONS * _standard_introspection():
                    raise exceeded(
                        "introspection",
                        INTROSPECTIONS,
                        f"The document asks more of the schema than {INTROSPECTIONS} standard introspection queries.",
                    )


def _check(limit: str, found: int, allowed: int, what: str) -> None:
    if found > allowed:
        counted = f"{found:,}" if found < 10**9 else "over a thousand million"
        raise exceeded(limit, allowed, f"The document has {counted} {what}; {allowed:,} are allowed.")


@cache
def _standard_introspection() -> int:
    query = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
        experimental_directive_deprecation=True,
        one_of=True,
    )
    operation, *fragments = parse(query, no_location=True).definitions
    assert isinstance(operation, OperationDefinitionNode)
    named = {d.name.value: d for d in fragments if isinstance(d, FragmentDefinitionNode)}
    return _Shapes(named, Limits()).of(operation.selection_set).introspected


class _Shapes:
    """Measures selection sets; a fragment is measured once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], limits: Limits) -> None:
        self._fragments = fragments
        self._limits = limits
        self._known: dict[str, _Shape] = {}

    def of(self, selections: SelectionSetNode | None, level: int = 0) -> _Shape:
        """The shape of a selection set that is `level` levels within a definition."""
        if level > MAX_NESTING:
            raise too_deep(self._limits)
        depth = aliases = fields = values = introspected = 0
        for selection in selections.selections if selections else ():
            if isinstance(selection, FieldNode):
                part = self._of_field(selection, level)
            elif isinstance(selection, FragmentSpreadNode):
                part = self._of_fragment(selection, level)
            else:
                assert isinstance(selection, InlineFragmentNode)
                part = self.of(selection.selection_set, level + 1)
            depth = max(depth, part.depth)
            aliases += part.aliases
            fields += part.fields
            values += part.values
            introspected += part.introspected
        return _Shape(depth, aliases, fields, values, introspected)

    def _of_field(self, field: FieldNode, level: int) -> _Shape:
        below = self.of(field.selection_set, level + 1)
        name = field.name.value
        values = (below.values + 1) * INTROSPECTION_LISTS.get(name, 1)
        introspected = values if name in ("__schema", "__type") else below.introspected
        return _Shape(below.depth + 1, below.aliases + (field.alias is not None), 1, values, introspected)

    def _of_fragment(self, spread: FragmentSpreadNode, level: int) -> _Shape:
        name = spread.name.value
        if name not in self._known:
            self._known[name] = _Shape()  # what it is worth to itself
            fragment = self._fragments.get(name)
            self._known[name] = self.of(fragment.selection_set, level + 1) if fragment else _Shape()
        return self._known[name]
