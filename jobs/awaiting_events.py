"""The events that await results: one statement locks their rows, another one ends those that were delivered.

An event awaits the result of one attempt: it names the worker that claimed it, and counts the attempts before it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.jobs.result import Result
from ringback.models.database.sql import array_parameter, as_uuid, fetch_rows, is_postgres
from ringback.models.queue.claims import ClaimedEvent


class LockedEvent(NamedTuple):
    """The columns of `_LOCK_EVENTS`, as the driver returns them."""

    event_id: UUID | str
    worker_id: UUID | str | None
    status: str
    attempt_count: int
    attempts_before_round: int
    max_attempts: int
    retry_delays: str
    is_active: bool
    is_deleted: bool

    def awaits(self, result: Result) -> bool:
        """Return whether the event names the worker and the attempt of this result, whatever its status."""
        if self.worker_id is None or self.attempt_count != result.attempt_count:
            return False
        return as_uuid(self.worker_id) == result.worker_id

    def is_unchanged_since_claim(self, event: ClaimedEvent) -> bool:
        """Return whether an event that awaits its result is as it was claimed, so that it need not be read again."""
        return (
            event.status == self.status
            and event.attempts_before_round == self.attempts_before_round
            and event.max_attempts == self.max_attempts
        )


async def lock_events(db: BaseDBAsyncClient, event_ids: Sequence[UUID]) -> dict[UUID, LockedEvent]:
    """Lock events until the transaction ends; return, by id, those that still exist, as they are now."""
    statement = _READ_EVENTS_ON_SQLITE
    if is_postgres(db):
        statement = _LOCK_EVENTS
    rows = await fetch_rows(db, statement, array_parameter(db, event_ids))
    return {as_uuid(row[0]): LockedEvent._make(row) for row in rows}


#: Events by their primary key, with their webhooks, in the order of ids so that transactions cannot deadlock. Stopping
#: a webhook cancels its waiting events in the same transaction. So if this statement waits for that transaction, the
#: event's status is current, even if the webhook's columns were read before it.
_LOCK_EVENTS = """
SELECT event.id, worker_id, status, attempt_count, attempts_before_round, max_attempts,
       retry_delays, is_active, webhook.deleted_at IS NOT NULL
FROM ringback_event event JOIN ringback_webhook webhook ON webhook.id = webhook_id
WHERE event.id = ANY($1::uuid[]) ORDER BY event.id FOR UPDATE OF event
"""
#: The same columns. SQLite's transactions run one at a time and need no row locks.
_READ_EVENTS_ON_SQLITE = """
SELECT event.id, worker_id, status, attempt_count, attempts_before_round, max_attempts,
       retry_delays, is_active, webhook.deleted_at IS NOT NULL
FROM ringback_event event JOIN ringback_webhook webhook ON webhook.id = webhook_id
WHERE event.id IN (SELECT value FROM json_each($1))
"""


async def end_events(db: BaseDBAsyncClient, worker_id: UUID, deliveries: Mapping[UUID, Result]) -> set[UUID]:
    """Mark the events as succeeded that await these results and have not ended; return their ids. Postgres only.

    `deliveries` are results of `worker_id` by event id. Rows are locked in the order of ids, so that two transactions
    cannot deadlock.
    """
    event_ids = sorted(deliveries)
    attempt_counts = [deliveries[event_id].attempt_count for event_id in event_ids]
    end_times = [deliveries[event_id].ended_at for event_id in event_ids]
    rows = await fetch_rows(db, _END_EVENTS, event_ids, attempt_counts, end_times, worker_id)
    return {event_id for (event_id,) in rows}


#: `$1` ids, `$2` numbers of attempts before these, `$3` end times, `$4` worker. docs/decisions/0004 has the figures.
#: - LATERAL locks rows in the order of the arrays. It finds them by their keys: unlike `=`, IS NOT DISTINCT FROM cannot
#:   use the index on the worker.
#: - A row that another transaction has changed meanwhile is locked, but not updated: its new version is not in this
#:   statement's snapshot. `lock_events` then looks again, and its result is written with the others.
#: - As in `models.queue.claim_sql`, the UPDATE finds its rows by ctid, whatever Postgres estimates, and the arrays are
#:   subselects, so that it does not plan the statement anew for each batch.
_END_EVENTS = """
WITH awaited AS (
    SELECT event.ctid, event.id, ended_at
    FROM unnest((SELECT $1::uuid[]), (SELECT $2::int[]), (SELECT $3::timestamptz[]))
    delivered(id, attempt_count, ended_at), LATERAL (
        SELECT ctid, id FROM ringback_event event
        WHERE event.id = delivered.id AND event.worker_id IS NOT DISTINCT FROM $4
        AND event.attempt_count = delivered.attempt_count AND status IN ('PENDING', 'RETRYING')
        FOR UPDATE
    ) event
)
UPDATE ringback_event event
SET status = 'SUCCEEDED', attempt_count = attempt_count + 1, abandoned_in_a_row = 0,
max_attempts = greatest(max_attempts, attempt_count + 1), next_attempt_at = NULL, finished_at = ended_at,
worker_id = NULL, claimed_at = NULL
FROM awaited
WHERE event.ctid = ANY(ARRAY(SELECT ctid FROM awaited)) AND event.id = awaited.id
RETURNING event.id
"""
