"""Compiled templates and conditions, and the cache of them.

A text is parsed once and rendered many times. Rendering is pure: it reads its scope, and the clock only for the filter
`date` on "now" and for the time it may take. Compiled objects are never changed, so threads may share them.
"""

from collections.abc import Mapping
from threading import Lock
from typing import TextIO, cast

from cachetools import LRUCache, cached
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import BooleanExpression
from liquid.template import BoundTemplate

from ringback.models.templates.environment import NOTHING
from ringback.models.templates.errors import render_problem
from ringback.models.templates.parser import parse_condition, parse_template
from ringback.models.templates.render_context import Buffer, TemplateContext

#: Source text that each cache holds, in characters. The syntax trees take up to 150 times as much memory, and the
#: garbage collector has to walk all of it. An entry counts as its text and 100 characters more.
_CACHE_CHARACTERS, _ENTRY_CHARACTERS = 262_144, 100


class Template:
    """A parsed Liquid template; `text` is what it renders to when it holds no Liquid, else None."""

    __slots__ = ("_bound", "source", "text")

    def __init__(self, bound: BoundTemplate, source: str) -> None:
        self._bound = bound
        self.source = source
        plain = [node.text for node in bound.nodes if isinstance(node, ContentNode)]
        self.text = "".join(plain) if len(plain) == len(bound.nodes) else None

    def render(self, scope: Mapping[str, object]) -> str:
        """Return the text for these root names; raises TemplateError for an unknown name, a limit, any failure."""
        if self.text is not None:
            return self.text
        context = TemplateContext(self._bound, scope)
        buffer = Buffer(context.meter)
        output = cast(TextIO, buffer)
        try:
            for node in self._bound.nodes:
                context.token = node.token
                node.render(context, output)
            return buffer.getvalue()
        except Exception as error:
            raise render_problem(error, context.token) from error


class Condition:
    """A parsed boolean expression of Liquid."""

    __slots__ = ("_expression", "source")

    def __init__(self, expression: BooleanExpression, source: str) -> None:
        self._expression = expression
        self.source = source

    def holds(self, scope: Mapping[str, object]) -> bool:
        """Return whether it is true for these root names; an unknown name is false. Raises TemplateError."""
        context = TemplateContext(NOTHING, scope)
        try:
            return self._expression.evaluate(context)
        except Exception as error:
            raise render_problem(error, context.token) from error


def _size(compiled: Template | Condition) -> int:
    return len(compiled.source) + _ENTRY_CHARACTERS


@cached(LRUCache(_CACHE_CHARACTERS, _size), key=str, lock=Lock())
def compile_template(source: str) -> Template:
    """Return the compiled template, from the cache if it is there; raises TemplateError with line and column."""
    return Template(parse_template(source), source)


@cached(LRUCache(_CACHE_CHARACTERS, _size), key=str, lock=Lock())
def compile_condition(expression: str) -> Condition:
    """Return the compiled condition, such as `item.status == "DONE" and event.changed_fields contains "status"`.

    As in Liquid, `and` and `or` have no precedence and are read from the right. Raises TemplateError with line and
    column in `expression`.
    """
    return Condition(parse_condition(expression), expression)
