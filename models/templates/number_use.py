"""Which fields of the item a template uses as numbers: compares, computes with, sorts by, counts with.

The answer may name too many fields, never too few. Converting a decimal that is only printed costs time and changes
nothing.
"""

from collections.abc import Iterable

from liquid import Expression, Node
from liquid.builtin.expressions import FilteredExpression, LoopExpression, Path
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.case_tag import CaseNode
from liquid.builtin.tags.for_tag import ForNode

from ringback.models.templates.decimal_fields import ALL_FIELDS
from ringback.models.templates.filters.allow_list import FILTERS
from ringback.models.templates.syntax.comparisons import ANY_EXPRESSION, VALUE_OPERATORS
from ringback.models.templates.syntax.environment import STATIC

#: Filters besides those of text for which a decimal is the same as its text. Most of them pass values on.
_NEUTRAL_FILTERS = {
    "concat",
    "date",
    "default",
    "first",
    "join",
    "json",
    "last",
    "map",
    "reverse",
    "size",
}
#: Roots that hold no field of the item.
_ROOTS = {"event", "forloop"}


def find_number_fields(nodes: Iterable[Node]) -> frozenset[str]:
    """Return the names of the item's fields that a template uses as numbers, or ALL_FIELDS."""
    search = _Search()
    search.visit_nodes(nodes)
    return search.result()


def find_number_fields_of(condition: Expression) -> frozenset[str]:
    """Return the names of the item's fields that a condition uses as numbers, or ALL_FIELDS."""
    search = _Search()
    search.visit(condition)
    return search.result()


class _Search:
    """A walk through a syntax tree.

    A variable that is used as a number may hold any field that is assigned or looped over.
    """

    def __init__(self) -> None:
        self._fields: set[str] = set()
        #: Fields that variables may hold, or hold a part of.
        self._held: set[str] = set()
        #: The variables that are used as numbers.
        self._variables: set[object] = set()
        #: The names that are assigned, or looped with.
        self._assigned: set[object] = set()

    def result(self) -> frozenset[str]:
        fields = set(self._fields)
        if self._variables - (_ROOTS - self._assigned):
            fields |= self._held
        if fields and ("item" in self._assigned or fields >= ALL_FIELDS):
            return ALL_FIELDS
        return frozenset(fields)

    def visit_nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for expression in node.expressions():
                self.visit(expression, is_number=isinstance(node, CaseNode))
                if isinstance(node, AssignNode | ForNode):
                    self._held.update(_find_fields(expression))
            if isinstance(node, AssignNode):
                self._assigned.add(str(node.name))
            elif isinstance(node, ForNode):
                self._assigned.add(str(node.expression.identifier))
            self.visit_nodes(node.children(STATIC))

    def visit(self, expression: Expression, *, is_number: bool = False) -> None:
        if isinstance(expression, Path):
            self._visit_path(expression, is_number=is_number)
        elif isinstance(expression, FilteredExpression):
            calls = expression.filters or ()
            computes = is_number or any(_needs_numbers(call.name) for call in calls)
            for child in expression.children():
                self.visit(child, is_number=computes)
        elif isinstance(expression, LoopExpression):
            self.visit(expression.iterable)
            for bound in (expression.limit, expression.offset):
                if bound is not None:
                    self.visit(bound, is_number=True)
        else:
            uses_numbers = isinstance(expression, (*VALUE_OPERATORS, ANY_EXPRESSION, RangeLiteral))
            for child in expression.children():
                self.visit(child, is_number=is_number or uses_numbers)

    def _visit_path(self, path: Path, *, is_number: bool) -> None:
        for child in path.children():
            self.visit(child, is_number=True)
        if is_number:
            self._fields.update(_find_fields(path))
            if path.path[0] != "item":
                self._variables.add(path.path[0])


def _needs_numbers(name: str) -> bool:
    """Return whether a filter takes a decimal in another way than its text."""
    called = FILTERS.get(name)
    return called is not None and not called.takes_text and name not in _NEUTRAL_FILTERS


def _find_fields(expression: Expression) -> set[str]:
    """Return the item's fields that the paths in an expression start with."""
    if not isinstance(expression, Path):
        return {field for child in expression.children() for field in _find_fields(child)}
    root, *names = expression.path
    if isinstance(root, Path):
        return set(ALL_FIELDS)  # the name may be that of the item
    if root != "item":
        return set()
    name = names[0] if names else None
    return {name} if isinstance(name, str) else set(ALL_FIELDS)
