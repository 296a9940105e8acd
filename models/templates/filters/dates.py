"""The filter `date`: formats of Ruby's strftime, and local time in a time zone."""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import floor
from zoneinfo import ZoneInfo, available_timezones

from dateutil.parser import parse, parserinfo
from liquid.filter import liquid_filter

from ringback.models.templates.budget import BadArgument, LimitReached
from ringback.models.templates.decimals import is_decimal
from ringback.models.templates.errors import find_nearest, quote
from ringback.models.templates.formatting import to_text

#: Longest date, date format and name of a time zone, in characters.
_MAX_CHARACTERS = 100
#: Largest width of a directive, in digits.
_MAX_WIDTH_DIGITS = 2
#: A directive such as `%d`, `%-d`, `%^10B`, `%3N` or `%:z`. E and O choose a locale's digits, of which there are none.
_DIRECTIVE = re.compile(r"%([-0^#_]*)([0-9]*)(:{0,2}z|[EO]?[A-Za-z+%])")
#: A date such as 3.4.2026, 03-04-2026 or 26-04-03, and the text after it.
_NUMERIC_DATE = re.compile(r"([0-9]{1,2})([.-])([0-9]{1,2})\2([0-9]{4}|[0-9]{1,2})(?![0-9.])(.*)", re.DOTALL)
#: A date of numbers, and a time such as 10.30, in which ISO 8601 would read a fraction of an hour.
_DOTTED_TIME = re.compile(r"\A([0-9]+[.-][0-9]+[.-][0-9]+)([ ,T]+[0-9]{1,2}\.[0-9]{2}(?:\.[0-9]{2})?)(?![0-9.:])")
#: The name in GMT+03:00 and UTC+3. dateutil reverses the sign after it, as in POSIX.
_UTC_BEFORE_OFFSET = re.compile(r"(?:GMT|UTC?) ?(?=[+-][0-9])")
#: A time with an offset, and the name of its zone: `12:00:00+0300 (Moscow Standard Time)`, `12:00:00 +0300 MSK`.
_ZONE_AFTER_OFFSET = re.compile(r"(:[0-9.]+ ?[+-][0-9:]+) (?:\([^()]*\)|[A-Z]+)\Z")
_HAS_TIME = re.compile(r":|[0-9]T[0-9]|[0-9] ?[ap]\.?m\b", re.IGNORECASE)
#: Two dates that differ in each part. A part that `parse` returns from both was in the text.
_DEFAULTS = (dt.datetime(2000, 1, 1, 1, tzinfo=dt.UTC), dt.datetime(2001, 2, 2, 2, tzinfo=dt.UTC))
#: The time zones that a date may name besides UTC and GMT, with their hours from UTC: those of RFC 822, and Moscow.
_ZONES = {
    "UT": 0, "EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7, "PST": -8, "MSK": 3,
}  # fmt: skip
#: Whether dateutil skips a word, such as the M of `P.M.`. It takes those in capitals for time zones.
_is_skipped = parserinfo().jump

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
#: Directives that stand for others.
_COMPOSED = {
    "c": "%a %b %e %H:%M:%S %Y",
    "D": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "R": "%H:%M",
    "r": "%I:%M:%S %p",
    "T": "%H:%M:%S",
    "v": "%e-%^b-%Y",
    "X": "%H:%M:%S",
    "x": "%m/%d/%y",
    "+": "%a %b %e %H:%M:%S %Z %Y",
}


@liquid_filter
def date(value: object, form: object, zone: object = None) -> str:
    """Format a date as Ruby's strftime does, in a time zone if one is named.

    A date without an offset is read as UTC. A date without a time is that day in every zone. Text that is not a date is
    returned unchanged.
    """
    local_zone = find_zone(to_text(zone)) if zone is not None else None
    text, date_format = to_text(value).strip(), to_text(form)
    if not text or not date_format or len(text) > _MAX_CHARACTERS:
        return text
    if len(date_format) > _MAX_CHARACTERS:
        raise LimitReached(f"The date format has more than {_MAX_CHARACTERS} characters. Shorten it")
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return _format(dt.datetime.fromtimestamp(value, local_zone or dt.UTC), date_format)
        timestamp = _read(text, local_zone)
        return text if timestamp is None else _format(timestamp, date_format)
    except (ArithmeticError, OSError, ValueError):
        return text


