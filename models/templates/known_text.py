"""The text that a template renders from its constants, whatever the data.

The nodes of the template are rendered in order, without `item` and `event`. A node that reads either of them, or a name
that an earlier one may have changed, is skipped. So a text is taken for known only if no data can change it.
"""

from collections.abc import Iterable, Iterator
from typing import NoReturn, TextIO, cast

from liquid import Node
from liquid.builtin.tags.cycle_tag import CycleNode
from liquid.builtin.tags.decrement_tag import DecrementNode
from liquid.builtin.tags.for_tag import ForNode
from liquid.builtin.tags.ifchanged_tag import IfChangedNode
from liquid.builtin.tags.increment_tag import IncrementNode

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import Meter, Refusal
from ringback.models.templates.errors import translate_render_error
from ringback.models.templates.render_context import OutputBuffer, TemplateContext
from ringback.models.templates.syntax.environment import STATIC
from ringback.models.templates.syntax.parser import parse_template

#: Stands for text that depends on data. A noncharacter, which no text of a URL contains.
UNKNOWN = "\ufdd0"
#: Nodes that change what later nodes print, other than by names.
_STATEFUL = (CycleNode, DecrementNode, ForNode, IfChangedNode, IncrementNode)


def render_known_text(source: str) -> str:
    """Return what a template renders, with UNKNOWN for each part that depends on data.

    The text ends with UNKNOWN where rendering fails. Raises TemplateError if the template cannot be parsed.
    """
    bound = parse_template(source)
    hidden = _HiddenNames(item=None, event=None)
    context = TemplateContext(bound, hidden, Meter())
    pieces: list[str] = []
    for node in bound.nodes:
        try:
            pieces.append(_render_node(node, context))
        except _DependsOnData:
            tree = list(_walk(node))
            for name in _assigned_names(tree):
                hidden[name] = None
                context.locals.pop(name, None)
            if not node.blank:
                pieces.append(UNKNOWN)
            if any(isinstance(inner, _STATEFUL) for inner in tree):
                return "".join([*pieces, UNKNOWN])
        except TemplateError:
            return "".join([*pieces, UNKNOWN])
    return "".join(pieces)


class _DependsOnData(Refusal):
    """The end of a node that reads a hidden name."""


class _HiddenNames(dict[str, None]):
    """The names whose values are unknown, as keys. Reading one raises _DependsOnData."""

    def __getitem__(self, name: str) -> NoReturn:
        raise _DependsOnData(f"{name} is unknown")


def _render_node(node: Node, context: TemplateContext) -> str:
    """Return the output of a node. Raises _DependsOnData or TemplateError."""
    buffer = OutputBuffer(context.meter)
    try:
        node.render(context, cast(TextIO, buffer))
        return buffer.getvalue()
    except _DependsOnData:
        raise
    except Exception as error:
        raise translate_render_error(error, context.token) from error


def _walk(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes in it."""
    yield node
    for child in node.children(STATIC):
        yield from _walk(child)


def _assigned_names(tree: Iterable[Node]) -> set[str]:
    return {str(name) for node in tree for name in node.template_scope()}
