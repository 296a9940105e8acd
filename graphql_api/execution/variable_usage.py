"""Which variables the answers of a subscription depend on: those below its root field, and those of directives.

The root field's own arguments, such as the live log's filter and cursor, say what a subscriber is told of, and not how.
"""

from typing import Any

from graphql import (
    SKIP,
    DirectiveNode,
    DocumentNode,
    GraphQLObjectType,
    GraphQLSchema,
    TypeInfo,
    TypeInfoVisitor,
    VariableNode,
    Visitor,
    VisitorAction,
    visit,
)


def variables_below_root(schema: GraphQLSchema, subscription: DocumentNode) -> frozenset[str]:
    """Return the variables of a valid subscription with its fragments, but for those of its root field's arguments."""
    types = TypeInfo(schema)
    used = _Used(types, schema.subscription_type)
    visit(subscription, TypeInfoVisitor(types, used))
    return frozenset(used.names)


def depends_on_variables(document: DocumentNode) -> bool:
    """Whether a variable decides what a valid document selects, by a directive."""
    used = _OfDirectives()
    visit(document, used)
    return bool(used.names)


class _OfDirectives(Visitor):
    """Collects the variables in directives."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        self.names |= {a.value.name.value for a in node.arguments or () if isinstance(a.value, VariableNode)}


class _Used(Visitor):
    """Collects variables."""

    def __init__(self, types: TypeInfo, root: GraphQLObjectType | None) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._types = types
        self._root = root

    def enter_variable_definition(self, *_: Any) -> VisitorAction:
        return SKIP

    def enter_argument(self, *_: Any) -> VisitorAction:
        is_of_directive = self._types.get_directive() is not None
        is_of_root_field = not is_of_directive and self._types.get_parent_type() is self._root
        return SKIP if is_of_root_field else None

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.names.add(node.name.value)
