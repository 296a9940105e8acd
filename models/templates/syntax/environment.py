"""The python-liquid environment that parses templates: the allowed tags, and Ringback's own nodes for some of them.

The lexer lists the allowed tags. No tag reads files, and there is no autoescape.
"""

from collections.abc import Mapping
from typing import Any, TextIO

from liquid import BlockNode, Environment, Expression, FalsyStrictUndefined, Node, RenderContext, Token
from liquid.builtin import output
from liquid.builtin.tags import case_tag, cycle_tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_OUTPUT

from ringback.models.templates.formatting import to_text
from ringback.models.templates.render_context import TemplateContext
from ringback.models.templates.syntax.comparisons import AnyEqual
from ringback.models.templates.syntax.fast_path import LoopNode
from ringback.models.templates.syntax.lexer import REFUSED_TAGS


class PrintNode(output.OutputNode):
    """`{{ … }}` and `{% echo … %}`, which print values as `to_text` formats them."""

    __slots__ = ()

    def render_to_output(self, context: TemplateContext, buffer: TextIO) -> int:  # type: ignore[override]  # always this class
        """Write the value of the expression."""
        value = self.expression.evaluate(context)
        if type(value) is str:  # the usual case, too cheap to read the clock
            return buffer.write(value)
        length = buffer.write(to_text(value))
        context.meter.tick()
        return length

    render = render_to_output  # type: ignore[assignment]


class CaseNode(case_tag.CaseNode):
    """`{% case … %}`, whose values are compared as `==` compares."""

    __slots__ = ()

    def __init__(
        self, token: Token, expression: Expression, blocks: list[case_tag.MultiExpressionBlockNode | BlockNode]
    ) -> None:
        super().__init__(token, expression, blocks)
        for block in blocks:
            if isinstance(block, case_tag.MultiExpressionBlockNode):
                values = block.expression
                block.expression = AnyEqual(values.token, values.left, values.expressions)


class CycleNode(cycle_tag.CycleNode):
    """`{% cycle … %}`. An unnamed cycle is identified by its source text, not by the repr of its values."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the next value."""
        group = to_text(self.group.evaluate(context)) if self.group else str(self)
        index = context.cycle(group, len(self.args))
        if index >= len(self.args):  # the cycle of this name was longer before
            return 0
        value = self.args[index].evaluate(context)
        return buffer.write(to_text(value))


#: Ringback's nodes, by their tags.
_NODES: Mapping[str, type[Node]] = {
    TOKEN_OUTPUT: PrintNode,
    "case": CaseNode,
    "cycle": CycleNode,
    "echo": PrintNode,
    "for": LoopNode,
}

#: The environment of all templates. It has no filters: `hardening` binds them to expressions when these are parsed.
ENVIRONMENT = Environment(undefined=FalsyStrictUndefined)
ENVIRONMENT.filters.clear()
for _name in REFUSED_TAGS:
    ENVIRONMENT.tags.pop(_name, None)
for _name, _node_class in _NODES.items():
    _tag: Any = ENVIRONMENT.tags[_name]  # its class does not declare `node_class`, which all of these tags have
    _tag.node_class = _node_class

EMPTY_TEMPLATE = BoundTemplate(ENVIRONMENT, [])
#: A context for reading syntax trees without rendering them.
STATIC = RenderContext(EMPTY_TEMPLATE)
