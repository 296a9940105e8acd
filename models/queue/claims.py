"""Claims: a worker takes due events, starts their attempts, and gets what it needs to deliver them.

A claim is one transaction: look for due events and lock their webhooks, count what is in flight of those, grant what
slots, shares and limits allow (`grants`), and write the worker's id into the events. Postgres's locks skip what another
transaction holds, so a claim waits for no other worker. What is claimed is in flight from then on: if the worker dies
now, the attempt is recorded as ABANDONED.

An event's row is written twice for each attempt: when it is claimed, and when its result is recorded.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.row_decoding import row_maker
from ringback.models.database.sql import array_parameter, as_uuid, column_in, fetch_rows, is_postgres, uuid_text
from ringback.models.enums import Action, EventStatus
from ringback.models.event import Event
from ringback.models.queue.grants import AHEAD, FIRST_WEBHOOK, Candidate, ClaimRequest, grant, take_turns
from ringback.models.queue.webhook_limits import LockedWebhook, read_limits, save_slots
from ringback.models.timestamps import parse_timestamp, sqlite_timestamp

#: Events of one claim, at most.
MAX_CLAIM = 500
#: Events of each webhook and kind in a look at all webhooks in turn, at most.
MAX_EACH = 50
#: An event is a suspect after so many abandoned attempts in a row: it may be what kills the workers.
SUSPECT_AFTER = 2
_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)
#: The states of events that an attempt may follow.
WAITING = (EventStatus.PENDING, EventStatus.RETRYING)


class ClaimedEvent(NamedTuple):
    """The columns of an `Event` that delivering and recording it need, as they were when it was claimed."""

    id: UUID
    webhook_id: UUID
    model: str
    action: Action
    is_test: bool
    test_item: dict[str, Any] | None
    status: EventStatus
    attempt_count: int
    attempts_before_round: int
    abandoned_in_a_row: int
    max_attempts: int
    next_attempt_at: dt.datetime
    created_at: dt.datetime
    finished_at: dt.datetime | None

    @property
    def is_suspect(self) -> bool:
        """Whether the event may be what kills the workers."""
        return self.abandoned_in_a_row >= SUSPECT_AFTER


class ClaimedChange(NamedTuple):
    """The columns of a `Change` that its delivery needs, as JSON: a webhook that sends the item never decodes it."""

    item_json: str
    changed_fields_json: str

    @property
    def item(self) -> dict[str, Any]:
        """The object, decoded at each call."""
        item: dict[str, Any] = orjson.loads(self.item_json)
        return item

    @property
    def changed_fields(self) -> list[str]:
        """The names of what an update changed, decoded at each call."""
        names: list[str] = orjson.loads(self.changed_fields_json)
        return names


class Delivery(NamedTuple):
    """A claimed event with its change (None for a test event) and the version of its webhook."""

    event: ClaimedEvent
    change: ClaimedChange | None
    webhook_updated_at: dt.datetime


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """The deliveries of a claim, the earliest first, and what is left.

    `at_limit` names webhooks that have more to send than their limits allow, with the time of the next slot, or None
    if one of their attempts must end first.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    at_limit: Mapping[UUID, dt.datetime | None] = field(default_factory=dict)
    #: How many due events the look found.
    seen: int = 0
    #: Whether the look was full, so that more may be due.
    more_due: bool = False
    #: Whether the worker's own slots and shares were too few for what is due.
    left_behind: bool = False
    #: Whether another worker was claiming for some of the webhooks.
    contended: bool = False
    #: Where a look at each webhook in turn goes on.
    after_webhook: UUID = FIRST_WEBHOOK
    #: The time up to which the look found what is due.
    looked_until: dt.datetime = field(default=_LONG_AGO, compare=False)


@dataclass(frozen=True, slots=True)
class _Look:
    """Due events, first attempts and retries, the earliest first; and their webhooks as far as they could be locked."""

    firsts: list[Candidate]
    retries: list[Candidate]
    webhooks: dict[UUID, LockedWebhook]
    more_due: bool
    after_webhook: UUID


