"""The errors that Ringback raises on purpose, in one tree.

    RingbackError
    ├─ ConfigurationError      the operator must change a setting, a file or the machine; exit code 1
    ├─ TrackingError           the developer's code uses a tracked model in a way that cannot be recorded
    ├─ InputRejected           the client's input is invalid; carries one Problem for each thing to fix
    ├─ TemplateError           a Liquid template cannot be parsed or rendered
    ├─ AddressBlocked          the address policy refuses a target
    └─ CursorInvalid           a cursor of the live log was not issued by this database
       └─ CursorExpired        it was, but entries after it have been deleted

API clients see `InputRejected` and `CursorInvalid`. Any other error is replaced by an id that is also in the log.
"""

from dataclasses import dataclass
from enum import StrEnum


class RingbackError(Exception):
    """Base class of the errors that Ringback raises on purpose."""


class ConfigurationError(RingbackError):
    """A problem that the operator must fix in a setting, a file or the machine. The message is one line."""


class TrackingError(RingbackError):
    """A declaration or write of a tracked model that cannot be recorded. The message names one that can."""


class ProblemCode(StrEnum):
    """Kind of a Problem."""

    INVALID = "INVALID"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    TOO_LARGE = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to fix in an input.

    `message` is one or more complete sentences. `field` is a path in snake_case, such as "url" or "headers[2].value",
    or None if the problem concerns no single field. `within` is the rest of the path inside a JSON value, such as
    ".unit_price" or "[2]", with the client's own names.
    """

    message: str
    field: str | None = None
    code: ProblemCode = ProblemCode.INVALID
    within: str = ""


class InputRejected(RingbackError):
    """An invalid input. Nothing was written; `problems` is everything that is wrong with it."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(" ".join(problem.message for problem in problems))
        self.problems = problems


class TemplateError(RingbackError):
    """A Liquid template that cannot be parsed or rendered. `line` and `column` start at 1, and are None if unknown."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        position = f" (line {line}, column {column})" if line is not None else ""
        super().__init__(message + position)
        self.line = line
        self.column = column


class AddressBlocked(RingbackError):
    """A target that the address policy refuses. The message names the address, and the setting that allows it."""


class CursorInvalid(RingbackError):
    """A cursor of the live log that this database did not issue."""


class CursorExpired(CursorInvalid):
    """A cursor after which entries have been deleted. `oldest` is the first cursor that can still be resumed from."""

    def __init__(self, message: str, oldest: str) -> None:
        super().__init__(message)
        self.oldest = oldest
