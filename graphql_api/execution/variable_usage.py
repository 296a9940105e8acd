"""The variables on which a subscription's responses depend: those below its root field, and those of directives.

The root field's own arguments, such as the live log's filter and cursor, select events; they do not change the
responses.
"""

from typing import Any

from graphql import (
    SKIP,
    DefinitionNode,
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


class VariableUsage:
    """The variables of the definitions of one valid document, each of which is visited once.

    Operations share fragments, so visiting those again for each operation takes most of a second.
    """

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._below_root: dict[int, frozenset[str]] = {}
        self._in_directives: dict[int, bool] = {}

    def below_root(self, subscription: DocumentNode) -> frozenset[str]:
        """Return the variables of a subscription and its fragments, except those of its root field's arguments."""
        return frozenset().union(*(self._find_below_root(definition) for definition in subscription.definitions))

    def decides_selections(self, operation: DocumentNode) -> bool:
        """Return whether a variable of a directive decides which fields an operation and its fragments select."""
        return any(self._has_in_directives(definition) for definition in operation.definitions)

    def _find_below_root(self, definition: DefinitionNode) -> frozenset[str]:
        names = self._below_root.get(id(definition))
        if names is None:
            types = TypeInfo(self._schema)
            collector = _BelowRootCollector(types, self._schema.subscription_type)
            visit(definition, TypeInfoVisitor(types, collector))
            names = self._below_root[id(definition)] = frozenset(collector.names)
        return names

    def _has_in_directives(self, definition: DefinitionNode) -> bool:
        has_some = self._in_directives.get(id(definition))
        if has_some is None:
            collector = _DirectiveCollector()
            visit(definition, collector)
            has_some = self._in_directives[id(definition)] = bool(collector.names)
        return has_some


class _BelowRootCollector(Visitor):
    """A visitor that collects the variables outside the root field's arguments."""

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
    """A visitor that collects the variables in directives."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.names.add(argument.value.name.value)
