"""Claims: a worker takes due events, starts their attempts, and gets what it needs to deliver them.

A claim is one transaction: find due events and lock their webhooks, count the attempts of those webhooks that are in
flight, grant events within slots, shares and limits (`grants`), and write the worker's id into the granted events.
Postgres skips rows that another transaction has locked, so a claim waits for no other worker. A claimed event is in
flight: if the worker dies before it records the result, the attempt is recorded as ABANDONED.

Each attempt writes the row of its event twice: when the event is claimed and when the result is recorded.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.row_decoding import build_row_decoder
from ringback.models.database.sql import array_parameter, as_uuid, fetch_rows, format_uuid, is_postgres
from ringback.models.enums import Action, EventStatus
from ringback.models.event import Event
from ringback.models.queue import claim_sql
from ringback.models.queue.grants import (
    AHEAD,
    FIRST_WEBHOOK,
    LARGE_BYTES,
    Candidate,
    ClaimRequest,
    Grants,
    grant,
    take_turns,
)
from ringback.models.queue.webhook_limits import LockedWebhook, read_limits, save_slots
from ringback.models.timestamps import format_sqlite_timestamp, parse_timestamp

#: Maximum events of one claim.
MAX_CLAIM = 500
#: Maximum events of each webhook and kind in a claim that searches webhook by webhook. `claim_sql` repeats it.
MAX_EVENTS_EACH = 50
#: Abandoned attempts in a row after which an event is a suspect: it may be what kills the workers. `claim_sql` repeats
#: it.
SUSPECT_AFTER = 2
#: Time until another look at webhooks whose large items do not fit into the worker's memory.
LACKS_BYTES_PAUSE = dt.timedelta(seconds=0.2)
#: Statuses of events that wait for an attempt.
WAITING_STATUSES = (EventStatus.PENDING, EventStatus.RETRYING)
_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(slots=True)
class ClaimedEvent:
    """The columns of an `Event` that are needed to deliver and record it, as they were when it was claimed."""

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
    #: Whether attempts evaluate the webhook's condition, because it was not evaluated at the change.
    condition_pending: bool

    @property
    def is_suspect(self) -> bool:
        """Whether the event may be what kills the workers."""
        return self.abandoned_in_a_row >= SUSPECT_AFTER


@dataclass(slots=True)
class ClaimedChange:
    """The columns of a `Change` that are needed to deliver it, as JSON.

    A webhook that sends the whole item never decodes it.
    """

    item_json: str
    changed_fields_json: str

    @property
    def item(self) -> dict[str, Any]:
        """The object's snapshot, decoded at each access."""
        item: dict[str, Any] = orjson.loads(self.item_json)
        return item

    @property
    def changed_fields(self) -> list[str]:
        """The names of the fields that an update changed, decoded at each access."""
        names: list[str] = orjson.loads(self.changed_fields_json)
        return names


