"""Changes to a parsed template that enforce the limits which python-liquid leaves open.

python-liquid creates its nodes and expressions in static methods that cannot be overridden. So the tree is changed
after parsing: every block starts with a checkpoint, and every range checks its length when it is evaluated.
"""

from collections.abc import Iterable
from typing import TextIO, cast

from liquid import BlockNode, Expression, Node, RenderContext, Token
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral
from liquid.limits import to_int
from liquid.token import TOKEN_TAG

from ringback.models.templates.budget import MAX_EXPRESSION_DEPTH, MAX_ITEMS, LimitReached
from ringback.models.templates.render_context import TemplateContext
from ringback.models.templates.syntax.environment import STATIC
from ringback.models.templates.syntax.fast_path import use_own_expressions


class Checkpoint(Node):
    """The first node of every block, which counts the block as a step."""

    __slots__ = ()

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Count the block and print nothing."""
        template_context = cast(TemplateContext, context)  # every render uses this class
        template_context.token = self.token
        template_context.meter.add_step()
        return 0

    render = render_to_output  # no tag is ever disabled


class _RangeEnd(Expression):
    """The end of a range, bounded because loops, filters and `contains` iterate over ranges."""

    __slots__ = ("start", "stop")

    def __init__(self, start: Expression, stop: Expression) -> None:
        super().__init__(stop.token)
        self.start = start
        self.stop = stop

    def __str__(self) -> str:
        return str(self.stop)

    def evaluate(self, context: RenderContext) -> int:
        stop = _to_bound(self.stop.evaluate(context))
        if stop - _to_bound(self.start.evaluate(context)) >= MAX_ITEMS:
            raise LimitReached(f"The range has more than {MAX_ITEMS:,} elements. Use a shorter one")
        return stop

    def children(self) -> list[Expression]:
        return [self.stop]


def harden(nodes: Iterable[Node], tag: Token | None = None) -> None:
    """Insert the checkpoints and harden all expressions.

    `tag` is the token of the enclosing tag. Raises LimitReached for an expression that cannot stay within the limits.
    """
    for node in nodes:
        inner_tag = node.token if node.token.kind == TOKEN_TAG else tag
        for expression in node.expressions():
            harden_expression(expression)
        if isinstance(node, BlockNode):
            node.nodes.insert(0, Checkpoint(tag or node.token))
        harden(node.children(STATIC), inner_tag)


def harden_expression(expression: Expression, depth: int = 0) -> None:
    """Bind the filters of an expression and bound its ranges.

    Raises LimitReached for an expression that is nested too deeply, and for a literal range that is too long.
    """
    use_own_expressions(expression)
    try:
        if depth > MAX_EXPRESSION_DEPTH:
            raise LimitReached(
                f"The expression has more than {MAX_EXPRESSION_DEPTH} nested operators. Split it into several tags"
            )
        if isinstance(expression, RangeLiteral):
            start, stop = expression.start, expression.stop
            expression.stop = _RangeEnd(start, stop)
            if isinstance(start, IntegerLiteral) and isinstance(stop, IntegerLiteral):
                expression.evaluate(STATIC)
    except LimitReached as error:
        error.token = expression.token
        raise
    for child in expression.children():
        harden_expression(child, depth + 1)


def _to_bound(value: object) -> int:
    """Convert one end of a range to an integer as python-liquid does."""
    try:
        return to_int(value)
    except (TypeError, ValueError):
        return 0
