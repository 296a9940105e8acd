"""Checks that the services share."""

import datetime as dt
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.database.sql import is_storable
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import Prefix
from ringback.models.services.validation import (
    MAX_PROBLEMS,
    Problems,
    api_name,
    check_unchanged,
    did_you_mean,
    is_blank,
    name_character,
    not_found,
    parse_id,
)

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def reported(problems: Problems) -> list[tuple[str | None, str, ProblemCode]]:
    with pytest.raises(InputRejected) as refused:
        problems.raise_if_any()
    return [(p.field, p.message, p.code) for p in refused.value.problems]


def test_all_problems_are_reported_at_once() -> None:
    problems = Problems()
    problems.raise_if_any()
    problems.add("a", "a must be b.")
    problems.check_nulls({"c_d": None, "d": None, "e": 0, "f": ""}, clearable={"d"})
    assert reported(problems) == [
        ("a", "a must be b.", ProblemCode.INVALID),
        ("c_d", "cD is null. Leave it out to keep the stored value.", ProblemCode.INVALID),
    ]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("Ада", "Ада"),
        ("  a b\u00a0", "a b"),
        ("x" * 5, "x" * 5),
        ("🔔" * 5, "🔔" * 5),
        ("", None),
        (" ", None),
        ("\u200b\u200b", None),
        ("\u200bb", "\u200bb"),
        ("👩\u200d👧", "👩\u200d👧"),
        (None, None),
    ],
)
def test_a_line_is_stripped_and_may_be_left_empty(value: str | None, line: str | None) -> None:
    problems = Problems()
    assert problems.check_line("first_name", value, max_chars=5, required=False) == line
    problems.raise_if_any()


@pytest.mark.parametrize(
    ("value", "message", "code"),
    [
        ("", "is empty. Enter a value.", ProblemCode.INVALID),
        (None, "is empty. Enter a value.", ProblemCode.INVALID),
        ("\t\n", "is empty. Enter a value.", ProblemCode.INVALID),
        ("\u200b", "is empty. Enter a value.", ProblemCode.INVALID),
        ("\ufeff\u200d \u2060\u00ad", "is empty. Enter a value.", ProblemCode.INVALID),
        ("\u3164\u2800\uffa0\ufe0f\U000e0100", "is empty. Enter a value.", ProblemCode.INVALID),
        ("a\nb", "contains a control or lone surrogate character. Enter one line of text.", ProblemCode.INVALID),
        ("a\x00", "contains a control or lone surrogate character. Enter one line of text.", ProblemCode.INVALID),
        ("a\x7f", "contains a control or lone surrogate character. Enter one line of text.", ProblemCode.INVALID),
        ("\udfff", "contains a control or lone surrogate character. Enter one line of text.", ProblemCode.INVALID),
        ("x" * 6, "has 6 characters. Enter at most 5.", ProblemCode.TOO_LARGE),
    ],
)
def test_a_line_is_refused(value: str | None, message: str, code: ProblemCode) -> None:
    problems = Problems()
    assert problems.check_line("first_name", value, max_chars=5) is None
    assert reported(problems) == [("first_name", f"firstName {message}", code)]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("Maria\tda Silva", "Maria da Silva"),
        (" Maria \r\n da\u2028Silva\x85", "Maria da Silva"),
        ("Maria  da\u00a0Silva", "Maria  da\u00a0Silva"),
        ("\t", None),
        (None, None),
    ],
)
def test_a_tab_or_line_break_in_a_form_becomes_a_space(value: str | None, line: str | None) -> None:
    problems = Problems()
    assert problems.check_form_line("first_name", value, max_chars=15, required=False) == line
    problems.raise_if_any()


@given(st.text(st.characters(categories=["L", "Zs", "Zl", "Zp", "Cf", "Cc"], exclude_characters="\0"), max_size=20))
def test_a_line_from_a_form_has_no_break_and_keeps_its_words(value: str) -> None:
    problems = Problems()
    line = problems.check_form_line("name", value, max_chars=20, required=False)
    if line is not None:
        assert len(line.splitlines()) == 1
        assert line.split() == value.split()


@given(st.text())
def test_a_text_that_prints_something_is_not_blank(value: str) -> None:
    assert is_blank(value + "\u200b\u3164 ") is is_blank(value)
    assert not is_blank(f"{value}a")


def test_a_character_in_a_message() -> None:
    assert [name_character(character) for character in "\0\u00a0\U000e0100"] == [
        "U+0000", "U+00A0 (NO-BREAK SPACE)", "U+E0100 (VARIATION SELECTOR-17)",
    ]  # fmt: skip


