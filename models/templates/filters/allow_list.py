"""The filters that templates may use: an allow-list, with limits on the input and the output of each filter.

Most filters are python-liquid's; the other modules hold Ringback's. All of them run through `Filter`, which checks the
number of arguments, converts values to text as output does (`{{ true | append: "" }}` is "true"), counts the work, and
turns Python errors into messages.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from math import isfinite
from typing import Any

from liquid import FalsyStrictUndefined
from liquid.exceptions import FilterArgumentError, UndefinedError

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
from ringback.models.templates.filters import dates, lists, numbers, text
from ringback.models.templates.formatting import estimate_length, to_json, to_text

FilterFunction = Callable[..., object]
#: Returns the characters that a filter reads of its input and arguments. Raises Refusal for values it does not accept.
ReadCost = Callable[[Any, Sequence[Any]], int]
_NO_KEYWORDS: Mapping[str, object] = {}


class Filter:
    """One filter, called with the meter of the render, the value on its left, and its arguments.

    `neutral_input` is a value that the filter accepts, for trying out arguments. `takes_text` is whether input and
    arguments are converted to text.
    """

    __slots__ = (
        "_function",
        "_keywords",
        "_max_arguments",
        "_min_arguments",
        "_neutral_input",
        "_read_cost",
        "_takes_list",
        "name",
        "takes_text",
    )

    def __init__(self, name: str, function: FilterFunction, read_cost: ReadCost, neutral_input: object) -> None:
        parameters = signature(function).parameters.values()
        positional = [p for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD][1:]
        keywords = {p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
        self.name = name
        self._function = function
        self._read_cost = read_cost
        self._takes_list = read_cost in _LIST_COSTS
        self.takes_text = read_cost is _cost_of_text
        self._neutral_input = neutral_input
        self._min_arguments = sum(p.default is Parameter.empty for p in positional)
        self._max_arguments = len(positional)
        self._keywords = keywords - {"environment"}

    def __call__(
        self,
        meter: Meter,
        value: object,
        arguments: Sequence[object] = (),
        keywords: Mapping[str, object] = _NO_KEYWORDS,
    ) -> object:
        """Return the filtered value. Raises Refusal and UndefinedError; `check_arguments` must have passed."""
        takes_text = self.takes_text
        if type(value) is str and not arguments and takes_text and len(value) <= MAX_TEXT:
            meter.add_work(len(value))  # the usual case
        else:
            if self.name != "default":
                _refuse_undefined((value, *arguments))
            if value is None and self._takes_list:
                value = []
            if takes_text:
                value, arguments = to_text(value), [to_text(argument) for argument in arguments]
            meter.add_work(self._read_cost(value, arguments))
        result = self._run(value, arguments, keywords)
        if type(result) is str and len(result) <= MAX_TEXT:
            meter.add_work(len(result))
        else:
            meter.add_work(_cost_of_result(self.name, result))
        meter.tick()
        return result

    def check_arguments(self, count: int, keywords: Iterable[str]) -> str | None:
        """Return a message about a wrong number or a wrong name of arguments, or None if they are right."""
        for keyword in keywords:
            if keyword not in self._keywords:
                return f"'{self.name}' has no argument named '{quote(keyword)}'. Remove it"
        if self._min_arguments <= count <= self._max_arguments:
            return None
        return f"'{self.name}' takes {self._describe_arity()}; {count} given"

    def find_bad_argument(self, arguments: Sequence[object], keywords: Mapping[str, object]) -> str | None:
        """Return why the filter refuses these arguments whatever its input is, or None."""
        try:
            self(Meter(), self._neutral_input, arguments, keywords)
        except BadArgument as error:
            return str(error.message)
        except Refusal:
            return None
        return None

    def _run(self, value: object, arguments: Sequence[object], keywords: Mapping[str, object]) -> object:
        try:
            if arguments or keywords:
                return self._function(value, *arguments, **keywords)
            return self._function(value)
        except (Refusal, UndefinedError):
            raise
        except FilterArgumentError as error:
            refused = quote(", ".join(to_text(argument) for argument in arguments)) or "this value"
            raise BadArgument(f"'{self.name}' does not accept {refused}") from error
        except Exception as error:
            raise Refusal(
                f"'{self.name}' cannot be applied to this value. Change the value, or use another filter"
            ) from error

    def _describe_arity(self) -> str:
        least, most = self._min_arguments, self._max_arguments
        if most == 0:
            return "no arguments"
        if least != most:
            return f"{least} to {most} arguments"
        if most == 1:
            return "1 argument"
        return f"{most} arguments"


def _refuse_undefined(values: Iterable[object]) -> None:
    for value in values:
        if type(value) is FalsyStrictUndefined:  # isinstance would call an abstract class's check
            raise UndefinedError(value.hint, token=value.token)


def _cost_of_result(name: str, result: object) -> int:
    """Return the characters that a result counts for. Raises LimitReached for one that is too large."""
    if isinstance(result, str):
        if len(result) > MAX_TEXT:
            raise LimitReached(f"The result of '{name}' has more than {MAX_TEXT:,} characters. Use a shorter text")
        return len(result)
    if isinstance(result, list):
        if len(result) > MAX_ITEMS:
            raise LimitReached(f"The result of '{name}' has more than {MAX_ITEMS:,} elements. Use a shorter input")
        return 16 * len(result)
    if isinstance(result, float) and not isfinite(result):
        raise LimitReached(f"The number that '{name}' returns is too large. Use smaller numbers")
    if isinstance(result, int) and result.bit_length() > MAX_INTEGER_BITS:
        raise LimitReached(f"The number that '{name}' returns is too large. Use smaller numbers")
    return 0


def _cost_of_text(value: str, arguments: Sequence[str]) -> int:
    """Return the cost of a filter whose input and arguments are text."""
    length = len(value) + sum(map(len, arguments))
    if length > MAX_TEXT:
        raise LimitReached(f"The input of this filter has more than {MAX_TEXT:,} characters. Use a shorter text")
    return length


def _cost_of_elements(value: object, arguments: Sequence[object]) -> int:
    """Return the cost of a filter that reads each element, or one field of it, and may compare it with an argument."""
    if any(isinstance(argument, dict | list | tuple | range) for argument in arguments):
        raise BadArgument("The arguments of this filter must be strings, numbers, true, false or nil")
    compared_length = sum(len(argument) for argument in arguments if isinstance(argument, str))
    return _count_elements(value) * (8 + compared_length // 8)


def _cost_of_lists(value: object, arguments: Sequence[object]) -> int:
    """Return the cost of a filter whose arguments are lists too."""
    return 8 * _count_elements([value, *arguments])


def _cost_of_contents(value: object, arguments: Sequence[object]) -> int:
    """Return the cost of a filter that reads each element with all of its contents."""
    return _cost_of_elements(value, arguments) + _bounded_length([value, *arguments])


def _cost_of_keyed_contents(value: object, arguments: Sequence[object]) -> int:
    """Return the cost of a filter that reads each element, or its field named by the key, with all of its contents."""
    cost = _cost_of_elements(value, arguments)
    if arguments and isinstance(value, list):
        key = to_text(arguments[0])
        value = [element.get(key) if isinstance(element, dict) else element for element in value]
    return cost + _bounded_length(value)


#: The costs of filters whose input is a list, for which nil is an empty one.
_LIST_COSTS = (_cost_of_elements, _cost_of_lists, _cost_of_contents, _cost_of_keyed_contents)


def _cost_of_top_level(value: object, arguments: Sequence[object]) -> int:
    """Return the cost of a filter that does not look inside its input."""
    if isinstance(value, range):
        _count_elements(value)
    return 0


def _bounded_length(value: object) -> int:
    length = estimate_length(value)
    if length > MAX_TEXT:
        raise LimitReached(f"The input of this filter has more than {MAX_TEXT:,} characters. Use a shorter text")
    return length


def _count_elements(value: object) -> int:
    """Return the number of elements in a list and in the lists nested in it. Raises LimitReached."""
    count = 0
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, list | tuple | range):
            count += len(current)
            if count > MAX_ITEMS:
                raise LimitReached(f"The input of this filter has more than {MAX_ITEMS:,} elements. Use a shorter list")
            if not isinstance(current, range):
                pending.extend(element for element in current if isinstance(element, list | tuple))
    return count


_TEXT_FILTERS = """
    append base64_decode base64_encode base64_url_safe_decode base64_url_safe_encode capitalize downcase escape
    escape_once escapejs lstrip newline_to_br prepend remove remove_first remove_last replace replace_first replace_last
    rstrip split squish strip strip_html strip_newlines truncate truncatewords upcase url_decode url_encode
