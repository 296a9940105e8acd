"""The state of one render: what a name means, and where output is counted.

A name that does not exist may be tested (`if`, `default`) but not printed. Steps through null, and elements past the
end of a list, are null, as in Liquid: data that is missing today must not fail a webhook that is right.
"""

from collections import deque
from collections.abc import Mapping
from typing import TextIO

from liquid import FalsyStrictUndefined, RenderContext, Token
from liquid.template import BoundTemplate
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from ringback.models.templates.budget import MAX_OUTPUT_BYTES, LimitReached, Meter
from ringback.models.templates.errors import quote
from ringback.models.templates.formatting import path_text

_DISABLED: list[str] = []
_NO_LOOP = FalsyStrictUndefined("parentloop", token=None)


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


class TemplateContext(RenderContext):
    """The state of one render: its names, its meter, and the token it stands at."""

    __slots__ = ("meter", "token")
    scope: Names

    def __init__(self, template: BoundTemplate, scope: Mapping[str, object]) -> None:
        # Not by python-liquid's own, which makes what only tags need that are not available here.
        self.env = template.env
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
