"""The filters that a template may use: an allow-list, each with a cap on what goes in and what comes out.

Most are python-liquid's own, a few are ours (`functions`). Around all of them stands the same guard: it counts the
arguments, turns values into text the way output does (so that `{{ true | append: "" }}` is "true"), counts the work,
and lets no Python error through.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from math import isfinite
from typing import Any

from liquid import FalsyStrictUndefined
from liquid.exceptions import FilterArgumentError, UndefinedError

from ringback.models.templates import own_filters
from ringback.models.templates.budget import (
    MAX_INTEGER_BITS,
    MAX_ITEMS,
    MAX_TEXT,
    BadArgument,
    LimitReached,
    Meter,
    Refusal,
)
from ringback.models.templates.errors import quote
from ringback.models.templates.formatting import json_of, text_of, weight

Run = Callable[..., object]
#: Returns how much a filter reads of a value and its arguments; raises Refusal for those it does not take.
Reading = Callable[[Any, Sequence[Any]], int]
_NONE: Mapping[str, object] = {}


class Filter:
    """One filter, callable with the meter of the render, the value on its left, and its arguments."""

    __slots__ = ("_least", "_most", "_named", "_neutral", "_reading", "_run", "name")

    def __init__(self, name: str, run: Run, reading: Reading, neutral: object) -> None:
        parameters = signature(run).parameters.values()
        places = [p for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD][1:]
        self.name = name
        self._run = run
        self._reading = reading
        self._neutral = neutral
        self._least = sum(p.default is Parameter.empty for p in places)
        self._most = len(places)
        self._named = {p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY} - {"environment"}

    def __call__(
        self, meter: Meter, value: object, arguments: Sequence[object] = (), named: Mapping[str, object] = _NONE
    ) -> object:
        """Return the filtered value for arguments that are no misuse; raises Refusal, UndefinedError."""
        is_text = self._reading is _reading_texts
        if type(value) is str and not arguments and is_text and len(value) <= MAX_TEXT:
            meter.work(len(value))  # as it is nearly always
        else:
            if self.name != "default":
                for one in (value, *arguments):
                    if type(one) is FalsyStrictUndefined:  # isinstance would ask an abstract class
                        raise UndefinedError(one.hint, token=one.token)
            if is_text:
                value, arguments = text_of(value), [text_of(one) for one in arguments]
            meter.work(self._reading(value, arguments))
        try:
            result = self._run(value, *arguments, **named) if arguments or named else self._run(value)
        except (Refusal, UndefinedError):
            raise
        except FilterArgumentError as error:
            given = quote(", ".join(text_of(one) for one in arguments)) or "this value"
            raise BadArgument(f"'{self.name}' does not accept {given}") from error
        except Exception as error:
            raise Refusal(f"'{self.name}' cannot work with this value") from error
        meter.work(len(result) if type(result) is str and len(result) <= MAX_TEXT else _cost(self.name, result))
        meter.tick()
        return result

    def misuse(self, count: int, named: Iterable[str]) -> str | None:
        """Return what is wrong with the number or the names of the arguments, or None."""
        for name in named:
            if name not in self._named:
                return f"'{self.name}' has no argument named '{quote(name)}'"
        if self._least <= count <= self._most:
            return None
        takes = "no argument" if self._most == 0 else f"{self._least} argument" + "s" * (self._least != 1)
        if 0 < self._most != self._least:
            takes = f"{self._least} to {self._most} arguments"
        return f"'{self.name}' takes {takes}, not {count}"

    def refusal(self, arguments: Sequence[object], named: Mapping[str, object]) -> str | None:
        """Return why these arguments can never work, whatever stands on the left, or None."""
        try:
            self(Meter(), self._neutral, arguments, named)
        except BadArgument as error:
            return str(error.message)
        except Refusal:
            return None
        return None


def _cost(name: str, result: object) -> int:
    """Refuse a result that is too large, and return how much was made."""
    if isinstance(result, str):
        if len(result) > MAX_TEXT:
            raise LimitReached(f"'{name}' makes more than {MAX_TEXT} characters")
        return len(result)
    if isinstance(result, list):
        if len(result) > MAX_ITEMS:
            raise LimitReached(f"'{name}' makes more than {MAX_ITEMS} elements")
        return 16 * len(result)
    if isinstance(result, float) and not isfinite(result):
        raise LimitReached(f"'{name}' makes a number that is too large")
    if isinstance(result, int) and result.bit_length() > MAX_INTEGER_BITS:
        raise LimitReached(f"'{name}' makes a number that is too large")
    return 0


def _reading_texts(value: str, arguments: Sequence[str]) -> int:
    """Everything is text, on both sides."""
    reading = len(value) + sum(map(len, arguments))
    if reading > MAX_TEXT:
        raise LimitReached(f"a filter takes at most {MAX_TEXT} characters")
    return reading


def _reading_list(value: object, arguments: Sequence[object]) -> int:
    """Only the elements themselves are looked at, or one field of each, which may be compared with an argument."""
    if any(isinstance(one, dict | list | tuple | range) for one in arguments):
        raise BadArgument("the arguments of this filter must be texts, numbers, true, false or nil")
    compared = sum(len(one) for one in arguments if isinstance(one, str))
    return _elements(value) * (8 + compared // 8)


def _reading_lists(value: object, arguments: Sequence[object]) -> int:
    """The arguments are lists as well."""
    return 8 * _elements([value, *arguments])


def _reading_deep(value: object, arguments: Sequence[object]) -> int:
    """Each element is looked at with all that it holds."""
    return _reading_list(value, arguments) + _weight([value, *arguments])


def _reading_keyed(value: object, arguments: Sequence[object]) -> int:
    """With a key, one field of each element is looked at with all that it holds; without, each element."""
    reading = _reading_list(value, arguments)
    if arguments and isinstance(value, list):
        key = text_of(arguments[0])
        value = [one.get(key) if isinstance(one, dict) else one for one in value]
    return reading + _weight(value)


def _reading_surface(value: object, arguments: Sequence[object]) -> int:
    """The filter looks at the surface of the value only."""
    if isinstance(value, range):
        _elements(value)
    return 0


def _weight(value: object) -> int:
    if (characters := weight(value)) > MAX_TEXT:
        raise LimitReached(f"a filter takes at most {MAX_TEXT} characters")
    return characters


def _elements(value: object) -> int:
    """Return how many elements a list has once nested lists are flattened."""
    total = 0
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, list | tuple | range):
            total += len(one)
            if total > MAX_ITEMS:
                raise LimitReached(f"a filter takes at most {MAX_ITEMS} elements")
            if not isinstance(one, range):
                pending.extend(inner for inner in one if isinstance(inner, list | tuple))
    return total


_TEXT = """
    append base64_decode base64_encode base64_url_safe_decode base64_url_safe_encode capitalize downcase escape
    escape_once escapejs lstrip newline_to_br prepend remove remove_first remove_last replace replace_first replace_last
    rstrip split squish strip strip_html strip_newlines truncate truncatewords upcase url_decode url_encode
