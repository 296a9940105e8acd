"""The retry policy: the state of an event after each outcome, for each rule of the schedule."""

import datetime as dt

import pytest

from ringback.jobs.outcomes import Outcome
from ringback.jobs.retry import Progress
from ringback.models.enums import EventStatus
from ringback.models.webhook import DEFAULT_RETRY_DELAYS_SECONDS, default_retry_delays
from tests.support.progress import DIED, FRESH, NOW, OK, REFUSED, SCHEDULE, after, later


def state(
    status: EventStatus,
    *,
    attempts: int,
    before_round: int = 0,
    abandoned_in_a_row: int = 0,
    max_attempts: int = 3,
    next_attempt_at: dt.datetime | None = None,
    finished_at: dt.datetime | None = None,
) -> Progress:
    """Return a state of an event with three attempts in its schedule, unless `max_attempts` differs."""
    return Progress(
        status=status,
        attempt_count=attempts,
        attempts_before_round=before_round,
        abandoned_in_a_row=abandoned_in_a_row,
        max_attempts=max_attempts,
        next_attempt_at=next_attempt_at,
        finished_at=finished_at,
    )


def test_the_default_schedule_is_5_240_480_in_three_attempts() -> None:
    assert default_retry_delays() == [5, 240, 480]
    assert DEFAULT_RETRY_DELAYS_SECONDS == SCHEDULE

    first = after(FRESH, REFUSED)
    second = after(first, REFUSED)

    assert first == state(EventStatus.RETRYING, attempts=1, next_attempt_at=later(240))
    assert second == state(EventStatus.RETRYING, attempts=2, next_attempt_at=later(480))
    assert after(second, REFUSED) == state(EventStatus.FAILED, attempts=3, finished_at=NOW)
    assert after(second, OK) == state(EventStatus.SUCCEEDED, attempts=3, finished_at=NOW)


def test_the_first_attempt_can_be_the_last() -> None:
    succeeded = after(FRESH, OK)
    failed = after(FRESH, REFUSED, delays=(0,))

    assert succeeded == state(EventStatus.SUCCEEDED, attempts=1, finished_at=NOW)
    assert failed == state(EventStatus.FAILED, attempts=1, max_attempts=1, finished_at=NOW)


def test_an_abandoned_attempt_uses_a_number_but_no_part_of_the_schedule() -> None:
    abandoned = after(FRESH, DIED)
    refused = after(abandoned, REFUSED)
    failed = after(refused, REFUSED, REFUSED)

    assert abandoned == state(
        EventStatus.RETRYING,
        attempts=1,
        before_round=1,
        abandoned_in_a_row=1,
        max_attempts=4,
        next_attempt_at=later(0),
    )
    assert refused == state(
        EventStatus.RETRYING, attempts=2, before_round=1, max_attempts=4, next_attempt_at=later(240)
    )
    assert failed == state(EventStatus.FAILED, attempts=4, before_round=1, max_attempts=4, finished_at=NOW)


def test_abandoned_attempts_are_repeated_later_each_time_and_the_fifth_fails_the_event() -> None:
    progress = FRESH
    waits = []

    for _ in range(4):
        progress = after(progress, DIED)
        assert progress.status is EventStatus.RETRYING
        assert progress.next_attempt_at is not None
        waits.append((progress.next_attempt_at - NOW).total_seconds())

    assert waits == [0, 1, 5, 15]
    assert after(progress, DIED) == state(
        EventStatus.FAILED, attempts=5, before_round=5, abandoned_in_a_row=5, max_attempts=8, finished_at=NOW
    )


def test_a_recorded_attempt_resets_the_count_of_abandoned_ones() -> None:
    abandoned = after(FRESH, DIED, DIED, DIED, DIED)
    refused = after(abandoned, REFUSED)
    abandoned_again = after(refused, DIED, DIED, DIED, DIED)

    assert (refused.status, refused.abandoned_in_a_row) == (EventStatus.RETRYING, 0)
    assert (abandoned_again.status, abandoned_again.attempt_count) == (EventStatus.RETRYING, 9)
    assert abandoned_again.abandoned_in_a_row == 4
    assert after(abandoned_again, DIED).status is EventStatus.FAILED


@pytest.mark.parametrize("outcome", [OK, REFUSED, DIED])
def test_an_event_cancelled_during_its_attempt_stays_as_it_was_cancelled(outcome: Outcome) -> None:
    cancelled = state(EventStatus.CANCELLED, attempts=0, finished_at=later(-1))

    progress = after(cancelled, outcome, stopped=True)

    assert (progress.status, progress.finished_at) == (EventStatus.CANCELLED, later(-1))
    assert progress.next_attempt_at is None
    assert progress.attempt_count == 1


def test_no_attempt_follows_once_the_webhook_is_stopped() -> None:
    refused = after(FRESH, REFUSED, stopped=True)
    abandoned = after(FRESH, DIED, stopped=True)
    delivered = after(FRESH, OK, stopped=True)

    assert refused == state(EventStatus.CANCELLED, attempts=1, finished_at=NOW)
    assert abandoned == state(
        EventStatus.CANCELLED, attempts=1, before_round=1, abandoned_in_a_row=1, max_attempts=4, finished_at=NOW
    )
    assert delivered.status is EventStatus.SUCCEEDED


def test_a_shortened_schedule_ends_a_waiting_event_after_its_attempt() -> None:
    waiting = after(FRESH, REFUSED, REFUSED)

    assert after(waiting, REFUSED, delays=(5, 60)) == state(EventStatus.FAILED, attempts=3, finished_at=NOW)
    assert after(FRESH, REFUSED, delays=(5,)) == state(EventStatus.FAILED, attempts=1, max_attempts=1, finished_at=NOW)


def test_a_lengthened_schedule_continues_a_waiting_event() -> None:
    waiting = after(FRESH, REFUSED, REFUSED)

    progress = after(waiting, REFUSED, delays=(1, 2, 3, 4))

    assert progress == state(EventStatus.RETRYING, attempts=3, max_attempts=4, next_attempt_at=later(4))


def test_a_redelivery_starts_the_schedule_again_and_continues_the_numbers() -> None:
    failed = after(FRESH, REFUSED, REFUSED, REFUSED)
    redelivered = failed._replace(
        status=EventStatus.RETRYING, attempts_before_round=3, max_attempts=6, finished_at=None
    )

    fourth = after(redelivered, REFUSED)
    sixth = after(fourth, REFUSED, REFUSED)

    assert fourth == state(EventStatus.RETRYING, attempts=4, before_round=3, max_attempts=6, next_attempt_at=later(240))
    assert sixth == state(EventStatus.FAILED, attempts=6, before_round=3, max_attempts=6, finished_at=NOW)
