"""Retry-After: its forms, and its effect on the schedule."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.jobs.outcomes import Unreachable
from ringback.jobs.retry import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from ringback.models.enums import EventStatus
from tests.support.progress import FRESH, NOW, REFUSED, after, asking, later


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("600", 600.0),
        (" 600 ", 600.0),
        ("0", 0.0),
        ("Sun, 01 Mar 2026 12:10:00 GMT", 600.0),
        ("Sun, 01 Mar 2026 14:10:00 +0200", 600.0),
        ("Sunday, 01-Mar-26 12:10:00 GMT", 600.0),
        ("Sun Mar  1 12:10:00 2026", 600.0),
        ("Sun, 01 Mar 2026 11:59:59 GMT", 0.0),
        ("604801", float(MAX_RETRY_AFTER_SECONDS)),
        ("9" * 4000, float(MAX_RETRY_AFTER_SECONDS)),
        ("Mon, 01 Mar 2027 12:00:00 GMT", float(MAX_RETRY_AFTER_SECONDS)),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("60.5", 61.0),
        ("60.0", 60.0),
        ("60.", 60.0),
        ("60.000000000000000000001", 61.0),
        ("0.001", 1.0),
        ("\t60.5 ", 61.0),
        ("000000000000060", 60.0),
        ("604799.5", float(MAX_RETRY_AFTER_SECONDS)),
        (".5", 0.0),
        ("60,5", 0.0),
        ("60.5.1", 0.0),
        ("+60", 0.0),
        ("60s", 0.0),
        ("60 s", 0.0),
        ("NaN", 0.0),
        ("Infinity", 0.0),
        ("1e3", 0.0),
        ("٦٠٠", 0.0),
        ("²", 0.0),
        ("Sun, 01 Mar 99999999999999999999 12:10:00 GMT", 0.0),
        ("Sun, 32 Mar 2026 12:10:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 12:10:00 +99999999999", 0.0),
        ("Sat, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", float(MAX_RETRY_AFTER_SECONDS)),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_ignored(value: str, seconds: float) -> None:
    assert retry_after_seconds(asking(value), NOW) == seconds


@given(st.decimals(min_value=0, max_value=MAX_RETRY_AFTER_SECONDS, places=6))
def test_seconds_are_rounded_up(seconds: Decimal) -> None:
    assert retry_after_seconds(asking(f"{seconds:f}"), NOW) == math.ceil(seconds)


@given(st.one_of(st.text(), st.from_regex(r"[0-9., :+A-Za-z-]{1,40}", fullmatch=True)))
def test_any_value_asks_for_a_wait_within_the_limits(value: str) -> None:
    assert 0.0 <= retry_after_seconds(asking(value), NOW) <= MAX_RETRY_AFTER_SECONDS


def test_retry_after_needs_a_response_with_the_header() -> None:
    assert retry_after_seconds(Unreachable("why"), NOW) == 0.0
    assert retry_after_seconds(REFUSED, NOW) == 0.0


@pytest.mark.parametrize(("asked", "waited"), [("241", 241), ("239", 240), ("0", 240), ("soon", 240)])
def test_retry_after_can_only_lengthen_a_wait(asked: str, waited: int) -> None:
    assert after(FRESH, asking(asked)).next_attempt_at == later(waited)


def test_retry_after_adds_no_attempt_to_the_schedule() -> None:
    assert after(FRESH, REFUSED, REFUSED, asking("10")).status is EventStatus.FAILED
