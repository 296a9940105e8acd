"""Input errors: the problems of a refused input, as the payload of a mutation lists them."""

import strawberry

from ringback.graphql_api.fields.descriptions import object_type
from ringback.graphql_api.fields.enums import ProblemCode
from ringback.models.errors import InputRejected, Problem
from ringback.models.services.validation import api_name


@object_type
class InputError:
    """A validation error in the input of a mutation. Nothing was written."""

    code: ProblemCode = strawberry.field(description="Kind of error.")
    message: str = strawberry.field(description="A sentence that says what is wrong and what to do.")
    field: str | None = strawberry.field(
        description="Path of the invalid value. Null if the error concerns no single field. "
        "Example: `input.items[3].price`."
    )


def errors_field(description: str = "Validation errors. Empty on success.") -> list[InputError]:
    """Make the field `errors` of a payload."""
    errors: list[InputError] = strawberry.field(default_factory=list, description=description)
    return errors


def to_input_errors(rejected: InputRejected, *, has_input: bool) -> list[InputError]:
    """Return the problems of a refused input as clients see them.

    `has_input` says whether the mutation has an argument `input`, which then begins each path.
    """
    return [
        InputError(code=problem.code, message=problem.message, field=_path(problem, has_input=has_input))
        for problem in rejected.problems
    ]


def _path(problem: Problem, *, has_input: bool) -> str | None:
    """Return the path in camelCase. Names within a JSON value stay as the client wrote them."""
    if problem.field is None:
        return None
    path = api_name(problem.field) + problem.within
    return f"input.{path}" if has_input else path
