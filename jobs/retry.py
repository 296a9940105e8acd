"""The retry policy, pure: what an event becomes when an attempt has ended. It reads no clock and no setting."""

import datetime as dt
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol, TypeAlias

from ringback.jobs.outcomes import Abandoned, Delivered, Outcome
from ringback.models.enums import EventStatus

#: So many abandoned attempts in a row end an event, since it may be what kills the workers (rule 6 of the design).
MAX_ABANDONED_IN_A_ROW = 5
#: Seconds before an abandoned attempt is made again, by how many there were in a row: the first is most likely chance.
ABANDONED_DELAYS_SECONDS = (0, 1, 5, 15)
#: The longest wait that a `Retry-After` can ask for, in seconds: as long as the longest entry of a schedule.
MAX_RETRY_AFTER_SECONDS = 7 * 24 * 3600


#: Of a `Progress`: the attempts on record, those before the round, those abandoned in a row, and the most there can be.
_Counts: TypeAlias = tuple[int, int, int, int]


class Standing(Protocol):
    """An event as far as it decides about what becomes of it; a `Progress` is one, too."""

    @property
    def status(self) -> EventStatus:
        """Where it stands."""

    @property
    def attempt_count(self) -> int:
        """The attempts on record."""

    @property
    def attempts_before_round(self) -> int:
        """Those of them that the present round of the schedule does not count."""

    @property
    def abandoned_in_a_row(self) -> int:
        """The last of them that were abandoned."""

    @property
    def finished_at(self) -> dt.datetime | None:
        """When it ended."""


class Progress(NamedTuple):
    """Where an event stands. The number of the attempt to come is `attempt_count + 1`."""

    status: EventStatus
    attempt_count: int
    attempts_before_round: int
    abandoned_in_a_row: int
    max_attempts: int
    next_attempt_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None


def after_attempt(
    former: Standing, outcome: Outcome, ended_at: dt.datetime, delays: tuple[int, ...], *, stopped: bool
) -> Progress:
    """What becomes of an event whose attempt ended at `ended_at` with `outcome`.

    `delays` is the webhook's schedule as it is now (rule 8), in seconds; `stopped` says that no attempt may follow,
    because the event was cancelled or its webhook fires no more. An event that was cancelled meanwhile stays so,
    whatever the attempt brought: the attempt is on record beside it.
    """
    if isinstance(outcome, Abandoned):
        return _after_abandoned(former, ended_at, delays, stopped=stopped)
    number, before = former.attempt_count + 1, former.attempts_before_round
    used = number - before
    counts = (number, before, 0, before + max(len(delays), used))
    if isinstance(outcome, Delivered):
        return _ended(former, counts, EventStatus.SUCCEEDED, ended_at)
    if stopped:
        return _ended(former, counts, EventStatus.CANCELLED, ended_at)
    if used >= len(delays):
        return _ended(former, counts, EventStatus.FAILED, ended_at)
    wait = max(float(delays[used]), retry_after_seconds(outcome, ended_at))
    return _waiting(counts, ended_at, wait)


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


def _after_abandoned(former: Standing, now: dt.datetime, delays: tuple[int, ...], *, stopped: bool) -> Progress:
    """An abandoned attempt does not use up the schedule: the round begins one number later."""
    before = former.attempts_before_round + 1
    in_a_row = former.abandoned_in_a_row + 1
    counts = (former.attempt_count + 1, before, in_a_row, before + len(delays))
    if stopped:
        return _ended(former, counts, EventStatus.CANCELLED, now)
    if in_a_row >= MAX_ABANDONED_IN_A_ROW:
        return _ended(former, counts, EventStatus.FAILED, now)
    return _waiting(counts, now, ABANDONED_DELAYS_SECONDS[min(in_a_row, len(ABANDONED_DELAYS_SECONDS)) - 1])


def _ended(former: Standing, counts: _Counts, status: EventStatus, at: dt.datetime | None) -> Progress:
    if former.status.ended:  # cancelled while the attempt was under way: that is how, and when, it ended
        status, at = former.status, former.finished_at
    return Progress(status, *counts, None, at)


def _waiting(counts: _Counts, now: dt.datetime, seconds: float) -> Progress:
    return Progress(EventStatus.RETRYING, *counts, now + dt.timedelta(seconds=seconds))
