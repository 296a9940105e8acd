"""python-liquid as Ringback runs it: the tags, and the environment in which templates are parsed.

Tags are an allow-list, the lexer's: nothing reads files, and there is no autoescape.
"""

from collections.abc import Mapping
from typing import TextIO

from liquid import Environment, FalsyStrictUndefined, Node, RenderContext
from liquid.builtin import content, output
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.tags import cycle_tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_CONTENT, TOKEN_OUTPUT

from ringback.models.templates.fast_path import LoopNode
from ringback.models.templates.formatting import text_of
from ringback.models.templates.lexer import REFUSED_TAGS
from ringback.models.templates.render_context import TemplateContext


class TextNode(content.ContentNode):
    """Text between the markup; its writing takes no time that is worth looking at the clock."""

    __slots__ = ()

    def render(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the text."""
        return buffer.write(self.text)


class PrintNode(output.OutputNode):
    """`{{ … }}` and `{% echo … %}`, with our text for values."""

    __slots__ = ()

    def render_to_output(self, context: TemplateContext, buffer: TextIO) -> int:  # type: ignore[override]  # there is no other
        """Write the value."""
        expression = self.expression
        if type(expression) is FilteredExpression:
            value = expression.left.evaluate(context)
            for one in expression.filters or ():
                value = one.evaluate(value, context)
        else:
            value = expression.evaluate(context)
        if type(value) is str:  # most are, and need no time that is worth looking at the clock
            return buffer.write(value)
        written = buffer.write(text_of(value))
        context.meter.tick()
        return written

    render = render_to_output  # type: ignore[assignment]


class CycleNode(cycle_tag.CycleNode):
    """`{% cycle … %}`, which remembers its place by how it is written, not by the repr of its values."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the next value."""
        group = text_of(self.group.evaluate(context)) if self.group else str(self)
        return buffer.write(text_of(self.args[context.cycle(group, len(self.args)) % len(self.args)].evaluate(context)))


#: The nodes of our own, by their tags.
_NODES: Mapping[str, type[Node]] = {
    TOKEN_CONTENT: TextNode,
    TOKEN_OUTPUT: PrintNode,
    "cycle": CycleNode,
    "echo": PrintNode,
    "for": LoopNode,
}

#: The only environment that templates are parsed in. Filters are bound to expressions when these are parsed.
ENVIRONMENT = Environment(undefined=FalsyStrictUndefined)
ENVIRONMENT.filters.clear()
for _name in REFUSED_TAGS:
    ENVIRONMENT.tags.pop(_name, None)
for _name, _node_class in _NODES.items():
    ENVIRONMENT.tags[_name].node_class = _node_class  # type: ignore[attr-defined]  # each of these has one

NOTHING = BoundTemplate(ENVIRONMENT, [])
#: For looking at syntax trees without rendering them.
STATIC = RenderContext(NOTHING)
