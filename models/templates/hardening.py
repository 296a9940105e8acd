"""Closes in a parsed template what python-liquid leaves open.

Its nodes and expressions are fixed at parse time by static methods that cannot be replaced, so the tree is changed
afterwards: every block begins with a checkpoint, and every range gets an end that is checked when it is evaluated.
"""

from collections.abc import Iterable
from typing import TextIO, cast

from liquid import BlockNode, Expression, Node, RenderContext, Token
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral
from liquid.limits import to_int
from liquid.token import TOKEN_TAG

from ringback.models.templates.budget import MAX_EXPRESSION_DEPTH, MAX_ITEMS, LimitReached
from ringback.models.templates.environment import STATIC
from ringback.models.templates.fast_path import use_fast_expressions
from ringback.models.templates.render_context import TemplateContext


class Checkpoint(Node):
    """Stands first in every block, so that no loop and no branch runs uncounted."""

    __slots__ = ()

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Count the block and print nothing."""
        ours = cast(TemplateContext, context)  # there is no other way to render than ours
        ours.token = self.token
        ours.meter.step()
        return 0

    render = render_to_output  # no tags are disabled anywhere


class _RangeEnd(Expression):
    """The end of a range, which must not be far from its start; loops, filters and `contains` all walk along ranges."""

    __slots__ = ("start", "stop")

    def __init__(self, start: Expression, stop: Expression) -> None:
        super().__init__(stop.token)
        self.start = start
        self.stop = stop

    def __str__(self) -> str:
        return str(self.stop)

    def evaluate(self, context: RenderContext) -> int:
        stop = _whole(self.stop.evaluate(context))
        if stop - _whole(self.start.evaluate(context)) >= MAX_ITEMS:
            raise LimitReached(f"a range has at most {MAX_ITEMS} elements")
        return stop

    def children(self) -> list[Expression]:
        return [self.stop]


def harden(nodes: Iterable[Node], tag: Token | None = None) -> None:
    """Put the checkpoints into a parsed template and bound its ranges; raises LimitReached for what cannot pass."""
    for node in nodes:
        inner = node.token if node.token.kind == TOKEN_TAG else tag
        for expression in node.expressions():
            harden_expression(expression)
        if isinstance(node, BlockNode):
            node.nodes.insert(0, Checkpoint(tag or node.token))
        harden(node.children(STATIC), inner)


def harden_expression(expression: Expression, depth: int = 0) -> None:
    """Bound the ranges in an expression; raises LimitReached for one that is too deep, or a range that is too long."""
    use_fast_expressions(expression)
    try:
        if depth > MAX_EXPRESSION_DEPTH:
            raise LimitReached("this expression is nested too deeply")
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


def _whole(value: object) -> int:
    """Read an end of a range as python-liquid does."""
    try:
        return to_int(value)
    except (TypeError, ValueError):
        return 0
