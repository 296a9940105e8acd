"""Reads the limits of webhooks, which hold in all workers together.

A worker that claims events of a webhook locks its row, then counts what is in flight: two workers never share the same
room. The count is a statement of its own, so that it sees what the worker that held the lock before has committed.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.database.sql import array_parameter, as_uuid, column_in, fetch_rows, is_postgres, uuid_text
from ringback.models.queue.grants import ClaimRequest, WebhookLimit
from ringback.models.timestamps import parse_timestamp, sqlite_timestamp


class LockedWebhook(NamedTuple):
    """What limits a webhook whose row this transaction has locked; the moment as the driver has it."""

    max_concurrency: int | None
    rate_limit_per_second: float | None
    last_slot_at: Any


async def read_limits(
    db: BaseDBAsyncClient, webhooks: Mapping[UUID, LockedWebhook], worker_id: UUID, request: ClaimRequest
) -> dict[UUID, WebhookLimit]:
    """Count what is in flight of locked webhooks and return what their limits still allow."""
    if not webhooks:
        return {}
    statement = _UNDER_WAY.format(of_webhooks=column_in(db, "webhook_id", 1), unrecorded=column_in(db, "id", 3))
    counts = await fetch_rows(
        db, statement, array_parameter(db, webhooks), worker_id, array_parameter(db, request.unrecorded)
    )
    under_way = {as_uuid(key): count for key, count in counts}
    limits = {}
    for key, (bound, rate, last_slot_at) in webhooks.items():
        most = request.max_concurrency if bound is None else bound
        interval = None if rate is None else dt.timedelta(seconds=1 / rate)
        limits[key] = WebhookLimit(most - under_way.get(key, 0), interval, parse_timestamp(last_slot_at))
    return limits


async def save_slots(db: BaseDBAsyncClient, slots: Mapping[UUID, dt.datetime]) -> None:
    """Store the last slot of each of these webhooks."""
    if not slots:
        return
    if is_postgres(db):
        rows = [[slot, key] for key, slot in slots.items()]
        await db.execute_many("UPDATE ringback_webhook SET last_slot_at = $1 WHERE id = $2", rows)
    else:
        texts = [[sqlite_timestamp(slot), uuid_text(key)] for key, slot in slots.items()]
        await db.execute_many("UPDATE ringback_webhook SET last_slot_at = ? WHERE id = ?", texts)


#: By the index ringback_event_claimed (webhook_id, worker_id).
_UNDER_WAY = """
SELECT webhook_id, count(*) FROM ringback_event
WHERE worker_id IS NOT NULL AND {of_webhooks} AND NOT (worker_id = $2 AND {unrecorded}) GROUP BY webhook_id
"""
