"""The retry policy is pure, so each rule is a row: where an event stands, what happened, where it stands then."""

import pytest

from ringback.jobs.outcomes import Outcome
from ringback.jobs.retry import Progress
from ringback.models.enums import EventStatus
from ringback.models.webhook import DEFAULT_RETRY_DELAYS_SECONDS, default_retry_delays
from tests.support.progress import DIED, FRESH, NOW, OK, REFUSED, SCHEDULE, after, later


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
