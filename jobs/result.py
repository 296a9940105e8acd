"""The result of one attempt, as the deliverer gives it to the recorder."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import Abandoned, Outcome
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.queue.workers import Orphan

#: Milliseconds from which an attempt is slow.
SLOW_MS = 1_000


@dataclass(slots=True, eq=False)
class Result:
    """One attempt that has ended; times are the database's. Results compare by identity.

    `worker_id` and `attempt_count` (the attempts before this one) identify the claim. `duration_ms` is None if the
    attempt was abandoned, `request` if nothing was sent. `event` is the event as claimed, to save reading it again.
    """

    event_id: UUID
    worker_id: UUID
    attempt_count: int
    outcome: Outcome
    started_at: dt.datetime
    ended_at: dt.datetime
    duration_ms: int | None
    request: OutgoingRequest | None = None
    event: ClaimedEvent | None = None

    @property
    def is_prompt(self) -> bool:
        """Whether a request was sent, and ended in less than SLOW_MS."""
        return self.request is not None and self.duration_ms is not None and self.duration_ms < SLOW_MS


def abandon(orphan: Orphan, now: dt.datetime) -> Result:
    """Return the result of an attempt whose worker died, or was declared dead, before recording it."""
    return Result(
        event_id=orphan.event_id,
        worker_id=orphan.worker_id,
        attempt_count=orphan.attempt_count,
        outcome=Abandoned(),
        started_at=orphan.claimed_at,
        ended_at=now,
        duration_ms=None,
    )
