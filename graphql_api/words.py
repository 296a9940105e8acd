"""Which variables the answers of a subscription depend on: those below its root field, and those of directives.

The root field's own arguments, such as the live log's filter and cursor, say what a subscriber is told of, and not how.
"""

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    Visitor,
    visit,
)


def variables_below_root(operation: OperationDefinitionNode, document: DocumentNode) -> frozenset[str]:
    """The variables of an operation of a valid document, without those of its root fields' arguments alone."""
    used = _Used(document)
    used.at_root(operation.selection_set)
    return frozenset(used.names)


class _Used(Visitor):
    """Collects variables; each fragment is looked at once."""

    def __init__(self, document: DocumentNode) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._seen: set[str] = set()

    def at_root(self, selections: SelectionSetNode) -> None:
        for selection in selections.selections:
            self._below(*(selection.directives or ()))
            if isinstance(selection, FieldNode) and selection.selection_set is not None:
                self._below(selection.selection_set)
            elif isinstance(selection, InlineFragmentNode):
                self.at_root(selection.selection_set)
            elif isinstance(selection, FragmentSpreadNode) and (fragment := self._unseen(selection)) is not None:
                self.at_root(fragment.selection_set)

    def _below(self, *nodes: Node) -> None:
        for node in nodes:
            visit(node, self)

    def _unseen(self, spread: FragmentSpreadNode) -> FragmentDefinitionNode | None:
        name = spread.name.value
        if name in self._seen:
            return None
        self._seen.add(name)
        return self._fragments[name]

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.names.add(node.name.value)

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: Any) -> None:
        if (fragment := self._unseen(node)) is not None:
            self._below(fragment.selection_set)
