"""The retry policy, pure: the state of an event after an attempt. It reads no clock and no setting.

The first attempt's time is set by `models.tracking.outbox`, that of a redelivery or a test fire by
`models.services.events`. A rate limit moves it in `models.queue.grants`.
"""

import datetime as dt
import math
import re
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

from ringback.jobs.outcomes import Abandoned, Delivered, Outcome, first_header
from ringback.models.enums import EventStatus

#: Abandoned attempts in a row that fail an event, since the event itself may crash workers.
MAX_ABANDONED_IN_A_ROW = 5
#: Seconds before an abandoned attempt is repeated, by their number in a row: the first is most likely a coincidence.
ABANDONED_DELAYS_SECONDS = (0, 1, 5, 15)
#: The longest wait that `Retry-After` can ask for: as long as the longest delay of a schedule.
MAX_RETRY_AFTER_SECONDS = 7 * 24 * 3600
#: Seconds in a `Retry-After`. RFC 9110 allows whole ones only; servers that compute the wait send fractions, too.
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")


class EventState(Protocol):
    """The state of an event before an attempt: an `Event`, a `ClaimedEvent`, or the `Progress` of the last attempt."""

    @property
    def status(self) -> EventStatus:
        """Status of the event."""

    @property
    def attempt_count(self) -> int:
        """Number of recorded attempts."""

    @property
    def attempts_before_round(self) -> int:
        """Number of recorded attempts that do not count in the current round of the schedule."""

    @property
    def max_attempts(self) -> int:
        """Number of the last attempt that the schedule allowed when it was last applied."""

    @property
    def abandoned_in_a_row(self) -> int:
        """Number of attempts abandoned since the last that was not."""

    @property
    def finished_at(self) -> dt.datetime | None:
        """The end of the event, or None if it has not ended."""


class Progress(NamedTuple):
    """The state of an event after an attempt. The next attempt's number is `attempt_count + 1`."""

    status: EventStatus
    #: Number of recorded attempts.
    attempt_count: int
    #: Number of recorded attempts that do not count in the current round of the schedule.
    attempts_before_round: int
    #: Number of attempts abandoned since the last that was not.
    abandoned_in_a_row: int
    max_attempts: int
    next_attempt_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None


def after_attempt(
    former: EventState, outcome: Outcome, ended_at: dt.datetime, delays: tuple[int, ...], *, stopped: bool
) -> Progress:
    """Return the state of an event after an attempt that ended at `ended_at` with `outcome`.

    `delays` is the webhook's current schedule, in seconds. `stopped` says that no attempt may follow: the event was
    cancelled, or its webhook is inactive or deleted. A cancelled event stays cancelled whatever the outcome.
    """
    if isinstance(outcome, Delivered):
        return after_delivery(former, ended_at)
    if isinstance(outcome, Abandoned):
        return _after_abandoned(former, ended_at, delays, stopped=stopped)
    attempts_in_round = former.attempt_count + 1 - former.attempts_before_round
    next_attempt_at = None
    if stopped:
        status = EventStatus.CANCELLED
    elif attempts_in_round >= len(delays):
        status = EventStatus.FAILED
    else:
        status = EventStatus.RETRYING
        seconds = max(float(delays[attempts_in_round]), retry_after_seconds(outcome, ended_at))
        next_attempt_at = ended_at + dt.timedelta(seconds=seconds)
    return _make_progress(
        former,
        status,
        ended_at,
        attempts_before_round=former.attempts_before_round,
        abandoned_in_a_row=0,
        max_attempts=former.attempts_before_round + max(len(delays), attempts_in_round),
        next_attempt_at=next_attempt_at,
    )


def after_delivery(former: EventState, ended_at: dt.datetime) -> Progress:
    """Return the state of an event after a delivery that ended at `ended_at`. The schedule does not matter.

    A cancelled event stays cancelled.
    """
    number = former.attempt_count + 1
    return _make_progress(
        former,
        EventStatus.SUCCEEDED,
        ended_at,
        attempts_before_round=former.attempts_before_round,
        abandoned_in_a_row=0,
        max_attempts=max(former.max_attempts, number),
        next_attempt_at=None,
    )


def retry_after_seconds(outcome: Outcome, now: dt.datetime) -> float:
    """Return the wait that the response's Retry-After asks for (RFC 9110, 10.2.3), in seconds, or 0.

    Fractions of a second are rounded up. A value that is neither seconds nor a date is ignored.
    """
    if outcome.response is None:
        return 0.0
    value = first_header(outcome.response.headers, "retry-after")
    if not value:
        return 0.0
    if _SECONDS.fullmatch(value):
        return float(math.ceil(min(Decimal(value), Decimal(MAX_RETRY_AFTER_SECONDS))))
    try:
        retry_at = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    if retry_at.tzinfo is None:
        retry_at = retry_at.replace(tzinfo=dt.UTC)
    seconds = (retry_at - now).total_seconds()
    return min(max(seconds, 0.0), float(MAX_RETRY_AFTER_SECONDS))


def _after_abandoned(former: EventState, ended_at: dt.datetime, delays: tuple[int, ...], *, stopped: bool) -> Progress:
    """Leave the schedule as it is: the attempt counts as one before the current round."""
    abandoned_in_a_row = former.abandoned_in_a_row + 1
    next_attempt_at = None
    if stopped:
        status = EventStatus.CANCELLED
    elif abandoned_in_a_row >= MAX_ABANDONED_IN_A_ROW:
        status = EventStatus.FAILED
    else:
        status = EventStatus.RETRYING
        seconds = ABANDONED_DELAYS_SECONDS[min(abandoned_in_a_row, len(ABANDONED_DELAYS_SECONDS)) - 1]
        next_attempt_at = ended_at + dt.timedelta(seconds=seconds)
    return _make_progress(
        former,
        status,
        ended_at,
        attempts_before_round=former.attempts_before_round + 1,
        abandoned_in_a_row=abandoned_in_a_row,
        max_attempts=former.attempts_before_round + 1 + len(delays),
        next_attempt_at=next_attempt_at,
    )


def _make_progress(
    former: EventState,
    status: EventStatus,
    ended_at: dt.datetime,
    *,
    attempts_before_round: int,
    abandoned_in_a_row: int,
    max_attempts: int,
    next_attempt_at: dt.datetime | None,
) -> Progress:
    """Return the state after one more attempt. `next_attempt_at` is None if `status` is an end."""
    finished_at = None
    if next_attempt_at is None:
        finished_at = ended_at
        if former.status.ended:  # cancelled during the attempt: it keeps that end and its time
            status, finished_at = former.status, former.finished_at
    return Progress(
        status=status,
        attempt_count=former.attempt_count + 1,
        attempts_before_round=attempts_before_round,
        abandoned_in_a_row=abandoned_in_a_row,
        max_attempts=max_attempts,
        next_attempt_at=next_attempt_at,
        finished_at=finished_at,
    )