@dataclass(slots=True)
class Delivery:
    """A claimed event with its change (None for a test event) and the version of its webhook."""

    event: ClaimedEvent
    change: ClaimedChange | None
    webhook_updated_at: dt.datetime

    @property
    def item_size(self) -> int:
        """The number of bytes of the change's item as UTF-8."""
        if self.change is None:
            return 0
        if self.change.item_json.isascii():
            return len(self.change.item_json)
        return len(self.change.item_json.encode())


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """The deliveries of a claim, the earliest first, and what remains due.

    `at_limit` holds the webhooks with more due events than their limits allow, with the time of the next slot, or None
    if one of their attempts must end first.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    at_limit: Mapping[UUID, dt.datetime | None] = field(default_factory=dict)
    #: Number of due events that were found.
    seen: int = 0
    #: Whether the search reached its limit, so that more events may be due.
    more_due: bool = False
    #: Whether due events were left because the worker lacks slots or shares.
    left_behind: bool = False
    #: Whether some of these events lack one of the common slots.
    lacks_common_slots: bool = False
    #: Whether another worker was claiming for some of the webhooks.
    contended: bool = False
    #: The webhook after which the next search webhook by webhook starts.
    after_webhook: UUID = FIRST_WEBHOOK
    #: The time until which due events were searched.
    looked_until: dt.datetime = field(default=_LONG_AGO, compare=False)


async def claim(worker_id: UUID, request: ClaimRequest) -> ClaimedBatch:
    """Claim due events for a worker and start their attempts."""
    async with in_transaction() as tx:
        now = await clock.now(tx)
        due = await _find_due(tx, request, now + AHEAD)
        candidates = take_turns(due.firsts, due.retries, retries_first=request.retries_first)
        limits = await read_limits(tx, due.webhooks, worker_id, request)
        grants = grant(candidates, limits, request, now)
        deliveries = await _start_attempts(tx, worker_id, grants, now)
        await save_slots(tx, _find_used_slots(grants, deliveries))
    lacks_bytes = _list_webhooks_without_bytes(candidates, grants, deliveries)
    return ClaimedBatch(
        deliveries=deliveries,
        seen=len(candidates),
        at_limit=grants.at_limit | dict.fromkeys(lacks_bytes, now + LACKS_BYTES_PAUSE),
        more_due=due.more_due,
        left_behind=grants.left_behind,
        lacks_common_slots=grants.lacks_common_slots,
        contended=any(candidate.webhook_id not in limits for candidate in candidates),
        after_webhook=due.after_webhook,
        looked_until=now + AHEAD,
    )


async def find_next_due(on_hold: Collection[UUID], after: dt.datetime) -> dt.datetime | None:
    """Return when the first event after `after` is due, or None. Webhooks on hold are ignored."""
    db = Event._meta.db
    statement = claim_sql.NEXT_DUE if is_postgres(db) else claim_sql.NEXT_DUE_ON_SQLITE
    rows = await fetch_rows(db, statement, after, array_parameter(db, on_hold))
    times = [_require_time(value) for (value,) in rows]
    return min(times, default=None)


class DueRow(NamedTuple):
    """A row of the statements that find due events. The last three columns are null if `is_locked` is false."""

    event_id: Any
    webhook_id: Any
    due_at: Any
    abandoned_in_a_row: int
    status: str
    is_locked: bool
    max_concurrency: int | None
    rate_limit_per_second: float | None
    last_slot_at: Any


@dataclass(frozen=True, slots=True)
class _DueEvents:
    """Due first attempts and retries, the earliest first, and those of their webhooks that could be locked."""

    firsts: list[Candidate]
    retries: list[Candidate]
    webhooks: dict[UUID, LockedWebhook]
    more_due: bool
    after_webhook: UUID


async def _find_due(db: BaseDBAsyncClient, request: ClaimRequest, until: dt.datetime) -> _DueEvents:
    """Find events that are due by `until`, at most as many of each kind as the worker has slots, and lock webhooks."""
    limit = min(request.free_slots, MAX_CLAIM)
    retry_limit = min(limit, max(request.retry_slots, 0))
    webhooks = request.on_hold
    if request.only_prompt:
        webhooks = [webhook_id for webhook_id in request.prompt if webhook_id not in request.on_hold]
    values: list[Any] = [until, limit, retry_limit, array_parameter(db, webhooks), request.may_take_suspect]
    by_webhook = request.after_webhook is not None
    if by_webhook and not request.only_prompt:
        webhooks_at_limit = len(request.on_hold) + 1
        limit_each = max(min(limit // webhooks_at_limit, MAX_EVENTS_EACH), 1)
        values += [limit_each, request.after_webhook]
    rows = await fetch_rows(db, _select_due_statement(is_postgres(db), request), *values)
    due_rows = [DueRow._make(row) for row in rows]
    candidates = sorted(map(_make_candidate, due_rows), key=attrgetter("due_at"))
    firsts = [candidate for candidate in candidates if not candidate.is_retry]
    retries = [candidate for candidate in candidates if candidate.is_retry]
    is_full = len(firsts) == limit or len(retries) == retry_limit > 0
    more_due = is_full or ((by_webhook or request.only_prompt) and len(candidates) == limit)
    after_webhook = FIRST_WEBHOOK
    if more_due:
        after_webhook = max(candidate.webhook_id for candidate in candidates)
    return _DueEvents(
        firsts=firsts,
        retries=retries,
        webhooks=_list_locked_webhooks(due_rows),
        more_due=more_due,
        after_webhook=after_webhook,
    )


def _select_due_statement(postgres: bool, request: ClaimRequest) -> str:
    if request.only_prompt:
        return claim_sql.LOCK_DUE_OF_WEBHOOKS if postgres else claim_sql.LOCK_DUE_OF_WEBHOOKS_ON_SQLITE
    if request.after_webhook is not None:
        return claim_sql.LOCK_DUE_BY_WEBHOOK if postgres else claim_sql.LOCK_DUE_BY_WEBHOOK_ON_SQLITE
    return claim_sql.LOCK_DUE if postgres else claim_sql.LOCK_DUE_ON_SQLITE


def _make_candidate(row: DueRow) -> Candidate:
    return Candidate(
        event_id=as_uuid(row.event_id),
        webhook_id=as_uuid(row.webhook_id),
        due_at=_require_time(row.due_at),
        is_suspect=row.abandoned_in_a_row >= SUSPECT_AFTER,
        is_retry=row.status == EventStatus.RETRYING,
    )


def _list_locked_webhooks(rows: Sequence[DueRow]) -> dict[UUID, LockedWebhook]:
    row_by_webhook = {row.webhook_id: row for row in rows if row.is_locked}
    webhooks = {}
    for webhook_id, row in row_by_webhook.items():
        webhooks[as_uuid(webhook_id)] = LockedWebhook(
            max_concurrency=row.max_concurrency,
            rate_limit_per_second=row.rate_limit_per_second,
            last_slot_at=parse_timestamp(row.last_slot_at),
        )
    return webhooks


async def _start_attempts(db: BaseDBAsyncClient, worker_id: UUID, grants: Grants, now: dt.datetime) -> list[Delivery]:
    """Write the worker into events that still wait. Return their deliveries, the earliest first."""
    starts = grants.starts
    if not starts:
        return []
    postgres = is_postgres(db)
    if postgres:
        values = [list(starts), list(starts.values()), worker_id, now, grants.rooms, LARGE_BYTES]
        rows = await fetch_rows(db, claim_sql.START_ATTEMPTS, *values)
    else:
        given = {}
        for (event_id, starts_at), room in zip(starts.items(), grants.rooms, strict=True):
            given[format_uuid(event_id)] = (format_sqlite_timestamp(starts_at), room)
        encoded = orjson.dumps(given).decode()
        rows = await fetch_rows(db, claim_sql.START_ATTEMPTS_ON_SQLITE, encoded, worker_id, now, LARGE_BYTES)
    make_event = build_row_decoder(Event, ClaimedEvent, postgres=postgres)
    deliveries = []
    for *event, item, changed_fields, updated_at in rows:
        change = None if item is None else ClaimedChange(item_json=item, changed_fields_json=changed_fields)
        deliveries.append(
            Delivery(event=make_event(event), change=change, webhook_updated_at=_require_time(updated_at))
        )
    deliveries.sort(key=_start_order)
    return deliveries


def _find_used_slots(grants: Grants, deliveries: Sequence[Delivery]) -> dict[UUID, dt.datetime]:
    """Return the last slot that each webhook with a rate limit has used. `deliveries` are sorted by their start.

    A granted slot is not used if another claim has started its event meanwhile, or if there is no memory for its item.
    """
    used: dict[UUID, dt.datetime] = {}
    for delivery in deliveries:
        if delivery.event.webhook_id in grants.slots:
            used[delivery.event.webhook_id] = delivery.event.next_attempt_at
    return used


def _list_webhooks_without_bytes(
    candidates: Sequence[Candidate], grants: Grants, deliveries: Sequence[Delivery]
) -> set[UUID]:
    """Return the webhooks with granted events that did not start because their items are large."""
    if len(deliveries) == len(grants.starts):
        return set()
    has_large = any(delivery.item_size >= LARGE_BYTES for delivery in deliveries)
    if not has_large and min(grants.rooms) > 0:
        return set()  # another transaction is changing the events
    unstarted = grants.starts.keys() - {delivery.event.id for delivery in deliveries}
    return {candidate.webhook_id for candidate in candidates if candidate.event_id in unstarted}


def _start_order(delivery: Delivery) -> tuple[dt.datetime, UUID]:
    return delivery.event.next_attempt_at, delivery.event.id


def _require_time(value: Any) -> dt.datetime:
    """Parse a time that a statement returns and that cannot be null."""
    time = parse_timestamp(value)
    assert time is not None
    return time
