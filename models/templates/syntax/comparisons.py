"""Comparisons as in python-liquid, but decimals are numbers, and `blank` equals nil and false as in Shopify's."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from liquid import Expression, RenderContext, Token
from liquid.builtin.expressions import Literal, logical
from liquid.builtin.expressions.primitive import Blank, StringLiteral
from liquid.builtin.tags import case_tag
from liquid.exceptions import LiquidTypeError
from liquid.undefined import is_undefined

from ringback.models.templates.decimals import DecimalValue, is_decimal
from ringback.models.templates.render_context import TemplateContext


class BlankValue(Blank):
    """The keyword `blank`."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is None or other is False or is_undefined(other) or super().__eq__(other)

    __hash__ = Blank.__hash__


class _Equal(logical.EqExpression):
    """`==` between values that may be decimals or blank."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        return _is_equal(self.left.evaluate(context), self.right.evaluate(context))


class _NotEqual(logical.NeExpression):
    """`!=` between values that may be decimals or blank."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        return not _is_equal(self.left.evaluate(context), self.right.evaluate(context))


class _Less(logical.LtExpression):
    """`<` between values that may be decimals."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        return _is_less(self.token, self.left.evaluate(context), self.right.evaluate(context))


class _Greater(logical.GtExpression):
    """`>` between values that may be decimals."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        return _is_less(self.token, right, left)


class _LessOrEqual(logical.LeExpression):
    """`<=` between values that may be decimals."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        return _is_at_most(self.token, self.left.evaluate(context), self.right.evaluate(context))


class _GreaterOrEqual(logical.GeExpression):
    """`>=` between values that may be decimals."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        return _is_at_most(self.token, right, left)


class _Contains(logical.ContainsExpression):
    """`contains` with any value on its left: a decimal is searched as text, other numbers contain nothing."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> bool:
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        if isinstance(left, DecimalValue):
            left = left.source
        cast(TemplateContext, context).meter.tick()  # every render uses this class
        try:
            return logical._contains(self.token, left, right)
        except LiquidTypeError:  # such as a number
            return False


class AnyEqual(case_tag._AnyExpression):
    """The values after `when`, compared as `==` compares."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> list[bool]:
        """Return for each value whether it equals that of the `case`."""
        left = self.left.evaluate(context)
        return [_is_equal(left, value.evaluate(context)) for value in self.expressions]


#: The classes that replace those of python-liquid.
_EQUALITIES: dict[type[Expression], Callable[[Token, Expression, Expression], Expression]] = {
    logical.EqExpression: _Equal,
    logical.NeExpression: _NotEqual,
}
_ORDERS: dict[type[Expression], Callable[[Token, Expression, Expression], Expression]] = {
    logical.LtExpression: _Less,
    logical.GtExpression: _Greater,
    logical.LeExpression: _LessOrEqual,
    logical.GeExpression: _GreaterOrEqual,
}
#: The expressions that compare two values for equality or order.
COMPARISONS: tuple[type[Expression], ...] = (*_EQUALITIES, *_ORDERS)
#: The expressions that look at two values.
VALUE_OPERATORS: tuple[type[Expression], ...] = (*COMPARISONS, logical.ContainsExpression)
#: The expressions with a `left` and a `right`.
OPERATORS: tuple[type[Expression], ...] = (
    *VALUE_OPERATORS,
    logical.LogicalAndExpression,
    logical.LogicalOrExpression,
)
#: The values after `when`, with the value of its `case` as `left`.
ANY_EXPRESSION = case_tag._AnyExpression


class Compared(NamedTuple):
    """Two expressions that are compared, for order or for equality only."""

    left: Expression
    right: Expression
    is_order: bool


def list_compared(expression: Any) -> list[Compared]:
    """Return the pairs of expressions that an expression compares for equality or order."""
    if isinstance(expression, ANY_EXPRESSION):
        return [Compared(expression.left, value, is_order=False) for value in expression.expressions]
    if not is_comparison(expression):
        return []
    return [Compared(expression.left, expression.right, is_order=isinstance(expression, tuple(_ORDERS)))]


def is_comparison(expression: Any) -> bool:
    """Return whether an expression compares two values for equality or order."""
    return isinstance(expression, COMPARISONS)


def adapt_comparison(expression: Any) -> Expression:
    """Return the comparison that handles decimals and `blank`, or the expression itself if python-liquid's does.

    Comparisons with a literal, which are most of them, only need it for text in quotes that is a number.
    """
    if type(expression) is Blank:
        return BlankValue(expression.token)
    kind: type[Expression] = type(expression)
    if kind is logical.ContainsExpression:
        return _Contains(expression.token, expression.left, expression.right)
    if kind in _EQUALITIES and not _has_literal(expression):
        return _EQUALITIES[kind](expression.token, expression.left, expression.right)
    if kind in _ORDERS and not _has_number(expression):
        return _ORDERS[kind](expression.token, expression.left, expression.right)
    unchanged: Expression = expression
    return unchanged


def _has_literal(comparison: Any) -> bool:
    if isinstance(comparison.left, Blank) or isinstance(comparison.right, Blank):
        return False
    return isinstance(comparison.left, Literal) or isinstance(comparison.right, Literal)


def _has_number(comparison: Any) -> bool:
    literals = [side for side in (comparison.left, comparison.right) if isinstance(side, Literal)]
    return any(not isinstance(literal, StringLiteral) for literal in literals)


def _is_equal(left: object, right: object) -> bool:
    if isinstance(left, Blank):
        return bool(left == right)
    if isinstance(right, Blank):
        return bool(right == left)
    return logical._eq(left, right)


def _is_less(token: Token, left: Any, right: Any) -> bool:
    if _is_decimal_with_text(left, right):
        return bool(left < right)
    return logical._lt(token, left, right)


def _is_at_most(token: Token, left: Any, right: Any) -> bool:
    if _is_decimal_with_text(left, right):
        return bool(left <= right)
    return logical._le(left, right)


def _is_decimal_with_text(left: object, right: object) -> bool:
    """Return whether one value is a decimal and the other a number in quotes. Webhooks saved earlier compare these."""
    if isinstance(left, DecimalValue):
        return isinstance(right, str) and is_decimal(right)
    return isinstance(right, DecimalValue) and isinstance(left, str) and is_decimal(left)
