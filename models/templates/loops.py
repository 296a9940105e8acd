"""`{% for … %}` in as few steps as it needs: python-liquid's loops, gone through without a call for each round of them.

What the rounds are, what `forloop` knows, and how loops end, is as in python-liquid.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from liquid import BlockNode, Token
from liquid.builtin.expressions import LoopExpression
from liquid.builtin.tags.for_tag import ForLoop, ForNode
from liquid.exceptions import BreakLoop, ContinueLoop

if TYPE_CHECKING:
    from ringback.models.templates.environment import Context


class LoopNode(ForNode):
    """A loop with its block."""

    __slots__ = ("_is_whole", "_key")

    def __init__(
        self, token: Token, expression: LoopExpression, block: BlockNode, default: BlockNode | None = None
    ) -> None:
        super().__init__(token, expression, block, default)
        self._is_whole = expression.limit is None and expression.offset is None and not expression.reversed
        #: python-liquid's name of the loop.
        self._key = f"{expression.identifier}-{expression.iterable}"

    def render_to_output(self, context: "Context", buffer: TextIO) -> int:  # type: ignore[override]  # no other one
        """Write the block for each round."""
        rounds, length = self._rounds(context)
        if not length:
            return self.default.render(context, buffer) if self.default else 0
        forloop = ForLoop(self._key, rounds, length, context.parentloop())
        name = self.expression.identifier
        names: dict[str, object] = {"forloop": forloop, name: None}
        # A block of nothing but white space writes nothing.
        nodes = [self.block] if self.block.blank else self.block.nodes
        written = 0
        # How deep loops are and how often they run is counted elsewhere.
        context.loops.append(forloop)
        context.scope.push(names)
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
            context.scope.pop()
            context.loops.pop()
        return written

    render = render_to_output  # type: ignore[assignment]  # no tags are disabled anywhere

    def _rounds(self, context: "Context") -> tuple[Iterator[object], int]:
        """Return what the loop goes over, and how many rounds there are."""
        if not self._is_whole:
            return self.expression.evaluate(context)
        found = self.expression.iterable.evaluate(context)
        if type(found) is list:
            rounds, length = iter(found), len(found)
        else:
            rounds, length = self.expression._to_iter(found, context)
        context.stopindex(self._key, length)
        return rounds, length
