"""The cost of an operation: the number of objects that it may read.

Each selected object costs 1, and each field of FIELD_COSTS what it says. A connection multiplies the cost below it by
`first`, a plain list of objects by LIST_SIZE. Page sizes in variables are resolved for each request. A fragment is
estimated once, however often it is spread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLList,
    GraphQLNamedType,
    GraphQLOutputType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_introspection_type,
)

from ringback.graphql_api.fields.relay import MAX_PAGE

#: Assumed length of a plain list of objects, such as an event's attempts.
LIST_SIZE = 5
#: Costs of fields that take work of their own. The warnings of a webhook check all of its templates.
FIELD_COSTS = {("Webhook", "warnings"): 10}
#: Digits of a literal `first` that are read: enough for any number above MAX_PAGE.
_MAX_FIRST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class _Size:
    """The factor of a list: a number, or the page size in a variable with that number as its default."""

    literal: int
    variable: str | None = None

    def resolve(self, variables: Mapping[str, Any]) -> int:
        size = self.literal
        if self.variable is not None:
            size = variables.get(self.variable, self.literal)
        if not isinstance(size, int):
            return 1
        # Page sizes out of range are refused by the connection, with a better message.
        return min(max(size, 1), MAX_PAGE)


_ONE = _Size(1)


class _Part(NamedTuple):
    """A cost that counts `size` times."""

    size: _Size
    cost: "Cost"


@dataclass(slots=True)
class Cost:
    """The number of objects that a selection set may read: a fixed number and parts that variables multiply."""

    fixed: int = 0
    parts: list[_Part] = field(default_factory=list)

    def add(self, size: _Size, part: "Cost") -> None:
        """Add `part` times `size`. A product without variables is added to the fixed number."""
        if size.variable is None and not part.parts:
            self.fixed += size.resolve({}) * part.fixed
        else:
            self.parts.append(_Part(size, part))

    def total(self, variables: Mapping[str, Any]) -> int:
        """Return the cost with these coerced variables."""
        return self._total(variables, {})

    def _total(self, variables: Mapping[str, Any], totals: dict[int, int]) -> int:
        total = totals.get(id(self))
        if total is None:
            total = self.fixed
            for part in self.parts:
                total += part.size.resolve(variables) * part.cost._total(variables, totals)
            totals[id(self)] = total
        return total


class CostEstimator:
    """An estimator of the operations of one valid document, which share the costs of its fragments."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._fragment_costs: dict[str, Cost] = {}

    def estimate(self, operation: OperationDefinitionNode) -> Cost:
        """Return the cost of an operation of the document."""
        root = self._schema.get_root_type(operation.operation)
        assert root is not None, "the document is valid"
        return self._estimate_selections(operation.selection_set, root)

    def _estimate_selections(self, selections: SelectionSetNode, parent: GraphQLNamedType) -> Cost:
        cost = Cost()
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                self._add_field(cost, selection, parent)
            elif isinstance(selection, FragmentSpreadNode):
                cost.add(_ONE, self._estimate_fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.type_map[condition.name.value] if condition else parent
                cost.add(_ONE, self._estimate_selections(selection.selection_set, inner))
        return cost

    def _estimate_fragment(self, name: str) -> Cost:
        cost = self._fragment_costs.get(name)
        if cost is None:
            fragment = self._fragments[name]
            parent = self._schema.type_map[fragment.type_condition.name.value]
            cost = self._fragment_costs[name] = self._estimate_selections(fragment.selection_set, parent)
        return cost

    def _add_field(self, cost: Cost, node: FieldNode, parent: Any) -> None:
        cost.fixed += FIELD_COSTS.get((parent.name, node.name.value), 0)
        definition = self._schema.get_field(parent, node.name.value)
        if definition is None or node.selection_set is None:
            return
        named = get_named_type(definition.type)
        if is_introspection_type(named) or not is_composite_type(named):
            return
        below = self._estimate_selections(node.selection_set, named)
        if named.name.endswith("Connection") and "first" in definition.args:
            cost.fixed += 1
            cost.add(_page_size(node, definition.args["first"].default_value), below)
            return
        each = Cost(1)
        each.add(_ONE, below)
        # The connection has already multiplied its own lists, `nodes` and `edges`.
        is_page = parent.name.endswith("Connection")
        if _is_list(definition.type) and "id" in getattr(named, "fields", {}) and not is_page:
            cost.add(_Size(LIST_SIZE), each)
        else:
            cost.add(_ONE, each)


def _page_size(node: FieldNode, default: int) -> _Size:
    first = next((argument.value for argument in node.arguments or () if argument.name.value == "first"), None)
    if isinstance(first, IntValueNode):
        return _Size(int(first.value[:_MAX_FIRST_DIGITS]))
    if isinstance(first, VariableNode):
        return _Size(default, first.name.value)
    return _Size(default)


def _is_list(type_: GraphQLOutputType) -> bool:
    return isinstance(get_nullable_type(type_), GraphQLList)
