"""The expressions that most templates are made of, evaluated in as few steps as they need.

python-liquid makes them while it parses; `hardening` puts ours in their places. They mean the same.
"""

from liquid import Expression
from liquid.builtin.expressions import Filter as FilterCall
from liquid.builtin.expressions import FilteredExpression, KeywordArgument, LoopExpression, Path

from ringback.models.templates.budget import BadArgument, Refusal
from ringback.models.templates.environment import Context
from ringback.models.templates.errors import unknown
from ringback.models.templates.filters import FILTERS


class PlainPath(Path):
    """A path of names, such as `item.customer.name`; where it meets more than objects, Context knows the way."""

    __slots__ = ("_names", "_root", "_text")

    def __init__(self, path: Path) -> None:
        super().__init__(path.token, path.path)
        self._root, *self._names = [str(name) for name in path.path]
        self._text = super().__str__()

    def __str__(self) -> str:
        return self._text  # loops ask for it each time they begin

    def evaluate(self, context: Context) -> object:  # type: ignore[override]  # there is no other one
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

    def evaluate(self, left: object, context: Context) -> object:  # type: ignore[override]  # there is no other one
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


def straighten(expression: Expression) -> None:
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
