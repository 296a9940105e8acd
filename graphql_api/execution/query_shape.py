"""Limits on the shape of a document: depth, aliases, root fields and introspection, with its fragments spread out.

It needs no schema, so it comes before the validation, whose costly rules then see small documents only. What has no
limit in the text, such as fragments that spread others twice, is measured once per fragment and multiplied, never
walked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded, too_deep

#: Levels of selection sets, fragments included: what walks them does so by recursion.
MAX_NESTING = 200
#: Fixed cost of an introspection field, whatever it selects. graphql-core's MaxIntrospectionDepthRule limits the lists
#: in it, so __schema takes 0.2 s at most. An alias inside can repeat all of it and costs as much again.
INTROSPECTION_COST = {"__schema": 10, "__type": 1}
MAX_INTROSPECTION_COST = 20


@dataclass(frozen=True, slots=True)
class _Shape:
    """Shape of a selection set, fragments spread out.

    Levels of fields, aliases at all levels, fields at the first level, and the cost of introspection.
    """

    depth: int = 0
    aliases: int = 0
    fields: int = 0
    introspection: int = 0


def check_shape(document: DocumentNode, limits: OperationLimits) -> None:
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
                _check_introspection(shape.introspection)


def _check(limit: str, found: int, allowed: int, what: str) -> None:
    if found > allowed:
        counted = f"{found:,}" if found < 10**9 else "over a thousand million"
        raise limit_exceeded(limit, allowed, f"The document has {counted} {what}; {allowed:,} are allowed.")


def _check_introspection(cost: int) -> None:
    if cost > MAX_INTROSPECTION_COST:
        message = (
            f"The introspection costs {cost:,}; {MAX_INTROSPECTION_COST} is allowed. "
            "__schema costs 10 and __type 1, and each alias inside as much again."
        )
        raise limit_exceeded("introspection", MAX_INTROSPECTION_COST, message)


class _Shapes:
    """Measures selection sets; a fragment is measured once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], limits: OperationLimits) -> None:
        self._fragments = fragments
        self._limits = limits
        self._known: dict[str, _Shape] = {}

    def of(self, selections: SelectionSetNode | None, level: int = 0) -> _Shape:
        """The shape of a selection set that is `level` levels within a definition."""
        if level > MAX_NESTING:
            raise too_deep(self._limits)
        depth = aliases = fields = introspection = 0
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
            introspection += part.introspection
        return _Shape(depth, aliases, fields, introspection)

    def _of_field(self, field: FieldNode, level: int) -> _Shape:
        below = self.of(field.selection_set, level + 1)
        introspection = below.introspection
        if field.name.value in INTROSPECTION_COST:
            introspection = INTROSPECTION_COST[field.name.value] * (1 + below.aliases)
        return _Shape(
            depth=below.depth + 1,
            aliases=below.aliases + (field.alias is not None),
            fields=1,
            introspection=introspection,
        )

    def _of_fragment(self, spread: FragmentSpreadNode, level: int) -> _Shape:
        name = spread.name.value
        if name not in self._known:
            self._known[name] = _Shape()  # what it is worth to itself
            fragment = self._fragments.get(name)
            self._known[name] = self.of(fragment.selection_set, level + 1) if fragment else _Shape()
        return self._known[name]
