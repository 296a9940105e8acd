"""Compiled templates and conditions, and their caches.

A text is parsed once and rendered many times. Rendering reads only its scope and the clock: for the filter `date` with
"now", and for the time limit. Compiled objects never change, so threads may share them.
"""

from collections.abc import Mapping
from threading import Lock
from typing import TextIO, cast

from cachetools import LRUCache, cached
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import BooleanExpression
from liquid.template import BoundTemplate

from ringback.models.templates.charset import BodyEncoder
from ringback.models.templates.decimal_fields import NO_DECIMALS, DecimalFields
from ringback.models.templates.environment import EMPTY_TEMPLATE
from ringback.models.templates.errors import translate_render_error
from ringback.models.templates.number_use import find_number_fields, find_number_fields_of
from ringback.models.templates.parser import parse_condition, parse_template
from ringback.models.templates.render_context import OutputBuffer, TemplateContext

#: Source text that each cache holds, in characters. Syntax trees take up to 150 times as much memory, and the garbage
#: collector walks all of it.
_CACHE_CHARACTERS = 262_144
#: Characters that an entry counts for besides its source.
_ENTRY_CHARACTERS = 100


class Template:
    """A parsed Liquid template. `text` is the output of a template without any Liquid markup, else None."""

    __slots__ = ("_bound", "_number_fields", "source", "text")

    def __init__(self, bound: BoundTemplate, source: str) -> None:
        self._bound = bound
        self.source = source
        self._number_fields = find_number_fields(bound.nodes)
        self.text: str | None = None
        texts = [node.text for node in bound.nodes if isinstance(node, ContentNode)]
        if len(texts) == len(bound.nodes):
            self.text = "".join(texts)

    def render(
        self, scope: Mapping[str, object], decimals: DecimalFields = NO_DECIMALS, *, encoder: BodyEncoder | None = None
    ) -> str:
        """Return the rendered text for these root names. Raises TemplateError.

        `decimals` are the item's decimal fields. `encoder` will encode the text, and is given if that is not in UTF-8.
        """
        if self.text is not None:
            return self.text
        if self._number_fields:
            scope = decimals.convert(scope, self._number_fields)
        context = TemplateContext(self._bound, scope, encoder)
        buffer = OutputBuffer(context.meter)
        output = cast(TextIO, buffer)
        try:
            for node in self._bound.nodes:
                context.token = node.token
                node.render(context, output)
            return buffer.getvalue()
        except Exception as error:
            raise translate_render_error(error, context.token) from error


class Condition:
    """A parsed boolean expression of Liquid."""

    __slots__ = ("_expression", "_number_fields", "source")

    def __init__(self, expression: BooleanExpression, source: str) -> None:
        self._expression = expression
        self._number_fields = find_number_fields_of(expression)
        self.source = source

    def holds(self, scope: Mapping[str, object], decimals: DecimalFields = NO_DECIMALS) -> bool:
        """Return whether the condition holds for these root names. An undefined name is false.

        `decimals` are the item's decimal fields. Raises TemplateError.
        """
        if self._number_fields:
            scope = decimals.convert(scope, self._number_fields)
        context = TemplateContext(EMPTY_TEMPLATE, scope)
        try:
            return self._expression.evaluate(context)
        except Exception as error:
            raise translate_render_error(error, context.token) from error


def _count_characters(compiled: Template | Condition) -> int:
    return len(compiled.source) + _ENTRY_CHARACTERS


@cached(LRUCache(_CACHE_CHARACTERS, _count_characters), key=str, lock=Lock())
def compile_template(source: str) -> Template:
    """Return the compiled template, cached. Raises TemplateError with line and column."""
    return Template(parse_template(source), source)


@cached(LRUCache(_CACHE_CHARACTERS, _count_characters), key=str, lock=Lock())
def compile_condition(expression: str) -> Condition:
    """Return the compiled condition, cached. Raises TemplateError with line and column.

    Example: `item.status == "DONE" and event.changed_fields contains "status"`. As in Liquid, `and` and `or` have equal
    precedence and are evaluated from right to left.
    """
    return Condition(parse_condition(expression), expression)
