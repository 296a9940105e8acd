"""Input errors: what a person can fix in the input of a mutation, as clients see it."""

import re

import strawberry

from ringback.graphql_api.fields.enums import ProblemCode
from ringback.models.errors import InputRejected, Problem

#: What problems begin with whose subject is their field.
_VERBS = ("must ", "has ", "cannot ", "may ", "is ", "fits ", "does ", "leads ", "refers ")


@strawberry.type(description="One thing in a mutation's input that a person can mend. Nothing was written.")
class InputError:
    """One Problem, as clients see it."""

    code: ProblemCode = strawberry.field(description="What kind of mistake it is.")
    message: str = strawberry.field(description="A sentence that says what is wrong and what to do.")
    field: str | None = strawberry.field(
        description='Where, as a path such as "input.url" or "input.items[3].price"; '
        "null when no single field is to blame."
    )


def input_errors(rejected: InputRejected, prefix: str) -> list[InputError]:
    """The problems of a refused input; fields become camelCase paths below `prefix`."""
    return [InputError(code=p.code, message=_sentence(p), field=_path(p, prefix)) for p in rejected.problems]


def _path(problem: Problem, prefix: str) -> str | None:
    if problem.field is None:
        return None
    camel = re.sub(r"_([a-z0-9])", lambda match: match.group(1).upper(), problem.field)
    return (f"{prefix}.{camel}" if prefix else camel) + problem.within


def _sentence(problem: Problem) -> str:
    """Problems that begin with their verb ("must not be empty") get their field as the subject."""
    message = problem.message
    subject = _path(problem, "")
    if subject is not None and message.startswith(_VERBS):
        message = f"{subject} {message}"
    else:
        message = message[:1].upper() + message[1:]
    return message if message.endswith((".", "?", "!")) else f"{message}."