def test_a_text_keeps_its_lines_and_blanks() -> None:
    problems = Problems()
    assert problems.check_text("f", " a\r\n\tb ", max_chars=7) == " a\r\n\tb "
    assert problems.check_text("f", " \n ", max_chars=7) is None
    assert problems.check_text("f", None, max_chars=7) is None
    problems.raise_if_any()
    assert problems.check_text("f", "\ud800", max_chars=7) is None
    assert problems.check_text("f", " " * 8, max_chars=7) is None
    assert [message for _, message, _ in reported(problems)] == [
        "f contains a NUL or lone surrogate character. Remove it.",
        "f has 8 characters. Enter at most 7.",
    ]


@pytest.mark.parametrize(
    "value", ["a/b", "application/json", "text/plain; charset=utf-8", "a/b;c", 'x-a/v.b+c;  d="e"']
)
def test_a_media_type(value: str) -> None:
    problems = Problems()
    assert problems.check_media_type("f", value, max_chars=50) == value
    problems.raise_if_any()


@pytest.mark.parametrize("value", ["json", "a/", "/b", "a/b c", "a/b; ", "a b/c", "é/a", "a/b;é", "a/b\u2028c"])
def test_an_invalid_media_type(value: str) -> None:
    problems = Problems()
    assert problems.check_media_type("f", value, max_chars=50) is None
    assert reported(problems) == [
        ("f", f"f is {value.strip()!r}. Enter a media type, such as application/json.", ProblemCode.INVALID)
    ]


def test_texts_that_every_database_can_store() -> None:
    assert [is_storable(text) for text in ("", "Ада\n", "🔔", "\x00", "\ud800", "a\udfffb")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_parsing_an_id() -> None:
    assert parse_id(Prefix.LEAD, "lead_01h455vb4pex5vsknk084sn02q") == UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    for text in ("", "lead", "lead_1", "ord_01h455vb4pex5vsknk084sn02q", "LEAD_01h455vb4pex5vsknk084sn02q", "\ud800"):
        with pytest.raises(InputRejected) as refused:
            parse_id(Prefix.LEAD, text, "lead_id")
        ((problem),) = refused.value.problems
        assert (problem.field, problem.code) == ("lead_id", ProblemCode.INVALID)
        assert "lead_" in problem.message
    assert not_found("lead", "lead_1").problems == (
        Problem("There is no lead with the id lead_1.", "id", ProblemCode.NOT_FOUND),
    )


def test_a_lost_update() -> None:
    check_unchanged(NOON, None)
    check_unchanged(NOON, NOON.astimezone(dt.timezone(dt.timedelta(hours=3))))
    with pytest.raises(InputRejected) as refused:
        check_unchanged(NOON, NOON - dt.timedelta(microseconds=1))
    ((problem),) = refused.value.problems
    assert (problem.field, problem.code) == ("expected_updated_at", ProblemCode.CONFLICT)
    assert problem.message.startswith("The object was updated at 2026-01-31T12:00:00.000000Z, after you read it.")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("url", "url"),
        ("retry_delays_seconds[0]", "retryDelaysSeconds[0]"),
        ("changes[12].idempotency_key", "changes[12].idempotencyKey"),
    ],
)
def test_the_name_of_a_field_in_the_api(field: str, name: str) -> None:
    assert api_name(field) == name


def test_a_hint() -> None:
    assert did_you_mean("leed", ["lead", "customer_order"]) == " Did you mean lead?"
    assert did_you_mean("x", ["lead"]) == ""


def test_no_hint_is_searched_for_among_long_or_many_names() -> None:
    assert did_you_mean("l" * 40, ["l" * 39]) == f" Did you mean {'l' * 39}?"
    assert did_you_mean("l" * 41, ["l" * 39]) == ""
    assert did_you_mean("l" * 39, ["l" * 41]) == ""
    assert did_you_mean("leed", ["lead", *map(str, range(199))]) == " Did you mean lead?"
    assert did_you_mean("leed", ["lead", *map(str, range(200))]) == ""


def test_the_number_of_problems_is_limited() -> None:
    problems = Problems()
    for number in range(MAX_PROBLEMS + 5):
        assert problems.is_full == (number >= MAX_PROBLEMS)
        problems.add("a", "a must be b.", within=f".c_d[{number}]")
    with pytest.raises(InputRejected) as refused:
        problems.raise_if_any()
    assert len(refused.value.problems) == MAX_PROBLEMS
    assert refused.value.problems[-1].within == ".c_d[99]"
