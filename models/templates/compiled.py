"""Compiled templates and conditions, and the cache of them.

A text is parsed once and rendered many times. Rendering is pure: it reads its scope, and the clock only for the filter
`date` on "now" and for the time it may take. Compiled objects are never changed, so threads may share them.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Generic, TypeVar

from liquid.builtin.expressions import BooleanExpression
from liquid.template import BoundTemplate

from .environment import ENVIRONMENT, Buffer, Context
from .parsing import parse_condition, parse_template
from .problems import render_problem

#: Source text that each cache holds, in characters. The syntax trees take up to 150 times as much memory, and the
#: garbage collector has to walk all of it.
_CACHE_CHARACTERS = 262_144
#: What an entry counts for besides its text, in characters.
_CACHE_ENTRY = 100


class Template:
    """A parsed Liquid template."""

    __slots__ = ("_bound",)

    def __init__(self, bound: BoundTemplate) -> None:
        self._bound = bound

    def render(self, scope: Mapping[str, object]) -> str:
        """Return the text for these root names; raises TemplateError for an unknown name, a limit, any failure."""
        context = Context(self._bound, scope)
        buffer = Buffer(context.meter)
        try:
            for node in self._bound.nodes:
                context.token = node.token
                node.render(context, buffer)
        except Exception as error:
            raise render_problem(error, context.token) from error
        return buffer.getvalue()


class Condition:
    """A parsed boolean expression of Liquid."""

    __slots__ = ("_expression",)

    def __init__(self, expression: BooleanExpression) -> None:
        self._expression = expression

    def holds(self, scope: Mapping[str, object]) -> bool:
        """Return whether it is true for these root names; an unknown name is false. Raises TemplateError."""
        context = Context(_NOTHING, scope)
        try:
            return self._expression.evaluate(context)
        except Exception as error:
            raise render_problem(error, context.token) from error


T = TypeVar("T")


class _Cache(Generic[T]):
    """Least recently used first out, by size of the text: its syntax tree grows with it."""

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._characters = 0
        self._lock = Lock()

    def __call__(self, source: str) -> T:
        with self._lock:
            if source in self._kept:
                self._kept.move_to_end(source)
                return self._kept[source]
        made = self._make(source)
        with self._lock:
            if source not in self._kept:
                self._kept[source] = made
                self._characters += len(source) + _CACHE_ENTRY
            while self._characters > _CACHE_CHARACTERS:
                oldest, _ = self._kept.popitem(last=False)
                self._characters -= len(oldest) + _CACHE_ENTRY
        return made


_NOTHING = BoundTemplate(ENVIRONMENT, [])
_templates = _Cache(lambda source: Template(parse_template(source)))
_conditions = _Cache(lambda expression: Condition(parse_condition(expression)))


def compile_template(source: str) -> Template:
    """Return the compiled template, from the cache if it is there; raises TemplateError with line and column."""
    return _templates(source)


def compile_condition(expression: str) -> Condition:
    """Return the compiled condition, such as `item.status == "DONE" and event.changed_fields contains "status"`.

    As in Liquid, `and` and `or` have no precedence and are read from the right. Raises TemplateError with line and
    column in `expression`.
    """
    return _conditions(expression)
