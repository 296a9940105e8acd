"""Faster versions of the expressions and loops that most templates consist of.

They behave as python-liquid's do. `hardening` puts the expressions into the syntax tree, and `environment` registers
the loop as the node of `{% for … %}`.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, TextIO

from liquid import BlockNode, Expression, RenderContext, Token
from liquid.builtin.expressions import BooleanExpression, FilteredExpression, KeywordArgument, LoopExpression, Path
from liquid.builtin.expressions import Filter as FilterCall
from liquid.builtin.tags.for_tag import ForLoop, ForNode
from liquid.exceptions import BreakLoop, ContinueLoop

from ringback.models.templates.budget import BadArgument, Refusal
from ringback.models.templates.decimals import DecimalValue
from ringback.models.templates.errors import describe_unknown
from ringback.models.templates.filters.allow_list import FILTERS
from ringback.models.templates.render_context import TemplateContext
from ringback.models.templates.syntax.comparisons import ANY_EXPRESSION, OPERATORS, adapt_comparison


class PlainPath(Path):
    """A path of names, such as `item.customer.name`. Values other than objects are left to `TemplateContext.get`."""

    __slots__ = ("_names", "_root", "_text")

    def __init__(self, path: Path) -> None:
        super().__init__(path.token, path.path)
        self._root, *self._names = [str(name) for name in path.path]
        self._text = super().__str__()

    def __str__(self) -> str:
        return self._text  # each loop reads it when it starts

    def evaluate(self, context: TemplateContext) -> object:  # type: ignore[override]  # always this class
        """Return the value at this path."""
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
        if type(value) is list or type(value) is dict:  # comparing these takes long
            context.meter.tick()
        return value


class LoopPath(Path):
    """The path of the value that a loop runs over. A decimal is one element, as text is."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        super().__init__(path.token, path.path)
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def evaluate(self, context: TemplateContext) -> object:  # type: ignore[override]  # always this class
        """Return the value at this path."""
        value = self._path.evaluate(context)
        return value.source if type(value) is DecimalValue else value


class BoundFilter(FilterCall):
    """A filter call whose filter was looked up, and whose arguments were counted, when the template was parsed."""

    __slots__ = ("_filter", "misuse")

    def __init__(self, call: FilterCall) -> None:
        super().__init__(call.token, call.name, call.args)
        self._filter = FILTERS.get(call.name)
        keywords = [argument.name for argument in call.args if isinstance(argument, KeywordArgument)]
        positional_count = len(call.args) - len(keywords)
        #: Message about a wrong number or a wrong name of arguments, or None.
        self.misuse: str | None = None
        if self._filter is not None:
            self.misuse = self._filter.check_arguments(positional_count, keywords)

    def evaluate(self, left: object, context: TemplateContext) -> object:  # type: ignore[override]  # always this class
        """Return the filtered value. Raises Refusal, or UndefinedError for an undefined name."""
        context.token = self.token
        if self._filter is None:
            raise Refusal(describe_unknown("filter", self.name, FILTERS))
        if self.misuse is not None:
            raise BadArgument(self.misuse)
        if not self.args:
            return self._filter(context.meter, left)
        positional, keywords = self.evaluate_args(context)
        context.token = self.token  # evaluating the arguments changed it
        return self._filter(context.meter, left, positional, keywords)


class BoundUrlEncode(BoundFilter):
    """A call of `url_encode`, whose result depends on the charset of the body."""

    __slots__ = ()

    def evaluate(self, left: object, context: TemplateContext) -> object:  # type: ignore[override]  # always this class
        """Return the filtered value."""
        quoted = super().evaluate(left, context)
        if context.encoder is None or not isinstance(quoted, str):
            return quoted
        return context.encoder.requote(quoted)


