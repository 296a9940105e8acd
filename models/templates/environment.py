"""python-liquid as Ringback runs it: the tags there are, what a name means, and where output is counted.

Tags are an allow-list: nothing reads files, and there is no autoescape. A name that does not exist may be tested (`if`,
`default`) but not printed. Steps through null, and elements past the end of a list, are null, as in Liquid: data that
is missing today must not fail a webhook that is right.
"""

from collections.abc import Callable, Mapping
from io import StringIO
from typing import TextIO

from liquid import Environment as BaseEnvironment
from liquid import FalsyStrictUndefined, RenderContext, Token, Undefined
from liquid.builtin import content, illegal, output
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
from liquid.template import BoundTemplate
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from .filters import FILTERS
from .limits import MAX_OUTPUT_BYTES, LimitReached, Meter, Refusal
from .problems import quote, unknown
from .values import path_text, text_of


class Buffer(StringIO):
    """Rendered text up to MAX_OUTPUT_BYTES."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter
        self._room = MAX_OUTPUT_BYTES

    def write(self, text: str, /) -> int:
        """Append `text`; raises LimitReached when it does not fit."""
        self._meter.work(len(text))
        self._room -= len(text) if text.isascii() else len(text.encode())
        if self._room < 0:
            raise LimitReached(f"the text is larger than {MAX_OUTPUT_BYTES} bytes")
        return super().write(text)


class Context(RenderContext):
    """The state of one render: its names, its meter, and the token it stands at."""

    __slots__ = ("meter", "token")

    def __init__(self, template: BoundTemplate, scope: Mapping[str, object]) -> None:
        super().__init__(template, globals=scope)
        # Without python-liquid's `now` and `today`, which no check of a template would know.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)
        self.meter = Meter()
        self.token: Token | None = None

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        """Return what a path leads to: null past null, an Undefined for a name that does not exist."""
        self.token = token
        self.meter.tick()
        try:
            value = self.scope[path[0]]  # type: ignore[index]  # a root that is no text is not found
            for segment in path[1:]:
                if value is None or isinstance(value, Undefined):
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

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        """Return a filter, bound to the meter of this render."""
        self.token = token
        if name not in FILTERS:
            raise Refusal(unknown("filter", name, FILTERS))

        def apply(value: object, *arguments: object, **named: object) -> object:
            self.token = token
            return FILTERS[name](self.meter, value, arguments, named)

        return apply

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        """Return a buffer for `capture`."""
        return Buffer(self.meter)


class PrintNode(output.OutputNode):
    """`{{ … }}` and `{% echo … %}`, with our text for values."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the value."""
        return buffer.write(text_of(self.expression.evaluate(context)))


class CycleNode(cycle_tag.CycleNode):
    """`{% cycle … %}`, which remembers its place by how it is written, not by the repr of its values."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the next value."""
        group = text_of(self.group.evaluate(context)) if self.group else str(self)
        return buffer.write(text_of(self.args[context.cycle(group, len(self.args)) % len(self.args)].evaluate(context)))


class _Output(output.Output):
    node_class = PrintNode


class _Echo(echo_tag.EchoTag):
    node_class = PrintNode  # type: ignore[assignment]  # all it needs is a token and an expression


class _Cycle(cycle_tag.CycleTag):
    node_class = CycleNode


class Environment(BaseEnvironment):
    """The only environment that templates are parsed in."""

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """Register the tags of the allow-list; filters are found by Context."""
        for tag in (
            content.Literal,
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
            for_tag.ForTag,
            if_tag.IfTag,
            ifchanged_tag.IfChangedTag,
            increment_tag.IncrementTag,
            unless_tag.UnlessTag,
        ):
            self.add_tag(tag)


ENVIRONMENT = Environment(undefined=FalsyStrictUndefined)
