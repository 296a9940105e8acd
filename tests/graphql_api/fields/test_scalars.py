"""The scalar JSON refuses values that cannot be stored, at any depth."""

from typing import Any

import pytest
from graphql import GraphQLError
from strawberry.scalars import JSON

from ringback.graphql_api.fields.scalars import MAX_DEPTH, SCALARS

parse = SCALARS[JSON].parse_value
TEXT = "The string{at} contains a NUL or lone surrogate character. Remove it."
NAME = "A field name of the object at a[0] contains a NUL or lone surrogate character. Remove it."
WHOLE = "The integer{at} does not fit into 64 bits: {value}. Send it as a string."
FINITE = "The number{at} is not finite. Send null or a string instead."
DEEP = f"JSON may be nested at most {MAX_DEPTH} levels deep."


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("\0", TEXT), ("a\ud800", TEXT), (2**63, WHOLE), (-(2**63) - 1, WHOLE), (float("inf"), FINITE),
     (float("nan"), FINITE)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("place", "at"),
    [
        (lambda wrong: wrong, ""),
        (lambda wrong: [1, "x", None, True, 0.5, {}, wrong], " at [6]"),
        (lambda wrong: {"a": {"b c": [[], {"d": wrong}]}}, ' at a["b c"][1].d'),
        (lambda wrong: {"a": {"b": {"c": wrong}}, "d": [wrong], "e": 1}, " at d[0]"),
        (lambda wrong: nested(MAX_DEPTH, wrong), " at " + "[0]" * MAX_DEPTH),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_anywhere(place: Any, at: str, wrong: Any, message: str) -> None:
    assert parse is not None
    with pytest.raises(GraphQLError) as refused:
        parse(place(wrong))
    assert refused.value.message == message.format(at=at, value=wrong)


def test_object_keys_are_checked_too() -> None:
    assert parse is not None
    for name in ("\0", "\udfff"):
        with pytest.raises(GraphQLError) as refused:
            parse({"a": [{name: 1}]})
        assert refused.value.message == NAME


def test_the_depth_is_limited() -> None:
    assert parse is not None
    mixed = {"a": [2**63 - 1, -(2**63), "я", None, 0.5]}
    values: list[Any] = [nested(MAX_DEPTH, 1), nested(MAX_DEPTH, []), mixed, None, []]
    for value in values:
        assert parse(value) is value
    with pytest.raises(GraphQLError) as refused:
        parse(nested(MAX_DEPTH + 1, 1))
    assert refused.value.message == DEEP