class LimitedLoop(LoopExpression):
    """The expression of a loop. A limit of 0 or less leaves no elements, as in Shopify's."""

    __slots__ = ()

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

    def _slice(
        self,
        it: Iterator[object],
        length: int,
        context: RenderContext,
        *,
        limit: int | None,
        offset: int | str | None,
    ) -> tuple[Iterator[object], int]:
        key = f"{self.identifier}-{self.iterable}"
        start = context.stopindex(key) if offset == "continue" else int(offset or 0)
        first = min(max(start, 0), length)
        end = length
        if limit is not None:
            end = max(first, min(start + limit, length))
        context.stopindex(key, end)
        elements = islice(it, first, end)
        if self.reversed:
            return reversed(list(elements)), end - first
        return elements, end - first


class LoopNode(ForNode):
    """`{% for … %}` with its block, rendered without a call into python-liquid for each iteration."""

    __slots__ = ("_is_plain", "_key")

    def __init__(
        self, token: Token, expression: LoopExpression, block: BlockNode, default: BlockNode | None = None
    ) -> None:
        super().__init__(token, LimitedLoop(expression), block, default)
        #: Whether the loop has no limit, no offset and no `reversed`.
        self._is_plain = expression.limit is None and expression.offset is None and not expression.reversed
        #: The key under which python-liquid stores where the loop stopped, for `offset: continue`.
        self._key = f"{expression.identifier}-{expression.iterable}"

    def render_to_output(self, context: TemplateContext, buffer: TextIO) -> int:  # type: ignore[override]  # always this class
        """Write the block for each element, or the `else` block if there are none."""
        elements, count = self._evaluate_elements(context)
        if not count:
            return self.default.render(context, buffer) if self.default else 0
        forloop = ForLoop(self._key, elements, count, context.parentloop())
        name = self.expression.identifier
        names: dict[str, object] = {"forloop": forloop, name: None}
        # A blank block runs but writes nothing, which only `BlockNode.render` takes care of.
        nodes = [self.block] if self.block.blank else self.block.nodes
        length = 0
        # The lexer limits the depth of loops, and the checkpoints count the iterations.
        context.loops.append(forloop)
        context.scope.push(names)
        try:
            for element in elements:
                forloop.step()
                names[name] = element
                try:
                    for node in nodes:
                        length += node.render(context, buffer)
                except ContinueLoop:
                    continue
                except BreakLoop:
                    break
        finally:
            context.scope.pop()
            context.loops.pop()
        return length

    render = render_to_output  # type: ignore[assignment]  # no tag is ever disabled

    def _evaluate_elements(self, context: TemplateContext) -> tuple[Iterator[object], int]:
        """Return an iterator over the elements of the loop, and their number."""
        if not self._is_plain:
            return self.expression.evaluate(context)
        iterable = self.expression.iterable.evaluate(context)
        if type(iterable) is list:
            elements, count = iter(iterable), len(iterable)
        else:
            elements, count = self.expression._to_iter(iterable, context)
        context.stopindex(self._key, count)
        return elements, count


def use_own_expressions(expression: Expression) -> None:
    """Replace the parts of a python-liquid expression by faster ones, and by comparisons that handle decimals."""
    if isinstance(expression, FilteredExpression):
        expression.left = _to_own_expression(expression.left)
        expression.filters = [_bind_filter(call) for call in expression.filters or ()]
    elif isinstance(expression, LoopExpression):
        iterable = _to_own_expression(expression.iterable)
        expression.iterable = LoopPath(iterable) if isinstance(iterable, Path) else iterable
        expression.identifier = str(expression.identifier)  # a str is faster to compare than an Identifier
    elif isinstance(expression, BooleanExpression):
        expression.expression = _to_own_expression(expression.expression)
    elif isinstance(expression, OPERATORS):
        operator: Any = expression
        operator.left = _to_own_expression(operator.left)
        operator.right = _to_own_expression(operator.right)
    elif isinstance(expression, ANY_EXPRESSION):
        expression.left = _to_own_expression(expression.left)
        expression.expressions = [_to_own_expression(value) for value in expression.expressions]


def _bind_filter(call: FilterCall) -> BoundFilter:
    if call.name == "url_encode":
        return BoundUrlEncode(call)
    return BoundFilter(call)


def _to_own_expression(expression: Expression) -> Expression:
    if type(expression) is Path and all(isinstance(segment, str) for segment in expression.path):
        return PlainPath(expression)
    return adapt_comparison(expression)
