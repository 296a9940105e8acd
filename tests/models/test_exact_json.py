"""Tests of JSON whose integers keep their digits."""

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models import exact_json

ACCOUNT = 40702810900000012345
INTEGERS = st.integers(-(10**40), 10**40) | st.sampled_from([2**63, 2**64, -(2**63) - 1, ACCOUNT])
LEAVES = st.none() | st.booleans() | st.text(st.characters(exclude_categories=["Cs"])) | st.floats(allow_nan=False, allow_infinity=False)  # fmt: skip  # noqa: E501
VALUES = st.recursive(
    LEAVES | INTEGERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab1", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_a_clients_json_is_read_as_it_was_written(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    for source in (text, text.encode()):
        assert repr(exact_json.load(source)) == repr(json.loads(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-9223372036854775809", -(2**63) - 1),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2**64),
        ("40702810900000012345", ACCOUNT),
        (
            '["40702810900000012345", 1e20, 0.40702810900000012345]',
            ["40702810900000012345", 1e20, 0.40702810900000012345],
        ),
        ('{"a": 1, "a": 40702810900000012345}', {"a": ACCOUNT}),
    ],
)
def test_numbers_of_a_client(text: str, value: Any) -> None:
    assert repr(exact_json.load(text)) == repr(value)


@pytest.mark.parametrize(
    "text",
    ["1e400", "9" * 310, "NaN", "-Infinity", "[40702810900000012345, NaN]", '["\\ud800", 40702810900000012345]',
     "[" * 1_000 + "40702810900000012345" + "]" * 1_000, "01", ""],
)  # fmt: skip
def test_what_is_not_json_of_a_client(text: str) -> None:
    for source in (text, text.encode()):
        with pytest.raises(json.JSONDecodeError):
            exact_json.load(source)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("40702810900000012345", "40702810900000012345"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", "18446744073709551616"),
        ("100000000000000000000", 1e20),  # as Postgres writes the float 1e20
        ("1e20", 1e20),
        ("1e400", "1e400"),
        ("-1e400", "-1e400"),
        ("9" * 5_000, "9" * 5_000),
        ("[NaN, Infinity, -Infinity]", [None, None, None]),
        ('{"a": [{"b": 40702810900000012345}, 1.5, "x"]}', {"a": [{"b": "40702810900000012345"}, 1.5, "x"]}),
    ],
)
def test_numbers_of_a_column(text: str, value: Any) -> None:
    stored = exact_json.load_stored(text)

    assert repr(stored) == repr(value)
    assert orjson.loads(exact_json.dump(stored)) == value


@given(INTEGERS)
def test_an_integer_of_a_column_keeps_its_digits(number: int) -> None:
    stored = exact_json.load_stored(f'{{"a": {number}}}')

    (decoded,) = orjson.loads(exact_json.dump(stored)).values()
    text = decoded if isinstance(decoded, str) else repr(decoded)
    assert Decimal(text) == number


@given(VALUES)
def test_what_is_written_can_be_read(value: Any) -> None:
    written = exact_json.dump(value)

    assert exact_json.load(written) == orjson.loads(written)
    assert exact_json.dump(orjson.loads(written)) == written


def test_only_integers_that_cannot_be_written_become_strings() -> None:
    value = {"b": [ACCOUNT, 2**64 - 1, (True, None)], "a": float("nan")}

    assert exact_json.dump(value, orjson.OPT_SORT_KEYS) == (
        b'{"a":null,"b":["40702810900000012345",18446744073709551615,[true,null]]}'
    )
    with pytest.raises(TypeError):
        exact_json.dump({"a": "\ud800"})
