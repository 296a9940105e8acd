"""The cost of an operation: how many objects it may read.

Each object selected counts one, a connection multiplies what is below it by `first`, and a plain list of objects by
LIST_SIZE. What depends on variables is added up when they are known; a fragment is added up once, however often it is
spread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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

#: How many objects a plain list, such as an event's attempts, is taken to hold.
LIST_SIZE = 5


@dataclass(frozen=True, slots=True)
class _Size:
    """How many nodes a page has: what `first` says, by itself or through a variable."""

    literal: int
    variable: str | None = None

    def of(self, variables: Mapping[str, Any]) -> int:
        value = variables.get(self.variable, self.literal) if self.variable else self.literal
        # What is out of range is refused when the page is read, with a better sentence.
        return min(max(value, 1), MAX_PAGE) if isinstance(value, int) else 1


@dataclass(slots=True)
class Cost:
    """How many objects a selection set may read: a sum of parts, each multiplied by the size of a list."""

    fixed: int = 0
    parts: "list[tuple[_Size, Cost]]" = field(default_factory=list)

    def add(self, size: _Size, part: "Cost") -> None:
        """Add a list of that size; what no variable tells is added up at once."""
        if size.variable is None and not part.parts:
            self.fixed += size.of({}) * part.fixed
        else:
            self.parts.append((size, part))

    def of(self, variables: Mapping[str, Any]) -> int:
        """The cost with these (coerced) variables."""
        return self._of(variables, {})

    def _of(self, variables: Mapping[str, Any], known: dict[int, int]) -> int:
        cost = known.get(id(self))
        if cost is None:
            cost = self.fixed + sum(size.of(variables) * part._of(variables, known) for size, part in self.parts)
            known[id(self)] = cost
        return cost


class CostEstimator:
    """Adds up the cost of the operations of a valid document; a fragment is added up once for all of them."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._known: dict[str, Cost] = {}

    def of(self, operation: OperationDefinitionNode) -> Cost:
        """The cost of an operation of the document."""
        root = self._schema.get_root_type(operation.operation)
        assert root is not None, "the document is valid"
        return self._of(operation.selection_set, root)

    def _of(self, selections: SelectionSetNode, parent: GraphQLNamedType) -> Cost:
        cost = Cost()
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                self._add_field(cost, selection, parent)
            elif isinstance(selection, FragmentSpreadNode):
                cost.add(_Size(1), self._of_fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                on = selection.type_condition
                inner = self._schema.type_map[on.name.value] if on else parent
                cost.add(_Size(1), self._of(selection.selection_set, inner))
        return cost

    def _of_fragment(self, name: str) -> Cost:
        if name not in self._known:
            fragment = self._fragments[name]
            self._known[name] = self._of(
                fragment.selection_set, self._schema.type_map[fragment.type_condition.name.value]
            )
        return self._known[name]

    def _add_field(self, cost: Cost, node: FieldNode, parent: Any) -> None:
        definition = self._schema.get_field(parent, node.name.value)
        if definition is None or node.selection_set is None:
            return
        named = get_named_type(definition.type)
        if is_introspection_type(named) or not is_composite_type(named):
            return
        below = self._of(node.selection_set, named)
        each = Cost(1)
        each.add(_Size(1), below)
        # A connection has multiplied its own lists.
        is_page = parent.name.endswith("Connection")
        if named.name.endswith("Connection") and "first" in definition.args:
            cost.fixed += 1
            cost.add(_first(node, definition.args["first"].default_value), below)
        elif _is_list(definition.type) and "id" in getattr(named, "fields", {}) and not is_page:
            cost.add(_Size(LIST_SIZE), each)
        else:
            cost.add(_Size(1), each)


def _first(node: FieldNode, default: int) -> _Size:
    given = next((a.value for a in node.arguments or () if a.name.value == "first"), None)
    if isinstance(given, IntValueNode):
        return _Size(int(given.value[:9]))
    if isinstance(given, VariableNode):
        return _Size(default, given.name.value)
    return _Size(default)


def _is_list(type_: GraphQLOutputType) -> bool:
    return isinstance(get_nullable_type(type_), GraphQLList)
