"""The checks that many inputs share."""

import datetime as dt
from uuid import UUID

import pytest

from ringback.models.database.sql import is_storable
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import Prefix
from ringback.models.services.validation import (
    MAX_PROBLEMS,
    Problems,
    check_unchanged,
    did_you_mean,
    not_found,
    parse_id,
)

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def found(problems: Problems) -> list[tuple[str | None, str, ProblemCode]]:
    with pytest.raises(InputRejected) as refused:
        problems.refuse_if_any()
    return [(p.field, p.message, p.code) for p in refused.value.problems]


def test_all_problems_are_told_at_once() -> None:
    problems = Problems()
    problems.refuse_if_any()
    problems.add("a", "must be b")
    problems.no_nulls({"c": None, "d": None, "e": 0, "f": ""}, clearable={"d"})
    assert found(problems) == [
        ("a", "must be b", ProblemCode.INVALID),
        ("c", "cannot be null; leave it out to keep it", ProblemCode.INVALID),
    ]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("Ада", "Ада"),
        ("  a b\u00a0", "a b"),
        ("x" * 5, "x" * 5),
        ("🔔" * 5, "🔔" * 5),
        ("", None),
        (" ", None),
        (None, None),
    ],
)
def test_a_line_is_stripped_and_may_be_left_empty(value: str | None, kept: str | None) -> None:
    problems = Problems()
    assert problems.line("f", value, longest=5, required=False) == kept
    problems.refuse_if_any()


@pytest.mark.parametrize(
    ("value", "message", "code"),
    [
        ("", "must not be empty", ProblemCode.INVALID),
        (None, "must not be empty", ProblemCode.INVALID),
        ("\t\n", "must not be empty", ProblemCode.INVALID),
        ("a\nb", "must be one line of Unicode text, without control characters", ProblemCode.INVALID),
        ("a\x00", "must be one line of Unicode text, without control characters", ProblemCode.INVALID),
        ("a\x7f", "must be one line of Unicode text, without control characters", ProblemCode.INVALID),
        ("\udfff", "must be one line of Unicode text, without control characters", ProblemCode.INVALID),
        ("x" * 6, "has 6 characters; 5 are allowed", ProblemCode.TOO_LARGE),
    ],
)
def test_a_line_is_refused(value: str | None, message: str, code: ProblemCode) -> None:
    problems = Problems()
    assert problems.line("f", value, longest=5) is None
    assert found(problems) == [("f", message, code)]


def test_a_text_keeps_its_lines_and_blanks() -> None:
    problems = Problems()
    assert problems.text("f", " a\r\n\tb ", longest=7) == " a\r\n\tb "
    assert problems.text("f", " \n ", longest=7) is None
    assert problems.text("f", None, longest=7) is None
    problems.refuse_if_any()
    assert problems.text("f", "\ud800", longest=7) is None
    assert problems.text("f", " " * 8, longest=7) is None
    assert [message for _, message, _ in found(problems)] == [
        "must not hold NUL or lone surrogate characters",
        "has 8 characters; 7 are allowed",
    ]


@pytest.mark.parametrize(
    "value", ["a/b", "application/json", "text/plain; charset=utf-8", "a/b;c", 'x-a/v.b+c;  d="e"']
)
def test_a_media_type(value: str) -> None:
    problems = Problems()
    assert problems.media_type("f", value, longest=50) == value
    problems.refuse_if_any()


@pytest.mark.parametrize("value", ["json", "a/", "/b", "a/b c", "a/b; ", "a b/c", "é/a", "a/b;é", "a/b\u2028c"])
def test_what_is_no_media_type(value: str) -> None:
    problems = Problems()
    assert problems.media_type("f", value, longest=50) is None
    assert found(problems) == [("f", "must be a media type such as application/json", ProblemCode.INVALID)]


def test_what_every_database_can_keep() -> None:
    assert [is_storable(text) for text in ("", "Ада\n", "🔔", "\x00", "\ud800", "a\udfffb")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_an_id_that_a_person_gave() -> None:
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
    assert problem.message.startswith("It was updated at 2026-01-31T12:00:00.000000Z, after the state")


def test_a_hint() -> None:
    assert did_you_mean("leed", ["lead", "customer_order"]) == ": did you mean lead?"
    assert did_you_mean("x", ["lead"]) == ""


def test_so_many_problems_are_enough() -> None:
    problems = Problems()
    for number in range(MAX_PROBLEMS + 5):
        assert problems.are_many == (number >= MAX_PROBLEMS)
        problems.add("a", "must be b", within=f".c_d[{number}]")
    with pytest.raises(InputRejected) as refused:
        problems.refuse_if_any()
    assert len(refused.value.problems) == MAX_PROBLEMS
    assert refused.value.problems[-1].within == ".c_d[99]"