def find_zone(name: str) -> dt.tzinfo:
    """Return the time zone with an IANA name, such as Europe/Moscow. Raises BadArgument."""
    try:
        return ZoneInfo(name[: _MAX_CHARACTERS + 1])
    except (LookupError, OSError, ValueError) as error:
        message = f"Unknown time zone '{quote(name)}'"
        suggestion = find_nearest(name, _list_zones())
        if suggestion is not None:
            raise BadArgument(f"{message}. Did you mean '{suggestion}'?") from error
        raise BadArgument(f"{message}. Use a name of the IANA database, such as Europe/Berlin") from error


@cache
def _list_zones() -> list[str]:
    return sorted(available_timezones())


def _read(text: str, zone: dt.tzinfo | None) -> dt.datetime | None:
    """Return the time that a text names, in the time zone, or None if it names none. Raises ValueError and others."""
    if text in ("now", "today"):
        return dt.datetime.now(zone or dt.UTC)
    if text.isdecimal():
        return dt.datetime.fromtimestamp(int(text), zone or dt.UTC)
    if is_decimal(text):
        return None  # 350.50 is no date
    text = _rewrite(text)
    timestamp = _parse(text)
    if timestamp.tzinfo is None:
        if _HAS_TIME.search(text) is None:
            return timestamp.replace(tzinfo=zone or dt.UTC)
        timestamp = timestamp.replace(tzinfo=dt.UTC)
    return timestamp if zone is None else timestamp.astimezone(zone)


def _rewrite(text: str) -> str:
    """Return a date with the year first if the day was, a colon in its time, and no name of a zone beside an offset.

    Raises ValueError for a day that does not exist.
    """
    text = _UTC_BEFORE_OFFSET.sub("", text)
    text = _ZONE_AFTER_OFFSET.sub(r"\1", text)
    text = _DOTTED_TIME.sub(lambda match: match[1] + match[2].replace(".", ":"), text)
    numeric = _NUMERIC_DATE.fullmatch(text)
    if numeric is None:
        return text
    day, separator, month, year, rest = numeric.groups()
    if separator == "-" and len(year) <= 2:
        year, day = day, year
    return dt.date(_complete_year(year), int(month), int(day)).isoformat() + rest


def _complete_year(year: str) -> int:
    """Return a year, of 1969 to 2068 if it has one or two digits."""
    number = int(year)
    if len(year) > 2:
        return number
    return number + 2000 if number < 69 else number + 1900


def _parse(text: str) -> dt.datetime:
    """Return the date that a text names. Raises ValueError."""
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return _parse_words(text)


def _parse_words(text: str) -> dt.datetime:
    """Return the date that a text such as "March 14, 2016" names. Raises ValueError.

    As in Ruby, a part that is missing is that of today before the first part that is given, and the least after it:
    "March 2016" is the first of March, and "10:30" is today.
    """
    first, second = _read_words(text, _DEFAULTS[0]), _read_words(text, _DEFAULTS[1])
    today = dt.datetime.combine(dt.datetime.now(dt.UTC), dt.time.min)
    if first.year == second.year:
        return _read_words(text, today.replace(month=1, day=1))
    if first.month == second.month:
        return _read_words(text, today.replace(day=1))
    if first.day == second.day or first.hour == second.hour:
        return _read_words(text, today)
    raise ValueError(text)


def _read_words(text: str, default: dt.datetime) -> dt.datetime:
    """Return the date that a text names, with the missing parts of `default`. Raises ValueError."""
    timestamp: dt.datetime = parse(text, default=default, tzinfos=_get_zone)
    return timestamp


def _get_zone(name: str | None, offset: int | None) -> dt.tzinfo | None:
    """Return the time zone that a date names, or None if it names none. Raises ValueError for an unknown name."""
    if offset is not None:
        return dt.timezone(dt.timedelta(seconds=offset))
    if name is None or _is_skipped(name):
        return None
    if name not in _ZONES:
        raise ValueError(name)
    return dt.timezone(dt.timedelta(hours=_ZONES[name]))


def _format(timestamp: dt.datetime, date_format: str) -> str:
    return _DIRECTIVE.sub(lambda directive: _write(timestamp, directive), date_format)


