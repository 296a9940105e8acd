"""One tree of errors; each class says in a sentence what went wrong and who can mend it.

    RingbackError
    ├─ ConfigurationError      the operator must change a setting, a file or the machine; exit code 1
    ├─ TrackingError           the developer's code uses a tracked model in a way that cannot be recorded
    ├─ InputRejected           a person's input is refused; carries one Problem for each thing to mend
    ├─ TemplateError           a Liquid template cannot be parsed, or could not be rendered
    ├─ AddressBlocked          the address guard refused to connect
    └─ CursorInvalid           a position in the live log is not one that was handed out here
       └─ CursorExpired        it was, but the entries after it are gone

Only `InputRejected`, `CursorInvalid` and their like reach an API client; everything else is masked there.
"""

from dataclasses import dataclass
from enum import StrEnum


class RingbackError(Exception):
    """The root of every error that Ringback raises on purpose."""


class ConfigurationError(RingbackError):
    """A setting, a file or the machine must be changed by the operator; the message is one line that says how."""


class TrackingError(RingbackError):
    """A tracked model is declared or written in a way that cannot be recorded; the message names a way that can."""


class ProblemCode(StrEnum):
    """What kind of mistake a Problem is (contract: InputErrorCode)."""

    INVALID = "INVALID"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    TOO_LARGE = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing in an input that a person can mend.

    `field` is a path below the input, such as "url" or "headers[2].value"; None when no single field is to blame.
    `within` goes on from there inside a JSON value, in names of the client's own: ".unit_price", "[2]".
    """

    message: str
    field: str | None = None
    code: ProblemCode = ProblemCode.INVALID
    within: str = ""


class InputRejected(RingbackError):
    """An input was refused and nothing was written; `problems` says all that is wrong with it."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(p.message for p in problems))
        self.problems = problems


class TemplateError(RingbackError):
    """A Liquid template cannot be parsed or rendered; `line` and `column` count from 1, None when unknown."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        where = f" (line {line}, column {column})" if line is not None else ""
        super().__init__(message + where)
        self.line = line
        self.column = column


class AddressBlocked(RingbackError):
    """The address guard refused a target; the message names the address and the setting that would open it."""


class CursorInvalid(RingbackError):
    """A position in the live log that this database never handed out."""


class CursorExpired(CursorInvalid):
    """A position whose following entries are gone; `oldest` is the cursor from which all is still there."""

    def __init__(self, message: str, oldest: str) -> None:
        super().__init__(message)
        self.oldest = oldest