"""
_NUMBER_FILTERS = "abs at_least at_most ceil divided_by floor minus modulo plus round times"
_LIST_FILTERS = "compact find find_index has map reject reverse where"
_KEYED_LIST_FILTERS = "sort sort_natural sum uniq"
_OTHER_FILTERS = "date default first json last size slice"

_OWN_FUNCTIONS: dict[str, FilterFunction] = {
    "abs": numbers.abs_,
    "at_least": numbers.at_least,
    "at_most": numbers.at_most,
    "ceil": numbers.ceil,
    "compact": lists.compact,
    "date": dates.date,
    "divided_by": numbers.divided_by,
    "escape": text.escape,
    "escape_once": text.escape_once,
    "find": lists.find,
    "find_index": lists.find_index,
    "floor": numbers.floor,
    "has": lists.has,
    "join": lists.join,
    "json": to_json,
    "map": lists.map_,
    "minus": numbers.minus,
    "modulo": numbers.modulo,
    "plus": numbers.plus,
    "reject": lists.reject,
    "replace": text.replace,
    "round": numbers.round_,
    "size": text.size,
    "slice": text.slice_,
    "sort": lists.sort,
    "sort_natural": lists.sort_natural,
    "split": text.split,
    "strip_html": text.strip_html,
    "sum": numbers.sum_,
    "times": numbers.times,
    "truncate": text.truncate,
    "truncatewords": text.truncatewords,
    "uniq": lists.uniq,
    "url_decode": text.url_decode,
    "url_encode": text.url_encode,
    "where": lists.where,
}


def _build_filters(names: str, read_cost: ReadCost, neutral_input: object) -> dict[str, Filter]:
    filters = {}
    for name in names.split():
        function = _OWN_FUNCTIONS.get(name) or text.PRISTINE.filters[name]
        if getattr(function, "with_environment", False):
            function = partial(function, environment=text.PRISTINE)
        filters[name] = Filter(name, function, read_cost, neutral_input)
    return filters


#: All filters, by the names that templates use.
FILTERS: Mapping[str, Filter] = {
    **_build_filters(_TEXT_FILTERS, _cost_of_text, ""),
    **_build_filters(_NUMBER_FILTERS, _cost_of_top_level, 0),
    **_build_filters(_LIST_FILTERS, _cost_of_elements, []),
    **_build_filters(_KEYED_LIST_FILTERS, _cost_of_keyed_contents, []),
    **_build_filters("join", _cost_of_contents, []),
    **_build_filters("concat", _cost_of_lists, []),
    **_build_filters(_OTHER_FILTERS, _cost_of_top_level, ""),
}
