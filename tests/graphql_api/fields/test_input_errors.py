"""Input errors: the path of a problem as clients see it, and its message unchanged."""

import pytest

from ringback.graphql_api.fields.enums import ProblemCode
from ringback.graphql_api.fields.input_errors import InputError, to_input_errors
from ringback.models.errors import InputRejected, Problem


@pytest.mark.parametrize(
    ("field", "within", "path"),
    [
        ("url", "", "input.url"),
        ("retry_delays_seconds[1]", "", "input.retryDelaysSeconds[1]"),
        ("changes[1].item", ".unit_price", "input.changes[1].item.unit_price"),
        (None, "", None),
    ],
)
def test_the_path_is_in_camel_case_except_within_json(field: str | None, within: str, path: str | None) -> None:
    rejected = InputRejected(Problem("has a fault", field, ProblemCode.CONFLICT, within))

    errors = to_input_errors(rejected, has_input=True)

    assert errors == [InputError(code=ProblemCode.CONFLICT, message="has a fault", field=path)]


def test_the_path_of_a_lone_argument_has_no_prefix() -> None:
    rejected = InputRejected(Problem("first", "id"), Problem("second", "id"))

    errors = to_input_errors(rejected, has_input=False)

    assert [(error.field, error.message) for error in errors] == [("id", "first"), ("id", "second")]
