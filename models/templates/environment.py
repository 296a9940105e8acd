"""python-liquid as Ringback runs it: the tags there are, what a name means, and where output is counted.

Tags are an allow-list: nothing reads files, and there is no autoescape. A name that does not exist may be tested (`if`,
`default`) but not printed. Steps through null, and elements past the end of a list, are null, as in Liquid: data that
is missing today must not fail a webhook that is right.
"""

from collections import deque
from collections.abc import Mapping
from typing import TextIO

from liquid import Environment as BaseEnvironment
from liquid import FalsyStrictUndefined, RenderContext, Token
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.tags import (
    assign_tag,
    capture_tag,
    case_tag,
    cycle_tag,
    decrement_tag,
    echo_tag,
    for_tag,
    if_tag,
    ifchanged_tag,
    increment_tag,
    unless_tag,
)
from liquid.builtin.tags.for_tag import ForLoop
from liquid.template import BoundTemplate
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from .limits import MAX_OUTPUT_BYTES, LimitReached, Meter
from .loops import LoopTag
from .problems import quote
from .values import path_text, text_of


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

    def enter_loop(self, names: Mapping[str, object], forloop: ForLoop) -> None:
        """Know the names of a loop; how deep loops are and how often they run is counted elsewhere."""
        self.loops.append(forloop)
        self.scope.push(names)

    def leave_loop(self) -> None:
        """Know them no more."""
        self.scope.pop()
        self.loops.pop()

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


class _Literal(content.Literal):
    node_class = TextNode


class _Output(output.Output):
    node_class = PrintNode


class _Echo(echo_tag.EchoTag):
    node_class = PrintNode  # type: ignore[assignment]  # all it needs is a token and an expression


class _Cycle(cycle_tag.CycleTag):
    node_class = CycleNode


class Environment(BaseEnvironment):
    """The only environment that templates are parsed in."""

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """Register the tags of the allow-list; filters are bound to expressions when these are parsed."""
        for tag in (
            _Literal,
            illegal.Illegal,
            _Output,
            assign_tag.AssignTag,
            for_tag.BreakTag,
            capture_tag.CaptureTag,
            case_tag.CaseTag,
            for_tag.ContinueTag,
            _Cycle,
            decrement_tag.DecrementTag,
            _Echo,
            LoopTag,
            if_tag.IfTag,
            ifchanged_tag.IfChangedTag,
            increment_tag.IncrementTag,
            unless_tag.UnlessTag,
        ):
            self.add_tag(tag)


_DISABLED: list[str] = []
_NO_LOOP = FalsyStrictUndefined("parentloop", token=None)

ENVIRONMENT = Environment(undefined=FalsyStrictUndefined)
