"""The retry policy, pure: what an event becomes when an attempt has ended. It reads no clock and no setting."""

import datetime as dt
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from ringback.jobs.outcomes import Abandoned, Delivered, Outcome
from ringback.models.states import EventStatus

#: So many abandoned attempts in a row end an event, since it may be what kills the workers (rule 6 of the design).
MAX_ABANDONED_IN_A_ROW = 5
#: Seconds before an abandoned attempt is made again, by how many there were in a row: the first is most likely chance.
ABANDONED_DELAYS_SECONDS = (0, 1, 5, 15)
#: The longest wait that a `Retry-After` can ask for, in seconds: as long as the longest entry of a schedule.
MAX_RETRY_AFTER_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an event stands. The number of the attempt to come is `attempt_count + 1`."""

    status: EventStatus
    attempt_count: int
    attempts_before_round: int
    abandoned_in_a_row: int
    max_attempts: int
    next_attempt_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None


def after_attempt(
    progress: Progress, outcome: Outcome, ended_at: dt.datetime, delays: tuple[int, ...], *, stopped: bool
) -> Progress:
    """What becomes of an event whose attempt ended at `ended_at` with `outcome`.

    `delays` is the webhook's schedule as it is now (rule 8), in seconds; `stopped` says that no attempt may follow,
    because the event was cancelled or its webhook fires no more. An event that was cancelled meanwhile stays so,
    whatever the attempt brought: the attempt is on record beside it.
    """
    number = progress.attempt_count + 1
    if isinstance(outcome, Abandoned):
        return _after_abandoned(replace(progress, attempt_count=number), ended_at, delays, stopped=stopped)
    used = number - progress.attempts_before_round
    now = replace(
        progress,
        attempt_count=number,
        abandoned_in_a_row=0,
        max_attempts=progress.attempts_before_round + max(len(delays), used),
    )
    if isinstance(outcome, Delivered):
        return _ended(now, EventStatus.SUCCEEDED, ended_at)
    if stopped:
        return _ended(now, EventStatus.CANCELLED, ended_at)
    if used >= len(delays):
        return _ended(now, EventStatus.FAILED, ended_at)
    wait = max(float(delays[used]), retry_after_seconds(outcome, ended_at))
    return _waiting(now, ended_at, wait)


def retry_after_seconds(outcome: Outcome, now: dt.datetime) -> float:
    """How long an answer asks to be waited for (RFC 9110, 10.2.3), in seconds; 0 when it does not ask."""
    headers = outcome.answer.headers if outcome.answer else ()
    value = next((v.strip() for name, v in headers if name.lower() == "retry-after"), "")
    if value.isascii() and value.isdigit():
        return float(min(int(value[:12]), MAX_RETRY_AFTER_SECONDS))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return min(max((moment - now).total_seconds(), 0.0), float(MAX_RETRY_AFTER_SECONDS))


def _after_abandoned(progress: Progress, now: dt.datetime, delays: tuple[int, ...], *, stopped: bool) -> Progress:
    """An abandoned attempt does not use up the schedule: the round begins one number later."""
    before = progress.attempts_before_round + 1
    in_a_row = progress.abandoned_in_a_row + 1
    progress = replace(
        progress, attempts_before_round=before, abandoned_in_a_row=in_a_row, max_attempts=before + len(delays)
    )
    if stopped:
        return _ended(progress, EventStatus.CANCELLED, now)
    if in_a_row >= MAX_ABANDONED_IN_A_ROW:
        return _ended(progress, EventStatus.FAILED, now)
    return _waiting(progress, now, ABANDONED_DELAYS_SECONDS[min(in_a_row, len(ABANDONED_DELAYS_SECONDS)) - 1])


def _ended(progress: Progress, status: EventStatus, at: dt.datetime) -> Progress:
    if progress.status.ended:  # cancelled while the attempt was under way: that is how, and when, it ended
        return replace(progress, next_attempt_at=None)
    return replace(progress, status=status, next_attempt_at=None, finished_at=at)


def _waiting(progress: Progress, now: dt.datetime, seconds: float) -> Progress:
    due = now + dt.timedelta(seconds=seconds)
    return replace(progress, status=EventStatus.RETRYING, next_attempt_at=due, finished_at=None)
