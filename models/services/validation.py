"""Checks that many inputs share: texts, ids, and the guard against lost updates."""

import datetime as dt
import difflib
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, TypeVar
from uuid import UUID

from tortoise.models import Model

from ringback.models import ids
from ringback.models.database.sql import _UNSTORABLE, is_storable
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.timestamps import format_timestamp

M = TypeVar("M", bound=Model)

#: Most problems told of one input: who has more mends these first.
MAX_PROBLEMS = 100
#: Control characters that no text of one line may hold.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: RFC 9110, 5.6.2.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: RFC 9110, 8.3.1: type/subtype and parameters.
_MEDIA_TYPE = re.compile(rf"{TOKEN.pattern}/{TOKEN.pattern}([ \t]*;[ \t]*[\x20-\x7e]+)?")


class Problems:
    """Collects all that is wrong with an input, then refuses it as a whole."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(
        self, field: str | None, message: str, code: ProblemCode = ProblemCode.INVALID, *, within: str = ""
    ) -> None:
        """Note one problem, as long as there are fewer than MAX_PROBLEMS."""
        if not self.are_many:
            self._found.append(Problem(message, field, code, within))

    @property
    def are_many(self) -> bool:
        """Whether there are so many that no more are noted."""
        return len(self._found) >= MAX_PROBLEMS

    def refuse_if_any(self) -> None:
        """Raises InputRejected when there are problems."""
        if self._found:
            raise InputRejected(*self._found)

    def no_nulls(self, values: Mapping[str, Any], *, clearable: Set[str]) -> None:
        """Note each null in an update that cannot be cleared."""
        for name, value in values.items():
            if value is None and name not in clearable:
                self.add(name, "cannot be null; leave it out to keep it")

    def line(self, field: str, value: str | None, *, longest: int, required: bool = True) -> str | None:
        """A text of one line, without blanks around it; None when it is empty or was refused."""
        text = (value or "").strip()
        if not text:
            if required:
                self.add(field, "must not be empty")
            return None
        if _CONTROL.search(text) or _UNSTORABLE.search(text):
            self.add(field, "must be one line of Unicode text, without control characters")
        elif len(text) > longest:
            self.add(field, f"has {len(text):,} characters; {longest:,} are allowed", ProblemCode.TOO_LARGE)
        else:
            return text
        return None

    def text(self, field: str, value: str | None, *, longest: int) -> str | None:
        """A text of any number of lines; None when it is blank or was refused."""
        if value is None:
            return None
        if len(value) > longest:
            self.add(field, f"has {len(value):,} characters; {longest:,} are allowed", ProblemCode.TOO_LARGE)
        elif not is_storable(value):
            self.add(field, "must not hold NUL or lone surrogate characters")
        elif value.strip():
            return value
        return None

    def media_type(self, field: str, value: str | None, *, longest: int, required: bool = True) -> str | None:
        """A media type such as `text/plain; charset=utf-8`; None when it is empty or was refused."""
        text = self.line(field, value, longest=longest, required=required)
        if text is not None and not _MEDIA_TYPE.fullmatch(text):
            self.add(field, "must be a media type such as application/json")
            return None
        return text


def parse_id(prefix: str, text: str, field: str = "id") -> UUID:
    """The key in an id that a person gave; raises InputRejected."""
    try:
        return ids.decode(prefix, text)
    except ValueError as error:
        raise InputRejected(Problem(str(error), field)) from error


def not_found(what: str, text: str, field: str = "id") -> InputRejected:
    """The refusal of an id that names nothing."""
    return InputRejected(Problem(f"There is no {what} with the id {text}.", field, ProblemCode.NOT_FOUND))


def require_found(row: M | None, what: str, text: str, field: str = "id") -> M:
    """The row that an id names; raises InputRejected when there is none."""
    if row is None:
        raise not_found(what, text, field)
    return row


def check_unchanged(stored: dt.datetime, expected: dt.datetime | None) -> None:
    """Raises InputRejected (CONFLICT) when somebody else has updated the object since it was read."""
    if expected is not None and stored != expected:
        message = (
            f"It was updated at {format_timestamp(stored)}, after the state that you have seen: read it again first."
        )
        raise InputRejected(Problem(message, "expected_updated_at", ProblemCode.CONFLICT))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as ": did you mean item.phone?"; empty when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""