"""
_NUMBERS = "abs at_least at_most ceil divided_by floor minus modulo plus round times"
_LISTS = "compact find find_index has map reject reverse where"
_KEYED_LISTS = "sort sort_natural sum uniq"
_OTHERS = "date default first json last size slice"

_OURS: dict[str, Run] = {
    "date": own_filters.date,
    "join": own_filters.join,
    "json": json_of,
    "map": own_filters.map_,
    "replace": own_filters.replace,
    "slice": own_filters.slice_,
    "split": own_filters.split,
    "strip_html": own_filters.strip_html,
    "uniq": own_filters.uniq,
    "url_encode": own_filters.url_encode,
}


def _filters(names: str, reading: Reading, neutral: object) -> dict[str, Filter]:
    made = {}
    for name in names.split():
        run = _OURS.get(name) or own_filters.PRISTINE.filters[name]
        if getattr(run, "with_environment", False):
            run = partial(run, environment=own_filters.PRISTINE)
        made[name] = Filter(name, run, reading, neutral)
    return made


#: Every filter there is, by the name that templates use.
FILTERS: Mapping[str, Filter] = {
    **_filters(_TEXT, _reading_texts, ""),
    **_filters(_NUMBERS, _reading_surface, 0),
    **_filters(_LISTS, _reading_list, []),
    **_filters(_KEYED_LISTS, _reading_keyed, []),
    **_filters("join", _reading_deep, []),
    **_filters("concat", _reading_lists, []),
    **_filters(_OTHERS, _reading_surface, ""),
}
