"""`{% for … %}` in as few steps as it needs: python-liquid's loops, gone through without a call for each round of them.

What the rounds are, what `forloop` knows, and how loops end, is as in python-liquid.
"""

from typing import TYPE_CHECKING, TextIO

from liquid import BlockNode, Token
from liquid.builtin.expressions import LoopExpression
from liquid.builtin.tags.for_tag import ForLoop, ForNode, ForTag
from liquid.exceptions import BreakLoop, ContinueLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .environment import Context


class Loop(LoopExpression):
    """`name in iterable`; `straight` knows it by this class."""

    __slots__ = ("key", "whole")

    def __init__(self, loop: LoopExpression) -> None:
        super().__init__(
            loop.token,
            loop.identifier,
            loop.iterable,
            limit=loop.limit,
            offset=loop.offset,
            reversed_=loop.reversed,
            cols=loop.cols,
        )
        #: Whether it goes over all that there is.
        self.whole = loop.limit is None and loop.offset is None and not loop.reversed
        #: What python-liquid knows the loop by; to be told when its parts have their final form.
        self.key = ""

    def evaluate(self, context: "Context") -> "tuple[Iterator[object], int]":  # type: ignore[override]  # no other one
        """Return what the loop goes over, and how many rounds there are."""
        if not self.whole:
            return super().evaluate(context)
        found = self.iterable.evaluate(context)
        if type(found) is list:
            rounds, length = iter(found), len(found)
        else:
            rounds, length = self._to_iter(found, context)
        context.stopindex(self.key, length)
        return rounds, length


class LoopNode(ForNode):
    """A loop with its block."""

    __slots__ = ()
    expression: Loop

    def __init__(
        self, token: Token, expression: LoopExpression, block: BlockNode, default: BlockNode | None = None
    ) -> None:
        super().__init__(token, Loop(expression), block, default)

    def render_to_output(self, context: "Context", buffer: TextIO) -> int:  # type: ignore[override]  # no other one
        """Write the block for each round."""
        rounds, length = self.expression.evaluate(context)
        if not length:
            return self.default.render(context, buffer) if self.default else 0
        forloop = ForLoop(self.expression.key, rounds, length, context.parentloop())
        name = self.expression.identifier
        names: dict[str, object] = {"forloop": forloop, name: None}
        # A block of nothing but white space writes nothing.
        nodes = [self.block] if self.block.blank else self.block.nodes
        written = 0
        context.enter_loop(names, forloop)
        try:
            for one in rounds:
                forloop.step()
                names[name] = one
                try:
                    for node in nodes:
                        written += node.render(context, buffer)
                except ContinueLoop:
                    continue
                except BreakLoop:
                    break
        finally:
            context.leave_loop()
        return written

    render = render_to_output  # type: ignore[assignment]  # no tags are disabled anywhere


class LoopTag(ForTag):
    """Makes them."""

    node_class = LoopNode
