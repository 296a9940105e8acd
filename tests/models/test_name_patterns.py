"""The operator's patterns of names: which are refused, and how long a hostile name takes."""

import re
import time

import pytest

from ringback.models.name_patterns import NamePattern


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "unclosed group"),
        ("a{1", "unclosed counted repetition"),
        ("[z-a]", "invalid character class range, the start must be <= the end"),
        (r"(a)\1", "backreferences are not supported"),
        ("a(?=b)", "look-around, including look-ahead and look-behind, is not supported"),
        ("((a{99}){99}){99}", "Compiled regex exceeds size limit of 10485760 bytes"),
    ],
)
def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as refusal:
        NamePattern(pattern)

    assert str(refusal.value) == reason


def test_a_pattern_matches_anywhere_in_upper_or_lower_case() -> None:
    pattern = NamePattern("^x-corp|SSN$")

    names = ["X-Corp-Id", "my-ssn", "ssn-of", "a-x-corp", "", "\ud800ssn"]

    assert [name for name in names if pattern.matches(name)] == ["X-Corp-Id", "my-ssn"]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*b", "(a?){30}a{30}"])
def test_a_hostile_name_takes_no_time(pattern: str) -> None:
    matches = NamePattern(pattern).matches

    started = time.thread_time()
    matches("a" * 100_000 + "!")
    assert time.thread_time() - started < 0.5
