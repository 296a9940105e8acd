"""Checks that the services share: texts, ids, and the guard against lost updates."""

import datetime as dt
import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Set
from typing import Any, TypeVar
from uuid import UUID

from tortoise.models import Model

from ringback.models import ids
from ringback.models.database.sql import is_storable
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.timestamps import format_timestamp
from ringback.models.webhook import Webhook

M = TypeVar("M", bound=Model)

#: Problems reported for one input. Further ones are dropped to bound the size of the answer.
MAX_PROBLEMS = 100
#: Maximum number of names among which `did_you_mean` searches, and their maximum length in characters. A search takes
#: up to 25 ms.
_MAX_CANDIDATES = 200
_MAX_COMPARED_CHARS = 40
#: Control characters, which a text of one line must not contain.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: White space with a tab or a line break in it, which pasting puts into forms.
_LINE_BREAK = re.compile(r" *[\t-\r\x1c-\x1f\x85\u2028\u2029]\s*")
#: Characters that show nothing although Unicode counts them as letters, marks or symbols: fillers and selectors.
_BLANK = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: Unicode categories of white space and of invisible characters, such as U+200B (zero width space).
_BLANK_CATEGORIES = {"Cf", "Zl", "Zp", "Zs"}
#: `token` of RFC 9110, section 5.6.2.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: `media-type` of RFC 9110, section 8.3.1: type/subtype and parameters.
_MEDIA_TYPE = re.compile(rf"{TOKEN.pattern}/{TOKEN.pattern}([ \t]*;[ \t]*[\x20-\x7e]+)?")
_AFTER_UNDERSCORE = re.compile(r"_([a-z0-9])")


class Problems:
    """Collector of everything that is wrong with one input.

    The `check_…` methods return the value to store, or None if it is empty or was refused. Fields are paths in
    snake_case, such as "retry_delays_seconds[0]"; messages name them as the API does.
    """

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def add(
        self, field: str | None, message: str, code: ProblemCode = ProblemCode.INVALID, *, within: str = ""
    ) -> None:
        """Add a problem, unless there are MAX_PROBLEMS already. The message is one or more complete sentences."""
        if not self.is_full:
            self._problems.append(Problem(message, field, code, within))

    def add_too_large(self, field: str, size: int, unit: str, limit: int) -> None:
        """Add the problem that a value has more characters, bytes or entries (`unit`) than `limit`."""
        self.add(field, f"{api_name(field)} has {size:,} {unit}. Enter at most {limit:,}.", ProblemCode.TOO_LARGE)

    @property
    def is_full(self) -> bool:
        """Whether further problems are dropped."""
        return len(self._problems) >= MAX_PROBLEMS

    def raise_if_any(self) -> None:
        """Raise InputRejected with all problems, if there are any."""
        if self._problems:
            raise InputRejected(*self._problems)

    def check_nulls(self, values: Mapping[str, Any], *, clearable: Set[str]) -> None:
        """Add a problem for each null in an update, except for the clearable fields."""
        for field, value in values.items():
            if value is None and field not in clearable:
                self.add(field, f"{api_name(field)} is null. Leave it out to keep the stored value.")

    def check_line(self, field: str, value: str | None, *, max_chars: int, required: bool = True) -> str | None:
        """Check a text of one line and return it without surrounding white space."""
        line = (value or "").strip()
        if is_blank(line):
            if required:
                self.add(field, f"{api_name(field)} is empty. Enter a value.")
            return None
        if _CONTROL.search(line) or not is_storable(line):
            self.add(
                field, f"{api_name(field)} contains a control or lone surrogate character. Enter one line of text."
            )
            return None
        if len(line) > max_chars:
            self.add_too_large(field, len(line), "characters", max_chars)
            return None
        return line

    def check_form_line(self, field: str, value: str | None, *, max_chars: int, required: bool = True) -> str | None:
        """Check a text of one line that people type or paste. Tabs and line breaks inside become single spaces."""
        line = None if value is None else _LINE_BREAK.sub(" ", value)
        return self.check_line(field, line, max_chars=max_chars, required=required)

    def check_text(self, field: str, value: str | None, *, max_chars: int) -> str | None:
        """Check a text of any number of lines and return it unchanged."""
        if value is None:
            return None
        if len(value) > max_chars:
            self.add_too_large(field, len(value), "characters", max_chars)
            return None
        if not is_storable(value):
            self.add(field, f"{api_name(field)} contains a NUL or lone surrogate character. Remove it.")
            return None
        return value if value.strip() else None

    def check_media_type(self, field: str, value: str | None, *, max_chars: int, required: bool = True) -> str | None:
        """Check a media type such as `text/plain; charset=utf-8` and return it without surrounding white space."""
        media_type = self.check_line(field, value, max_chars=max_chars, required=required)
        if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
            message = f"{api_name(field)} is {media_type!r:.80}. Enter a media type, such as application/json."
            self.add(field, message)
            return None
        return media_type


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: it is empty, or has only white space and invisible characters."""
    return all(map(_is_blank_character, text))


def _is_blank_character(character: str) -> bool:
    if character.isspace() or unicodedata.category(character) in _BLANK_CATEGORIES:
        return True
    return _BLANK.match(character) is not None


def name_character(character: str) -> str:
    """Return a character's code point and name for a message, such as "U+00A0 (NO-BREAK SPACE)"."""
    code_point = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "")
    return f"{code_point} ({name})" if name else code_point


