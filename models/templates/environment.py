"""python-liquid as Ringback runs it: tags of our own, what a name means, and where output is counted.

Tags are an allow-list, the lexer's: nothing reads files, and there is no autoescape. A name that does not exist may be
tested (`if`, `default`) but not printed. Steps through null, and elements past the end of a list, are null, as in
Liquid: data that is missing today must not fail a webhook that is right.
"""

from collections import deque
from collections.abc import Mapping
from typing import TextIO

from liquid import Environment, FalsyStrictUndefined, Node, RenderContext, Token
from liquid.builtin import content, output
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.tags import cycle_tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_CONTENT, TOKEN_OUTPUT
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from ringback.models.templates.budget import MAX_OUTPUT_BYTES, LimitReached, Meter
from ringback.models.templates.errors import quote
from ringback.models.templates.formatting import path_text, text_of
from ringback.models.templates.lexer import REFUSED_TAGS
from ringback.models.templates.loops import LoopNode


class Buffer:
    """Rendered text up to MAX_OUTPUT_BYTES; of TextIO it has what python-liquid's nodes use."""

    __slots__ = ("_meter", "_pieces", "_room")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._pieces: list[str] = []
        self._room = MAX_OUTPUT_BYTES

    def write(self, text: str, /) -> int:
        """Append `text`; raises LimitReached when it does not fit."""
        length = len(text)
        self._room -= length if text.isascii() else len(text.encode())
        if self._room < 0:
            raise LimitReached(f"the text is larger than {MAX_OUTPUT_BYTES} bytes")
        self._pieces.append(text)
        return length

    def getvalue(self) -> str:
        """All that was written, which is counted as work now that it is whole; raises LimitReached."""
        text = "".join(self._pieces)
        self._meter.work(len(text))
        return text


class Captured(Buffer):
    """What `capture` holds; it may be left by a `break`, so each piece is counted as it comes."""

    __slots__ = ()

    def write(self, text: str, /) -> int:
        """Append `text`; raises LimitReached when it does not fit, or is too much work."""
        length = super().write(text)
        self._meter.work(length)
        return length

    def getvalue(self) -> str:
        """All that was written."""
        return "".join(self._pieces)


class Names(ReadOnlyChainMap):
    """The names of a render, innermost first in `maps`."""

    def __init__(self, *maps: Mapping[str, object]) -> None:
        self.maps = self._maps = deque(maps)

    def __getitem__(self, key: str) -> object:
        for names in self.maps:
            if key in names:  # most are not in the first one, and an exception costs more than looking twice
                return names[key]
        raise KeyError(key)


class Context(RenderContext):
    """The state of one render: its names, its meter, and the token it stands at."""

    __slots__ = ("meter", "token")
    scope: Names

    def __init__(self, template: BoundTemplate, scope: Mapping[str, object]) -> None:
        # Not by python-liquid's own, which makes what only tags need that are not available here.
        self.env = ENVIRONMENT
        self.template = template
        self.locals = {}
        self.globals = scope
        self.counters = {}
        # Without python-liquid's `now` and `today`, which no check of a template would know.
        self.scope = Names(self.locals, scope, self.counters)
        self.tag_namespace = {"cycles": {}, "ifchanged": "", "stopindex": {}}
        self.loops = []
        self.disabled_tags = _DISABLED
        self.autoescape = False
        self.meter = Meter()
        self.token: Token | None = None

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        """Return what a path leads to: null past null, an Undefined for a name that does not exist."""
        self.token = token
        self.meter.tick()
        try:
            value = self.scope[path[0]]  # type: ignore[index]  # a root that is no text is not found
            for segment in path[1:]:
                if value is None or type(value) is FalsyStrictUndefined:
                    return value
                value = self.get_item(value, segment)
        except IndexError:
            return None
        except (KeyError, TypeError):
            if default is not UNDEFINED:
                return default
            name = quote(path_text(path))
            return self.env.undefined(name, hint=f"{name} is not defined", token=token)
        return value

    def parentloop(self) -> object:
        """Return the loop around the one that begins."""
        return self.loops[-1] if self.loops else _NO_LOOP

    def get_buffer(self, buf: TextIO | None = None) -> Buffer:  # type: ignore[override]
        """Return a buffer for `capture`."""
        return Captured(self.meter)


class TextNode(content.ContentNode):
    """Text between the markup; its writing takes no time that is worth looking at the clock."""

    __slots__ = ()

    def render(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the text."""
        return buffer.write(self.text)


class PrintNode(output.OutputNode):
    """`{{ … }}` and `{% echo … %}`, with our text for values."""

    __slots__ = ()

    def render_to_output(self, context: Context, buffer: TextIO) -> int:  # type: ignore[override]  # there is no other
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
_DISABLED: list[str] = []
_NO_LOOP = FalsyStrictUndefined("parentloop", token=None)

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
