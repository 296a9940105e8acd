"""The state of one render: how names are looked up, and where output is counted.

An undefined name may be tested (`if`, `default`) but not printed. As in Liquid, a path through null is null, and so is
an element past the end of a list: a value that is missing today must not fail a correct webhook.
"""

from collections import deque
from collections.abc import Mapping
from typing import TextIO

from liquid import FalsyStrictUndefined, RenderContext, Token
from liquid.template import BoundTemplate
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from ringback.models.templates.budget import MAX_OUTPUT_BYTES, LimitReached, Meter
from ringback.models.templates.charset import BodyEncoder
from ringback.models.templates.decimals import DecimalValue
from ringback.models.templates.errors import quote
from ringback.models.templates.formatting import format_path

_DISABLED_TAGS: list[str] = []
_NO_LOOP = FalsyStrictUndefined(
    "parentloop", hint="forloop.parentloop is not defined. This loop is not inside another loop", token=None
)


class OutputBuffer:
    """Rendered text of up to MAX_OUTPUT_BYTES. It has the methods of TextIO that python-liquid's nodes call."""

    __slots__ = ("_bytes_left", "_meter", "_pieces")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._pieces: list[str] = []
        self._bytes_left = MAX_OUTPUT_BYTES

    def write(self, text: str, /) -> int:
        """Append `text`, and return its length. Raises LimitReached if it does not fit."""
        length = len(text)
        self._bytes_left -= length if text.isascii() else len(text.encode())
        if self._bytes_left < 0:
            raise LimitReached(f"The rendered text has more than {MAX_OUTPUT_BYTES:,} bytes. Print less")
        self._pieces.append(text)
        return length

    def getvalue(self) -> str:
        """Return the whole text, and count it as work. Raises LimitReached."""
        text = "".join(self._pieces)
        self._meter.add_work(len(text))
        return text


class CaptureBuffer(OutputBuffer):
    """The text inside `capture`. A `break` may leave it at any time, so each piece counts as work when written."""

    __slots__ = ()

    def write(self, text: str, /) -> int:
        """Append `text`, count it as work, and return its length. Raises LimitReached."""
        length = super().write(text)
        self._meter.add_work(length)
        return length

    def getvalue(self) -> str:
        """Return the whole text."""
        return "".join(self._pieces)


class Names(ReadOnlyChainMap):
    """The names of a render. `maps` holds the innermost scope first."""

    def __init__(self, *maps: Mapping[str, object]) -> None:
        self.maps = self._maps = deque(maps)

    def __getitem__(self, key: str) -> object:
        for names in self.maps:
            if key in names:  # most keys are not in the first map, and an exception costs more than a second look-up
                return names[key]
        raise KeyError(key)


class TemplateContext(RenderContext):
    """The state of one render: its names, its meter, and the token that is being rendered.

    `encoder` encodes the output in a charset other than UTF-8; `url_encode` asks it.
    """

    __slots__ = ("encoder", "meter", "token")
    scope: Names

    def __init__(
        self,
        template: BoundTemplate,
        scope: Mapping[str, object],
        meter: Meter,
        encoder: BodyEncoder | None = None,
    ) -> None:
        # Does not call python-liquid's __init__, which also prepares tags that are not allowed here.
        self.env = template.env
        self.template = template
        self.locals = {}
        self.globals = scope
        self.counters = {}
        # Leaves out python-liquid's `now` and `today`, which `validation` would report as unknown.
        self.scope = Names(self.locals, scope, self.counters)
        self.tag_namespace = {"cycles": {}, "ifchanged": "", "stopindex": {}}
        self.loops = []
        self.disabled_tags = _DISABLED_TAGS
        self.autoescape = False
        self.encoder = encoder
        self.meter = meter
        self.token: Token | None = None

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        """Return the value at `path`: null past null, and `default` or an Undefined for an undefined name."""
        self.token = token
        self.meter.tick()
        try:
            value = self.scope[path[0]]  # type: ignore[index]  # a root that is not a string raises KeyError
            for segment in path[1:]:
                if value is None or type(value) is FalsyStrictUndefined:
                    return value
                if type(value) is DecimalValue:
                    value = value.source  # its properties are those of its text
                if type(segment) is DecimalValue:
                    value = self.get_item(value, int(segment))  # an index
                else:
                    value = self.get_item(value, segment)
        except IndexError:
            return None
        except (KeyError, TypeError):
            if default is not UNDEFINED:
                return default
            name = quote(format_path(path))
            return self.env.undefined(name, hint=f"{name} is not defined", token=token)
        return value

    def parentloop(self) -> object:
        """Return the innermost running loop, which is the parent of the loop about to start."""
        return self.loops[-1] if self.loops else _NO_LOOP

    def get_buffer(self, buf: TextIO | None = None) -> CaptureBuffer:  # type: ignore[override]
        """Return a buffer for `capture`."""
        return CaptureBuffer(self.meter)