async def claim(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
    """Claim due events for a worker and start their attempts."""
    async with in_transaction() as tx:
        now = await clock.now(tx)
        look = await _look(tx, request, now + AHEAD)
        candidates = take_turns(look.firsts, look.retries, retries_first=request.retries_first)
        limits = await read_limits(tx, look.webhooks, worker_id, request)
        grants = grant(candidates, limits, request, now)
        deliveries = await _start_attempts(tx, worker_id, grants.starts, now)
        await save_slots(tx, grants.slots)
    return ClaimedBatch(
        deliveries=deliveries,
        seen=len(candidates),
        at_limit=grants.at_limit,
        more_due=look.more_due,
        left_behind=grants.left_behind,
        contended=any(candidate.webhook_id not in limits for candidate in candidates),
        after_webhook=look.after_webhook,
        looked_until=now + AHEAD,
    )


async def next_due(on_hold: Collection[UUID], after: dt.datetime) -> dt.datetime | None:
    """Return when the first event after `after` is due, or None. Webhooks on hold are ignored."""
    db = Event._meta.db
    statement = _NEXT_DUE.format(on_hold=column_in(db, "webhook_id", 2))
    rows = await fetch_rows(db, statement, after, array_parameter(db, on_hold))
    moments = [moment for (value,) in rows if (moment := parse_timestamp(value)) is not None]
    return min(moments, default=None)


async def _look(db: BaseDBAsyncClient, request: ClaimRequest, until: dt.datetime) -> _Look:
    """Find what is due by `until`, at most as many events of each kind as the worker has slots, and lock webhooks."""
    most = min(request.free_slots, MAX_CLAIM)
    most_retries = min(most, max(request.retry_slots, 0))
    values: list[Any] = [until, most, most_retries, array_parameter(db, request.on_hold), request.may_take_suspect]
    by_webhook = request.after_webhook is not None
    if by_webhook:
        webhooks_at_limit = len(request.on_hold) + 1
        each = max(min(most // webhooks_at_limit, MAX_EACH), 1)
        values += [each, request.after_webhook]
    rows = await fetch_rows(db, _due_statement(is_postgres(db), by_webhook), *values)
    due = sorted(map(_candidate, rows), key=lambda candidate: candidate.due_at)
    firsts = [candidate for candidate in due if not candidate.is_retry]
    retries = [candidate for candidate in due if candidate.is_retry]
    locked = {row[1]: row for row in rows if row[5]}
    more_due = len(firsts) == most or len(retries) == most_retries > 0 or (by_webhook and len(due) == most)
    return _Look(
        firsts=firsts,
        retries=retries,
        webhooks={as_uuid(webhook_id): LockedWebhook(*row[6:]) for webhook_id, row in locked.items()},
        more_due=more_due,
        after_webhook=max(candidate.webhook_id for candidate in due) if more_due else FIRST_WEBHOOK,
    )


def _candidate(row: Sequence[Any]) -> Candidate:
    event_id, webhook_id, due_at, abandoned_in_a_row, status, *_ = row
    moment = parse_timestamp(due_at)
    assert moment is not None, "the statement asks for events that have one"
    return Candidate(
        event_id=as_uuid(event_id),
        webhook_id=as_uuid(webhook_id),
        due_at=moment,
        is_suspect=abandoned_in_a_row >= SUSPECT_AFTER,
        is_retry=status == EventStatus.RETRYING,
    )


async def _start_attempts(
    db: BaseDBAsyncClient, worker_id: UUID, starts: Mapping[UUID, dt.datetime], now: dt.datetime
) -> list[Delivery]:
    """Write the worker into events that still wait; returns them with what their delivery needs."""
    if not starts:
        return []
    postgres = is_postgres(db)
    if postgres:
        values: list[Any] = [list(starts), list(starts.values())]
    else:
        values = [orjson.dumps({uuid_text(key): sqlite_timestamp(moment) for key, moment in starts.items()}).decode()]
    rows = await fetch_rows(db, _start(postgres), *values, worker_id, now)
    make_event = row_maker(Event, ClaimedEvent, postgres=postgres)
    deliveries = []
    for *event, item, changed_fields, updated_at in rows:
        change = None if item is None else ClaimedChange(item, changed_fields)
        webhook_updated_at = parse_timestamp(updated_at)
        assert webhook_updated_at is not None, "the column has no nulls"
        deliveries.append(Delivery(make_event(event), change, webhook_updated_at))
    deliveries.sort(key=lambda delivery: (delivery.event.next_attempt_at, delivery.event.id))
    return deliveries


#: Due events and what limits their webhooks, which are locked. LATERAL looks webhooks up by their keys.
_LOCK_DUE = """
WITH due AS MATERIALIZED ({due}), locked AS (
    SELECT found.* FROM (SELECT DISTINCT webhook_id FROM due) one, LATERAL (
        SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook
        WHERE id = one.webhook_id FOR NO KEY UPDATE SKIP LOCKED
    ) found
)
SELECT due.*, locked.id IS NOT NULL, max_concurrency, rate_limit_per_second, last_slot_at
FROM due LEFT JOIN locked ON locked.id = due.webhook_id
"""
#: On SQLite, whose transactions are alone anyway.
_LOCK_DUE_ON_SQLITE = """
WITH due AS MATERIALIZED ({due})
SELECT due.*, 1, max_concurrency, rate_limit_per_second, last_slot_at
FROM due JOIN ringback_webhook ON ringback_webhook.id = due.webhook_id
"""
#: Due events of each kind, the earliest first. By the index ringback_event_waiting.
_DUE = """
SELECT * FROM (
    SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
    WHERE status = 'PENDING' AND worker_id IS NULL AND next_attempt_at <= $1
    AND NOT {on_hold} AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT $2
) first
UNION ALL SELECT * FROM (
    SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
    WHERE status = 'RETRYING' AND worker_id IS NULL AND next_attempt_at <= $1
    AND NOT {on_hold} AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT $3
) retry
"""
#: The next event of each kind. By the same index.
_NEXT_DUE = """
SELECT * FROM (
    SELECT next_attempt_at FROM ringback_event
    WHERE status = 'PENDING' AND worker_id IS NULL AND next_attempt_at > $1
    AND NOT {on_hold} ORDER BY next_attempt_at LIMIT 1
) first
UNION ALL SELECT * FROM (
    SELECT next_attempt_at FROM ringback_event
    WHERE status = 'RETRYING' AND worker_id IS NULL AND next_attempt_at > $1
    AND NOT {on_hold} ORDER BY next_attempt_at LIMIT 1
) retry
"""
#: The same webhook by webhook, so that no backlog hides another webhook: from the first event of one to the first of
#: the next by the index ringback_event_waiting_by_webhook, a step each. `= ANY(ARRAY[…])` with ORDER BY webhook_id is
#: served by that index alone: where Postgres may choose, it looks for a webhook's events among all that are due. The
#: inner LIMIT is a number that Postgres knows when it plans. OFFSET 0, and CROSS JOIN on SQLite, keep the walk outside:
#: a page that is full must end with the last webhook that it looked at.
_DUE_BY_WEBHOOK = """
WITH RECURSIVE walk(webhook_id) AS (
    SELECT (
        SELECT webhook_id FROM ringback_event
        WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND webhook_id > $7 ORDER BY webhook_id LIMIT 1
    )
    UNION ALL SELECT (
        SELECT event.webhook_id FROM ringback_event event
        WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND event.webhook_id > walk.webhook_id
        ORDER BY event.webhook_id LIMIT 1
    ) FROM walk WHERE walk.webhook_id IS NOT NULL
)
SELECT event.* FROM walk, LATERAL (
    SELECT earliest.* FROM unnest(ARRAY['PENDING', 'RETRYING']) kind, LATERAL (
        SELECT * FROM (
            SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event event
            WHERE event.webhook_id = ANY(ARRAY[walk.webhook_id]) AND status = kind AND worker_id IS NULL
            AND next_attempt_at <= $1 AND ($5 OR abandoned_in_a_row < 2)
            ORDER BY event.webhook_id, next_attempt_at LIMIT 50
        ) fifty LIMIT $6
    ) earliest WHERE $3 > 0 OR kind = 'PENDING' OFFSET 0
) event WHERE walk.webhook_id IS NOT NULL AND NOT {on_hold} LIMIT $2
"""
_DUE_BY_WEBHOOK_ON_SQLITE = """
WITH RECURSIVE walk(webhook_id) AS (
    SELECT (
        SELECT webhook_id FROM ringback_event
        WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND webhook_id > $7 ORDER BY webhook_id LIMIT 1
    )
    UNION ALL SELECT (
        SELECT event.webhook_id FROM ringback_event event
        WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND event.webhook_id > walk.webhook_id
        ORDER BY event.webhook_id LIMIT 1
    ) FROM walk WHERE walk.webhook_id IS NOT NULL
)
SELECT found.id, found.webhook_id, found.next_attempt_at, found.abandoned_in_a_row, found.status
FROM walk CROSS JOIN json_each('["PENDING", "RETRYING"]') kind CROSS JOIN ringback_event found ON found.id IN (
    SELECT event.id FROM ringback_event event
    WHERE event.webhook_id = walk.webhook_id AND status = kind.value AND worker_id IS NULL
    AND next_attempt_at <= $1 AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT $6
)
WHERE walk.webhook_id IS NOT NULL AND NOT {on_hold} AND ($3 > 0 OR kind.value = 'PENDING') LIMIT $2
"""
#: LATERAL looks events up by their keys, and they are written where they were found, at their ctid: right after a burst
#: Postgres believes that few events wait, and would rather read all of them. Events that another transaction changes at
#: this moment are skipped; they can be claimed the next time. The arrays are subselects, so that Postgres does not see
#: how long they are: else it plans the statement anew for each claim, which takes longer than running it.
_START = """
WITH free AS (
    SELECT found.id, found.ctid, wanted.starts_at, change.item, change.changed_fields, webhook.updated_at
    FROM unnest((SELECT $1::uuid[]), (SELECT $2::timestamptz[])) wanted(id, starts_at), LATERAL (
        SELECT event.id, event.ctid, webhook_id, change_id FROM ringback_event event
        WHERE event.id = wanted.id AND status IN ('PENDING', 'RETRYING') AND worker_id IS NULL
        FOR UPDATE SKIP LOCKED
    ) found
    LEFT JOIN LATERAL (SELECT item, changed_fields FROM ringback_change WHERE id = change_id OFFSET 0) change ON true
    LEFT JOIN LATERAL (SELECT updated_at FROM ringback_webhook WHERE id = webhook_id OFFSET 0) webhook ON true
)
UPDATE ringback_event event SET worker_id = $3, claimed_at = $4, next_attempt_at = free.starts_at FROM free
WHERE event.ctid = ANY(ARRAY(SELECT ctid FROM free)) AND event.id = free.id
RETURNING {columns}, free.item, free.changed_fields, free.updated_at
"""
#: The plus keeps SQLite from looking through all events of a status.
_START_ON_SQLITE = """
UPDATE ringback_event SET worker_id = $2, claimed_at = $3, next_attempt_at = wanted.value
FROM json_each($1) wanted
WHERE ringback_event.id = wanted.key AND +status IN ('PENDING', 'RETRYING') AND worker_id IS NULL
RETURNING {columns},
(SELECT item FROM ringback_change WHERE id = change_id),
(SELECT changed_fields FROM ringback_change WHERE id = change_id),
(SELECT updated_at FROM ringback_webhook WHERE id = webhook_id)
"""


@cache
def _due_statement(postgres: bool, by_webhook: bool) -> str:
    on_hold = "walk.webhook_id" if by_webhook else "webhook_id"
    if postgres:
        due = _DUE_BY_WEBHOOK if by_webhook else _DUE
        return _LOCK_DUE.format(due=due.format(on_hold=f"{on_hold} = ANY($4::uuid[])"))
    due = _DUE_BY_WEBHOOK_ON_SQLITE if by_webhook else _DUE
    return _LOCK_DUE_ON_SQLITE.format(due=due.format(on_hold=f"{on_hold} IN (SELECT value FROM json_each($4))"))


@cache
def _start(postgres: bool) -> str:
    statement, table = (_START, "event") if postgres else (_START_ON_SQLITE, "ringback_event")
    return statement.format(columns=", ".join(f"{table}.{column}" for column in ClaimedEvent._fields))
