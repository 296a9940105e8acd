"""The variables on which a subscription's responses depend: those below its root field, and those of directives.

The root field's own arguments, such as the live log's filter and cursor, select events; they do not change the
responses.
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
    """Return the variables of a valid subscription and its fragments, except those of its root field's arguments."""
    types = TypeInfo(schema)
    collector = _BelowRootCollector(types, schema.subscription_type)
    visit(subscription, TypeInfoVisitor(types, collector))
    return frozenset(collector.names)


def depends_on_variables(document: DocumentNode) -> bool:
    """Return whether a variable of a directive decides which fields a valid document selects."""
    collector = _DirectiveCollector()
    visit(document, collector)
    return bool(collector.names)


class _BelowRootCollector(Visitor):
    """Collects the variables outside the root field's arguments."""

    def __init__(self, types: TypeInfo, root: GraphQLObjectType | None) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._types = types
        self._root = root

    def enter_variable_definition(self, *_: Any) -> VisitorAction:
        return SKIP

    def enter_argument(self, *_: Any) -> VisitorAction:
        is_of_directive = self._types.get_directive() is not None
        if self._types.get_parent_type() is self._root and not is_of_directive:
            return SKIP
        return None

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.names.add(node.name.value)


class _DirectiveCollector(Visitor):
    """Collects the variables in directives."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.names.add(argument.value.name.value)
