"""The retry policy is pure, so each rule is a row: where an event stands, what happened, where it stands then."""

import datetime as dt

import pytest

from ringback.jobs.outcomes import Abandoned, Answer, Delivered, Outcome, Rejected, Unreachable
from ringback.jobs.retry import MAX_RETRY_AFTER_SECONDS, Progress, after_attempt, retry_after_seconds
from ringback.models.states import EventStatus
from ringback.models.webhook import DEFAULT_RETRY_DELAYS_SECONDS, default_retry_delays

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
FRESH = Progress(EventStatus.PENDING, 0, 0, 0, 3)
SCHEDULE = (5, 240, 480)
OK = Delivered(Answer(200))
REFUSED = Rejected(Answer(500), "500")
DIED = Abandoned()


def asking(value: str, status: int = 503) -> Rejected:
    return Rejected(Answer(status, (("Content-Type", "text/plain"), ("retry-after", value))), "503")


def later(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def after(
    progress: Progress, *outcomes: Outcome, delays: tuple[int, ...] = SCHEDULE, stopped: bool = False
) -> Progress:
    for outcome in outcomes:
        progress = after_attempt(progress, outcome, NOW, delays, stopped=stopped)
    return progress


def test_the_default_schedule_is_5_240_480_in_three_attempts() -> None:
    assert default_retry_delays() == [5, 240, 480]
    assert DEFAULT_RETRY_DELAYS_SECONDS == SCHEDULE
    first = after(FRESH, REFUSED)
    assert first == Progress(EventStatus.RETRYING, 1, 0, 0, 3, later(240), None)
    second = after(first, REFUSED)
    assert second == Progress(EventStatus.RETRYING, 2, 0, 0, 3, later(480), None)
    assert after(second, REFUSED) == Progress(EventStatus.FAILED, 3, 0, 0, 3, None, NOW)
    assert after(second, OK) == Progress(EventStatus.SUCCEEDED, 3, 0, 0, 3, None, NOW)


def test_the_first_attempt_can_be_the_last() -> None:
    assert after(FRESH, OK) == Progress(EventStatus.SUCCEEDED, 1, 0, 0, 3, None, NOW)
    assert after(FRESH, REFUSED, delays=(0,)) == Progress(EventStatus.FAILED, 1, 0, 0, 1, None, NOW)


# ---------------------------------------------------------------------------------------------------------- Retry-After


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
        ("1.5", 0.0),
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


def test_retry_after_needs_an_answer() -> None:
    assert retry_after_seconds(Unreachable("nobody"), NOW) == 0.0
    assert retry_after_seconds(REFUSED, NOW) == 0.0


@pytest.mark.parametrize(("asked", "waited"), [("241", 241), ("239", 240), ("0", 240), ("soon", 240)])
def test_retry_after_can_only_lengthen_a_wait(asked: str, waited: int) -> None:
    assert after(FRESH, asking(asked)).next_attempt_at == later(waited)


def test_retry_after_adds_no_attempt_to_the_schedule() -> None:
    assert after(FRESH, REFUSED, REFUSED, asking("10")).status is EventStatus.FAILED


# ----------------------------------------------------------------------------------------------------------- abandoned


def test_an_abandoned_attempt_does_not_use_up_the_schedule_and_its_number_stays_taken() -> None:
    died = after(FRESH, DIED)
    assert died == Progress(EventStatus.RETRYING, 1, 1, 1, 4, later(0), None)
    once = after(died, REFUSED)
    assert once == Progress(EventStatus.RETRYING, 2, 1, 0, 4, later(240), None)
    assert after(once, REFUSED, REFUSED) == Progress(EventStatus.FAILED, 4, 1, 0, 4, None, NOW)


def test_abandoned_attempts_in_a_row_are_made_again_ever_later_and_the_fifth_fails_the_event() -> None:
    progress = FRESH
    waits = []
    for _ in range(4):
        progress = after(progress, DIED)
        assert progress.status is EventStatus.RETRYING
        assert progress.next_attempt_at is not None
        waits.append((progress.next_attempt_at - NOW).total_seconds())
    assert waits == [0, 1, 5, 15]
    assert after(progress, DIED) == Progress(EventStatus.FAILED, 5, 5, 5, 8, None, NOW)


def test_a_real_attempt_between_ends_the_row() -> None:
    four = after(FRESH, DIED, DIED, DIED, DIED)
    real = after(four, REFUSED)
    assert (real.status, real.abandoned_in_a_row) == (EventStatus.RETRYING, 0)
    again = after(real, DIED, DIED, DIED, DIED)
    assert (again.status, again.attempt_count, again.abandoned_in_a_row) == (EventStatus.RETRYING, 9, 4)
    assert after(again, DIED).status is EventStatus.FAILED


# ------------------------------------------------------------------------------------------------- stopped, cancelled


CANCELLED = Progress(EventStatus.CANCELLED, 0, 0, 0, 3, None, later(-1))


@pytest.mark.parametrize("outcome", [OK, REFUSED, DIED])
def test_an_event_cancelled_while_its_attempt_was_under_way_stays_as_it_was_cancelled(outcome: Outcome) -> None:
    ended = after(CANCELLED, outcome, stopped=True)
    assert (ended.status, ended.finished_at, ended.next_attempt_at) == (EventStatus.CANCELLED, later(-1), None)
    assert ended.attempt_count == 1


def test_without_a_webhook_that_fires_no_attempt_follows() -> None:
    assert after(FRESH, REFUSED, stopped=True) == Progress(EventStatus.CANCELLED, 1, 0, 0, 3, None, NOW)
    assert after(FRESH, DIED, stopped=True) == Progress(EventStatus.CANCELLED, 1, 1, 1, 4, None, NOW)
    assert after(FRESH, OK, stopped=True).status is EventStatus.SUCCEEDED


# -------------------------------------------------------------------------------- the schedule changes, rounds follow


def test_a_schedule_shortened_while_an_event_waits_ends_it_after_the_attempt() -> None:
    waiting = after(FRESH, REFUSED, REFUSED)
    assert after(waiting, REFUSED, delays=(5, 60)) == Progress(EventStatus.FAILED, 3, 0, 0, 3, None, NOW)
    assert after(FRESH, REFUSED, delays=(5,)) == Progress(EventStatus.FAILED, 1, 0, 0, 1, None, NOW)


def test_a_schedule_lengthened_while_an_event_waits_goes_on() -> None:
    waiting = after(FRESH, REFUSED, REFUSED)
    assert after(waiting, REFUSED, delays=(1, 2, 3, 4)) == Progress(EventStatus.RETRYING, 3, 0, 0, 4, later(4), None)


def test_a_redelivery_begins_the_schedule_anew_and_the_numbers_go_on() -> None:
    failed = after(FRESH, REFUSED, REFUSED, REFUSED)
    anew = failed._replace(status=EventStatus.RETRYING, attempts_before_round=3, max_attempts=6, finished_at=None)
    fourth = after(anew, REFUSED)
    assert fourth == Progress(EventStatus.RETRYING, 4, 3, 0, 6, later(240), None)
    assert after(fourth, REFUSED, REFUSED) == Progress(EventStatus.FAILED, 6, 3, 0, 6, None, NOW)
