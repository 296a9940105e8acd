"""JSON: what cannot be kept is refused wherever it stands."""

from typing import Any

import pytest
from graphql import GraphQLError
from strawberry.scalars import JSON

from ringback.graphql_api.fields.scalars import MAX_DEPTH, SCALARS

parse = SCALARS[JSON].parse_value
TEXT = "Texts in JSON must not hold NUL or lone surrogate characters."
WHOLE = "Whole numbers in JSON must fit into 64 bits; write longer ones as strings."
FINITE = "Numbers in JSON must be finite."
DEEP = f"JSON may be nested at most {MAX_DEPTH} deep."


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
    "place",
    [
        lambda wrong: wrong,
        lambda wrong: [1, "x", None, True, 0.5, {}, wrong],
        lambda wrong: {"a": {"b": [[], {"c": wrong}]}},
        lambda wrong: nested(MAX_DEPTH, wrong),
    ],
)
def test_what_cannot_be_kept_is_refused(place: Any, wrong: Any, message: str) -> None:
    assert parse is not None
    with pytest.raises(GraphQLError) as refused:
        parse(place(wrong))
    assert refused.value.message == message


def test_names_are_texts_too() -> None:
    assert parse is not None
    for name in ("\0", "\udfff"):
        with pytest.raises(GraphQLError) as refused:
            parse({"a": [{name: 1}]})
        assert refused.value.message == TEXT


def test_depth_has_an_end() -> None:
    assert parse is not None
    mixed = {"a": [2**63 - 1, -(2**63), "я", None, 0.5]}
    values: list[Any] = [nested(MAX_DEPTH, 1), nested(MAX_DEPTH, []), mixed, None, []]
    for value in values:
        assert parse(value) is value
    with pytest.raises(GraphQLError) as refused:
        parse(nested(MAX_DEPTH + 1, 1))
    assert refused.value.message == DEEP
