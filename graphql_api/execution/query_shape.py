"""Limits on the shape of a document: depth, aliases, root fields and introspection, with its fragments spread.

The check needs no schema and runs before validation, whose expensive rules then see small documents only. Each fragment
is measured once and its shape reused, since fragments that spread others twice double the document at each level.
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

from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded, too_deep

#: Levels of selection sets, fragments included, at most: graphql-core walks them recursively.
MAX_NESTING = 200
#: Fixed cost of an introspection field, whatever it selects. graphql-core's MaxIntrospectionDepthRule limits the lists
#: in it, so __schema takes 0.2 s at most. An alias inside can repeat all of it and costs as much again.
INTROSPECTION_COST = {"__schema": 10, "__type": 1}
MAX_INTROSPECTION_COST = 20
#: The count from which on an error message rounds: fragments can make numbers of any length.
HUGE_COUNT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Shape:
    """The shape of a selection set, with fragments spread."""

    #: Levels of fields.
    depth: int = 0
    #: Aliases at all levels.
    aliases: int = 0
    #: Fields at the first level.
    fields: int = 0
    #: Cost of introspection.
    introspection: int = 0


def check_shape(document: DocumentNode, limits: OperationLimits) -> None:
    """Raise ApiError if an operation is too deep, has too many aliases or root fields, or introspects too much.

    Validation refuses fragments that spread themselves.
    """
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    measurer = _ShapeMeasurer(fragments, limits)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            shape = measurer.measure(definition.selection_set)
            _check_count("depth", shape.depth, limits.depth, "levels of fields", "RINGBACK_API_MAX_DEPTH")
            _check_count("aliases", shape.aliases, limits.aliases, "aliases", "RINGBACK_API_MAX_ALIASES")
            if isinstance(definition, OperationDefinitionNode):
                _check_count(
                    "rootFields", shape.fields, limits.root_fields, "root fields", "RINGBACK_API_MAX_ROOT_FIELDS"
                )
                _check_introspection(shape.introspection, is_allowed=limits.introspection)


def _check_count(limit: str, count: int, allowed: int, things: str, setting: str) -> None:
    if count > allowed:
        quoted = f"{count:,}" if count < HUGE_COUNT else f"at least {HUGE_COUNT:,}"
        message = f"The document has {quoted} {things}; {allowed:,} are allowed ({setting})."
        raise limit_exceeded(limit, allowed, message)


def _check_introspection(cost: int, *, is_allowed: bool) -> None:
    if cost and not is_allowed:
        message = (
            "Introspection is switched off on this server, so clients get no documentation and no completion. "
            "Operations run as usual. The operator can set RINGBACK_API_INTROSPECTION=true."
        )
        raise ApiError("GRAPHQL_VALIDATION_FAILED", message)
    if cost > MAX_INTROSPECTION_COST:
        message = (
            f"The introspection costs {cost:,}; {MAX_INTROSPECTION_COST} is allowed, a fixed limit. "
            "__schema costs 10 and __type 1, and each alias inside as much again."
        )
        raise limit_exceeded("introspection", MAX_INTROSPECTION_COST, message)


class _ShapeMeasurer:
    """A visitor that measures selection sets, each fragment once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], limits: OperationLimits) -> None:
        self._fragments = fragments
        self._limits = limits
        self._fragment_shapes: dict[str, _Shape] = {}

    def measure(self, selections: SelectionSetNode | None, level: int = 0) -> _Shape:
        """Return the shape of a selection set at a nesting level of its definition. Raises ApiError if too deep."""
        if level > MAX_NESTING:
            raise too_deep(self._limits)
        if selections is None:
            return _Shape()
        depth = aliases = fields = introspection = 0
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                part = self._measure_field(selection, level)
            elif isinstance(selection, FragmentSpreadNode):
                part = self._measure_fragment(selection, level)
            else:
                assert isinstance(selection, InlineFragmentNode)
                part = self.measure(selection.selection_set, level + 1)
            depth = max(depth, part.depth)
            aliases += part.aliases
            fields += part.fields
            introspection += part.introspection
        return _Shape(depth=depth, aliases=aliases, fields=fields, introspection=introspection)

    def _measure_field(self, field: FieldNode, level: int) -> _Shape:
        below = self.measure(field.selection_set, level + 1)
        introspection = below.introspection
        if field.name.value in INTROSPECTION_COST:
            introspection = INTROSPECTION_COST[field.name.value] * (1 + below.aliases)
        return _Shape(
            depth=below.depth + 1,
            aliases=below.aliases + (field.alias is not None),
            fields=1,
            introspection=introspection,
        )

    def _measure_fragment(self, spread: FragmentSpreadNode, level: int) -> _Shape:
        name = spread.name.value
        if name not in self._fragment_shapes:
            # Found by a fragment that spreads itself.
            self._fragment_shapes[name] = _Shape()
            fragment = self._fragments.get(name)
            if fragment is not None:
                self._fragment_shapes[name] = self.measure(fragment.selection_set, level + 1)
        return self._fragment_shapes[name]
