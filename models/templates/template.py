"""Compiled templates and conditions, and their caches.

A text is parsed once and rendered many times. Rendering reads only its scope and the clock: for the filter `date` with
"now", and for the time limit. Compiled objects never change, so threads may share them.
"""

from collections.abc import Mapping
from threading import Lock
from typing import TextIO, cast

from cachetools import LRUCache, cached
from liquid import Expression
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import BooleanExpression, Path
from liquid.template import BoundTemplate

from ringback.models.templates.budget import Meter, TimeUp
from ringback.models.templates.charset import BodyEncoder
from ringback.models.templates.decimal_fields import NO_DECIMALS, DecimalFields
from ringback.models.templates.errors import translate_render_error
from ringback.models.templates.number_use import find_number_fields, find_number_fields_of
from ringback.models.templates.render_context import OutputBuffer, TemplateContext
from ringback.models.templates.syntax.environment import EMPTY_TEMPLATE
from ringback.models.templates.syntax.parser import parse_condition, parse_template

#: Source text that each cache holds, in characters. Syntax trees take up to 150 times as much memory, and the garbage
#: collector walks all of it.
_CACHE_CHARACTERS = 262_144
#: Characters that an entry counts for besides its source.
_ENTRY_CHARACTERS = 100
#: Fields of `event` that are known before the event is written.
_FACTS_OF_CHANGE = ("model", "action", "changed_fields")


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
        self,
        scope: Mapping[str, object],
        decimals: DecimalFields = NO_DECIMALS,
        *,
        encoder: BodyEncoder | None = None,
        meter: Meter | None = None,
    ) -> str:
        """Return the rendered text for these root names. Raises TemplateError.

        `decimals` are the item's decimal fields. Pass the `encoder` of the text if its charset is not UTF-8, and
        `meter` to share one time limit with other templates.
        """
        if self.text is not None:
            return self.text
        meter = meter or Meter()
        meter.start_template()
        if self._number_fields:
            scope = _convert_decimals(scope, decimals, self._number_fields, meter)
        context = TemplateContext(self._bound, scope, meter, encoder)
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

    __slots__ = ("_expression", "_number_fields", "reads_identity", "source")

    def __init__(self, expression: BooleanExpression, source: str) -> None:
        self._expression = expression
        self._number_fields = find_number_fields_of(expression)
        #: Whether the condition may read `event.id` or `event.created_at`, which an event gets when it is written.
        self.reads_identity = _reads_identity(expression)
        self.source = source

    def holds(
        self, scope: Mapping[str, object], decimals: DecimalFields = NO_DECIMALS, meter: Meter | None = None
    ) -> bool:
        """Return whether the condition holds for these root names. An undefined name counts as false.

        `decimals` are the item's decimal fields. Pass `meter` to use a limit other than RENDER_BUDGET_MS, or to share
        one limit among several templates. Raises TemplateError.
        """
        meter = meter or Meter()
        meter.start_template()
        if self._number_fields:
            scope = _convert_decimals(scope, decimals, self._number_fields, meter)
        context = TemplateContext(EMPTY_TEMPLATE, scope, meter)
        try:
            return self._expression.evaluate(context)
        except Exception as error:
            raise translate_render_error(error, context.token) from error


def _convert_decimals(
    scope: Mapping[str, object], decimals: DecimalFields, fields: frozenset[str], meter: Meter
) -> Mapping[str, object]:
    try:
        return decimals.convert(scope, fields, meter)
    except TimeUp as error:
        raise translate_render_error(error, None) from error


def _reads_identity(expression: Expression) -> bool:
    if isinstance(expression, Path):
        root, *names = expression.path
        is_event = root == "event" or isinstance(root, Path)
        if is_event and (not names or names[0] not in _FACTS_OF_CHANGE):
            return True
    return any(_reads_identity(child) for child in expression.children())


def _count_characters(compiled: Template | Condition) -> int:
    return len(compiled.source) + _ENTRY_CHARACTERS


_templates: LRUCache[str, Template] = LRUCache(_CACHE_CHARACTERS, _count_characters)
_conditions: LRUCache[str, Condition] = LRUCache(_CACHE_CHARACTERS, _count_characters)


@cached(_templates, key=str, lock=Lock())
def compile_template(source: str) -> Template:
    """Return the compiled template, cached. Raises TemplateError with line and column."""
    return Template(parse_template(source), source)


@cached(_conditions, key=str, lock=Lock())
def compile_condition(expression: str) -> Condition:
    """Return the compiled condition, cached. Raises TemplateError with line and column.

    Example: `item.status == "DONE" and event.changed_fields contains "status"`. As in Liquid, `and` and `or` have equal
    precedence and are evaluated from right to left.
    """
    return Condition(parse_condition(expression), expression)


def is_template_compiled(source: str) -> bool:
    """Return whether a template is in the cache, so that compiling it takes no time."""
    return source in _templates


def is_condition_compiled(expression: str) -> bool:
    """Return whether a condition is in the cache, so that compiling it takes no time."""
    return expression in _conditions
