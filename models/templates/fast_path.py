"""The expressions and loops that most templates are made of, evaluated in as few steps as they need.

They mean the same as python-liquid's, which makes its own while it parses: `hardening` puts our expressions in their
places, and `environment` registers the loop as the node of `{% for … %}`.
"""

from collections.abc import Iterator
from typing import TextIO

from liquid import BlockNode, Expression, Token
from liquid.builtin.expressions import Filter as FilterCall
from liquid.builtin.expressions import FilteredExpression, KeywordArgument, LoopExpression, Path
from liquid.builtin.tags.for_tag import ForLoop, ForNode
from liquid.exceptions import BreakLoop, ContinueLoop

from ringback.models.templates.budget import BadArgument, Refusal
from ringback.models.templates.errors import unknown
from ringback.models.templates.filters import FILTERS
from ringback.models.templates.render_context import TemplateContext


class PlainPath(Path):
    """A path of names, such as `item.customer.name`; where it meets more than objects, Context knows the way."""

    __slots__ = ("_names", "_root", "_text")

    def __init__(self, path: Path) -> None:
        super().__init__(path.token, path.path)
        self._root, *self._names = [str(name) for name in path.path]
        self._text = super().__str__()

    def __str__(self) -> str:
        return self._text  # loops ask for it each time they begin

    def evaluate(self, context: TemplateContext) -> object:  # type: ignore[override]  # there is no other one
        """Return what the path leads to."""
        context.token = self.token
        root = self._root
        try:
            for names in context.scope.maps:
                if root in names:
                    value = names[root]
                    break
            else:
                return super().evaluate(context)
            for name in self._names:
                if type(value) is not dict:
                    return super().evaluate(context)
                value = value[name]
        except KeyError:
            return super().evaluate(context)
        return value


class BoundFilter(FilterCall):
    """A filter that was found, and whose arguments were counted, when the template was parsed."""

    __slots__ = ("_filter", "misuse")

    def __init__(self, call: FilterCall) -> None:
        super().__init__(call.token, call.name, call.args)
        self._filter = FILTERS.get(call.name)
        named = [one.name for one in call.args if isinstance(one, KeywordArgument)]
        placed = len(call.args) - len(named)
        #: What is wrong with the number or the names of the arguments, or None.
        self.misuse = self._filter.misuse(placed, named) if self._filter else None

    def evaluate(self, left: object, context: TemplateContext) -> object:  # type: ignore[override]  # there is no other one
        """Return the filtered value; raises Refusal, or UndefinedError for an unknown name."""
        context.token = self.token
        if self._filter is None:
            raise Refusal(unknown("filter", self.name, FILTERS))
        if self.misuse is not None:
            raise BadArgument(self.misuse)
        if not self.args:
            return self._filter(context.meter, left)
        placed, named = self.evaluate_args(context)
        context.token = self.token  # the arguments have moved it
        return self._filter(context.meter, left, placed, named)


class LoopNode(ForNode):
    """`{% for … %}` with its block, gone through without a call of python-liquid's for each round."""

    __slots__ = ("_is_whole", "_key")

    def __init__(
        self, token: Token, expression: LoopExpression, block: BlockNode, default: BlockNode | None = None
    ) -> None:
        super().__init__(token, expression, block, default)
        self._is_whole = expression.limit is None and expression.offset is None and not expression.reversed
        #: python-liquid's name of the loop.
        self._key = f"{expression.identifier}-{expression.iterable}"

    def render_to_output(self, context: TemplateContext, buffer: TextIO) -> int:  # type: ignore[override]  # no other one
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

    def _rounds(self, context: TemplateContext) -> tuple[Iterator[object], int]:
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


def use_fast_expressions(expression: Expression) -> None:
    """Put our expressions into one of python-liquid's."""
    if isinstance(expression, FilteredExpression):
        expression.left = _plain(expression.left)
        expression.filters = [BoundFilter(call) for call in expression.filters or ()]
    elif isinstance(expression, LoopExpression):
        expression.iterable = _plain(expression.iterable)
        expression.identifier = str(expression.identifier)  # which Python compares faster than an Identifier


def _plain(expression: Expression) -> Expression:
    if type(expression) is Path and all(isinstance(one, str) for one in expression.path):
        return PlainPath(expression)
    return expression
