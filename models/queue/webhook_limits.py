"""Reading the concurrency and rate limits of webhooks, which apply to all workers together.

A worker that claims events of a webhook locks the webhook's row, then counts what is in flight, so two workers never
use the same capacity. The count is a statement of its own, so that it sees the commit of the worker that held the lock
before.
"""

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.database.sql import array_parameter, as_uuid, fetch_rows, format_uuid, is_postgres
from ringback.models.queue.grants import ClaimRequest, WebhookLimit
from ringback.models.timestamps import format_sqlite_timestamp


class LockedWebhook(NamedTuple):
    """The limits of a webhook whose row this transaction has locked."""

    max_concurrency: int | None
    rate_limit_per_second: float | None
    last_slot_at: dt.datetime | None


async def read_limits(
    db: BaseDBAsyncClient, webhooks: Mapping[UUID, LockedWebhook], worker_id: UUID, request: ClaimRequest
) -> dict[UUID, WebhookLimit]:
    """Count the attempts of locked webhooks that are in flight, and return what the limits still allow."""
    if not webhooks:
        return {}
    statement = _COUNT_IN_FLIGHT if is_postgres(db) else _COUNT_IN_FLIGHT_ON_SQLITE
    rows = await fetch_rows(
        db, statement, array_parameter(db, webhooks), worker_id, array_parameter(db, request.unrecorded)
    )
    in_flight = {as_uuid(webhook_id): count for webhook_id, count in rows}
    limits = {}
    for webhook_id, webhook in webhooks.items():
        max_concurrency = webhook.max_concurrency
        if max_concurrency is None:
            max_concurrency = request.max_concurrency
        interval = None
        if webhook.rate_limit_per_second is not None:
            interval = dt.timedelta(seconds=1 / webhook.rate_limit_per_second)
        limits[webhook_id] = WebhookLimit(
            free=max_concurrency - in_flight.get(webhook_id, 0), interval=interval, last_slot_at=webhook.last_slot_at
        )
    return limits


async def save_slots(db: BaseDBAsyncClient, slots: Mapping[UUID, dt.datetime]) -> None:
    """Store the last slot of each of these webhooks."""
    if not slots:
        return
    if is_postgres(db):
        values = [[slot, webhook_id] for webhook_id, slot in slots.items()]
        await db.execute_many("UPDATE ringback_webhook SET last_slot_at = $1 WHERE id = $2", values)
    else:
        texts = [[format_sqlite_timestamp(slot), format_uuid(webhook_id)] for webhook_id, slot in slots.items()]
        await db.execute_many("UPDATE ringback_webhook SET last_slot_at = ? WHERE id = ?", texts)


#: Count the events of each webhook (`$1`) that are in flight, by the index ringback_event_claimed (webhook_id,
#: worker_id). Events (`$3`) whose attempts have ended in this worker (`$2`) do not count.
_COUNT_IN_FLIGHT = """
SELECT webhook_id, count(*) FROM ringback_event
WHERE worker_id IS NOT NULL AND webhook_id = ANY($1::uuid[]) AND NOT (worker_id = $2 AND id = ANY($3::uuid[]))
GROUP BY webhook_id
"""
_COUNT_IN_FLIGHT_ON_SQLITE = """
SELECT webhook_id, count(*) FROM ringback_event
WHERE worker_id IS NOT NULL AND webhook_id IN (SELECT value FROM json_each($1))
AND NOT (worker_id = $2 AND id IN (SELECT value FROM json_each($3)))
GROUP BY webhook_id
"""
