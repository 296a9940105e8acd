"""Beginning: the compare-and-set just before events are sent, and what their delivery needs to know, in one statement.

What is begun may have been sent (rule 13 of the design), so an event is begun at its moment and not before. Its
snapshot, and when its webhook was last changed, come along as they are at that moment: `models.current` reads only the
webhooks that have changed.
"""

import datetime as dt
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from ringback.models import clock
from ringback.models.claims import WAITS
from ringback.models.event import Change, Event
from ringback.models.reading import row_maker
from ringback.models.statements import among, fetch, fetch_rows, key_of, many, moment_of, on_postgres
from ringback.models.states import EventStatus
from ringback.models.webhook import Action

#: After every moment at which an event can be due.
FOREVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)


class Begun(NamedTuple):
    """An `Event` as it was begun, as far as its delivery and recording need it."""

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
    #: The end of its lease.
    due_at: dt.datetime
    created_at: dt.datetime
    finished_at: dt.datetime | None


class Told(NamedTuple):
    """What is told of a `Change`."""

    item: dict[str, Any]
    changed_fields: list[str]


class Delivery(NamedTuple):
    """One event that is begun, with the snapshot that it tells of; a test event has none but its own."""

    event: Begun
    change: Told | None
    webhook_updated_at: dt.datetime


class Waiting(NamedTuple):
    """An event that is claimed and not begun, and its moment."""

    due_at: dt.datetime
    event_id: UUID


async def begin(lease: UUID, event_ids: Sequence[UUID], due_by: dt.datetime = FOREVER) -> list[Delivery]:
    """Note that events of a claim are about to be sent: those that the lease still owns and that are due by a moment.

    Returns them, which alone may be sent; the earliest due first.
    """
    db = Event._meta.db
    keys = list(event_ids) if on_postgres(db) else many(db, event_ids)
    rows = await fetch_rows(db, _begin(on_postgres(db)), keys, lease, await clock.now(), due_by)
    event_of = row_maker(Event, Begun, postgres=on_postgres(db))
    change_of = row_maker(Change, Told, postgres=on_postgres(db))
    begun = []
    for *event, item, changed_fields, updated_at in rows:
        change = None if item is None else change_of((item, changed_fields))
        begun.append(Delivery(event_of(event), change, _moment(updated_at)))
    begun.sort(key=lambda delivery: (delivery.event.next_attempt_at, delivery.event.id))
    return begun


async def waiting(lease: UUID, event_ids: Sequence[UUID]) -> list[Waiting]:
    """Those events of a claim that can still be begun; the earliest due first."""
    db = Event._meta.db
    mine = (_MINE if on_postgres(db) else _MINE_ON_SQLITE).format(among(db, "id", 1))
    statement = f"SELECT id, next_attempt_at FROM ringback_event WHERE {mine}"
    rows = await fetch(db, statement, many(db, event_ids), lease, await clock.now())
    return sorted(Waiting(_moment(row["next_attempt_at"]), key_of(row["id"])) for row in rows)


# IS NOT DISTINCT FROM, and the plus on SQLite: by their keys, and not by the index of all that is leased.
_MINE = f"{{}} AND lease IS NOT DISTINCT FROM $2 AND lease_begun_at IS NULL AND due_at > $3 AND {WAITS}"
_MINE_ON_SQLITE = f"{{}} AND +lease = $2 AND lease_begun_at IS NULL AND +due_at > $3 AND +{WAITS}"
# Looked up by their keys, LATERAL and OFFSET see to it, in one order, so that two that begin the same wait for each
# other in one direction only; and written where they were found, at their ctid, for Postgres would rather read a whole
# table of some thousand. What was changed at this very moment is there no longer: it can be begun the next time.
_BEGIN = f"""
WITH mine AS (
    SELECT found.id, found.ctid, change.item, change.changed_fields, webhook.updated_at
    FROM (SELECT id FROM unnest($1::uuid[]) id ORDER BY id) wanted, LATERAL (
        SELECT event.id, event.ctid, webhook_id, change_id FROM ringback_event event
        WHERE {_MINE.format("event.id = wanted.id")} AND next_attempt_at <= $4
        FOR UPDATE
    ) found
    LEFT JOIN LATERAL (SELECT item, changed_fields FROM ringback_change WHERE id = change_id OFFSET 0) change ON true
    LEFT JOIN LATERAL (SELECT updated_at FROM ringback_webhook WHERE id = webhook_id OFFSET 0) webhook ON true
)
UPDATE ringback_event event SET lease_begun_at = $3 FROM mine
WHERE event.ctid = ANY(ARRAY(SELECT ctid FROM mine)) AND event.id = mine.id
RETURNING {{columns}}, mine.item, mine.changed_fields, mine.updated_at
"""
_BEGIN_ON_SQLITE = f"""
UPDATE ringback_event SET lease_begun_at = $3 FROM json_each($1) wanted
WHERE {_MINE_ON_SQLITE.format("ringback_event.id = wanted.value")} AND +next_attempt_at <= $4 RETURNING {{columns}},
(SELECT item FROM ringback_change WHERE id = change_id),
(SELECT changed_fields FROM ringback_change WHERE id = change_id),
(SELECT updated_at FROM ringback_webhook WHERE id = webhook_id)
"""


@cache
def _begin(postgres: bool) -> str:
    statement, table = (_BEGIN, "event") if postgres else (_BEGIN_ON_SQLITE, "ringback_event")
    return statement.format(columns=", ".join(f"{table}.{column}" for column in Begun._fields))


def _moment(value: dt.datetime | str) -> dt.datetime:
    moment = moment_of(value)
    assert moment is not None, "what waits has a moment, and a webhook has been written"
    return moment