def api_name(field: str) -> str:
    """Return a field path as the API spells it: "retryDelaysSeconds[0]" for "retry_delays_seconds[0]"."""
    return _AFTER_UNDERSCORE.sub(lambda match: match[1].upper(), field)


def parse_id(prefix: str, text: str, field: str = "id") -> UUID:
    """Return the key of an id with this prefix. Raises InputRejected."""
    try:
        return ids.decode(prefix, text)
    except ValueError as error:
        raise InputRejected(Problem(str(error), field)) from error


def not_found(kind: str, text: str, field: str = "id") -> InputRejected:
    """Return the error for an id of an object that does not exist. `kind` is a noun such as "webhook"."""
    return InputRejected(Problem(f"There is no {kind} with the id {text}.", field, ProblemCode.NOT_FOUND))


def require_found(row: M | None, kind: str, text: str, field: str = "id") -> M:
    """Return the row that was found by an id. Raises InputRejected if it is None."""
    if row is None:
        raise not_found(kind, text, field)
    return row


def require_webhook(row: Webhook | None, text: str, field: str = "id") -> Webhook:
    """Return the webhook that was found by an id. Raises InputRejected if it is None or deleted."""
    webhook = require_found(row, "webhook", text, field)
    if webhook.deleted_at is not None:
        deleted_at = format_timestamp(webhook.deleted_at)
        message = f"The webhook {text} was deleted at {deleted_at}. It cannot be changed or fired any more."
        raise InputRejected(Problem(message, field, ProblemCode.NOT_FOUND))
    return webhook


def check_unchanged(stored: dt.datetime, expected: dt.datetime | None) -> None:
    """Raise InputRejected (CONFLICT) if an object was updated after the `updatedAt` that the client has read."""
    if expected is None or stored == expected:
        return
    message = f"The object was updated at {format_timestamp(stored)}, after you read it. Read it again and retry."
    raise InputRejected(Problem(message, "expected_updated_at", ProblemCode.CONFLICT))


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return a hint such as " Did you mean item.phone?", or "" if no candidate is similar.

    Long names, and more than _MAX_CANDIDATES, are not compared.
    """
    compared = [candidate for candidate in candidates if len(candidate) <= _MAX_COMPARED_CHARS]
    if len(name) > _MAX_COMPARED_CHARS or len(compared) > _MAX_CANDIDATES:
        return ""
    matches = difflib.get_close_matches(name, compared, n=1)
    return f" Did you mean {matches[0]}?" if matches else ""