def _write(timestamp: dt.datetime, directive: re.Match[str]) -> str:
    """Return the text for one directive. An unknown directive is left as it is."""
    flags, digits, name = directive.groups()
    if len(digits) > _MAX_WIDTH_DIGITS:
        raise LimitReached("The date format contains a width of more than two digits. Use at most two")
    width = int(digits or 0)
    letter = name[-1]
    if letter in "LN":
        places = width or (3 if letter == "L" else 9)
        return f"{timestamp.microsecond:06}".ljust(places, "0")[:places]
    if letter == "z":
        return _format_offset(timestamp, colons=len(name) - 1)
    number, padding = _NUMBERS.get(letter), " "
    text = _get_text(timestamp, letter) if number is None else str(number.get(timestamp))
    if text is None:
        return directive[0]
    if number is not None:
        width, padding = width or number.width, number.padding
    if "-" in flags:
        return text
    if "^" in flags:
        text = text.upper()
    elif "#" in flags:
        text = text.lower() if letter == "p" else text.upper()
    if "_" in flags:
        padding = " "
    elif "0" in flags:
        padding = "0"
    return text.rjust(width, padding)


def _get_text(timestamp: dt.datetime, letter: str) -> str | None:
    """Return the text for a directive without a number, or None if there is no such directive."""
    if letter in _COMPOSED:
        return _format(timestamp, _COMPOSED[letter])
    get_text = _TEXTS.get(letter)
    return None if get_text is None else get_text(timestamp)


def _format_offset(timestamp: dt.datetime, *, colons: int) -> str:
    """Return the offset from UTC: +0300, +03:00 with one colon, or +03:00:00 with two."""
    seconds = int((timestamp.utcoffset() or dt.timedelta()).total_seconds())
    sign = "-" if seconds < 0 else "+"
    minutes, second = divmod(abs(seconds), 60)
    hour, minute = divmod(minutes, 60)
    parts = [f"{hour:02}", f"{minute:02}", f"{second:02}"]
    return sign + (":" if colons else "").join(parts if colons == 2 else parts[:2])


def _name_zone(timestamp: dt.datetime) -> str:
    """Return the abbreviation of the time zone, such as MSK. An offset has none, as in Ruby."""
    zone = timestamp.tzinfo
    if isinstance(zone, dt.timezone) and zone != dt.UTC:
        return ""
    return timestamp.tzname() or ""


@dataclass(frozen=True, slots=True)
class _Number:
    """A directive that writes a number."""

    get: Callable[[dt.datetime], int]
    width: int
    padding: str = "0"


_NUMBERS = {
    "C": _Number(lambda at: at.year // 100, 2),
    "d": _Number(lambda at: at.day, 2),
    "e": _Number(lambda at: at.day, 2, " "),
    "G": _Number(lambda at: at.isocalendar().year, 4),
    "g": _Number(lambda at: at.isocalendar().year % 100, 2),
    "H": _Number(lambda at: at.hour, 2),
    "I": _Number(lambda at: at.hour % 12 or 12, 2),
    "j": _Number(lambda at: at.timetuple().tm_yday, 3),
    "k": _Number(lambda at: at.hour, 2, " "),
    "l": _Number(lambda at: at.hour % 12 or 12, 2, " "),
    "M": _Number(lambda at: at.minute, 2),
    "m": _Number(lambda at: at.month, 2),
    "S": _Number(lambda at: at.second, 2),
    "s": _Number(lambda at: floor(at.timestamp()), 1),
    "U": _Number(lambda at: (at.timetuple().tm_yday + 6 - at.isoweekday() % 7) // 7, 2),
    "u": _Number(lambda at: at.isoweekday(), 1),
    "V": _Number(lambda at: at.isocalendar().week, 2),
    "W": _Number(lambda at: (at.timetuple().tm_yday + 6 - at.weekday()) // 7, 2),
    "w": _Number(lambda at: at.isoweekday() % 7, 1),
    "Y": _Number(lambda at: at.year, 4),
    "y": _Number(lambda at: at.year % 100, 2),
}
_TEXTS: dict[str, Callable[[dt.datetime], str]] = {
    "%": lambda at: "%",
    "A": lambda at: _DAYS[at.weekday()],
    "a": lambda at: _DAYS[at.weekday()][:3],
    "B": lambda at: _MONTHS[at.month - 1],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "h": lambda at: _MONTHS[at.month - 1][:3],
    "n": lambda at: "\n",
    "P": lambda at: "am" if at.hour < 12 else "pm",
    "p": lambda at: "AM" if at.hour < 12 else "PM",
    "t": lambda at: "\t",
    "Z": _name_zone,
}
