"""Reads the limits of webhooks, which hold in all workers together.

A worker that claims events of a webhook locks its row, then counts what is under way: two workers never share the same
room. The count is a statement of its own, so that it sees what the worker that held the lock before has committed.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.queue.grants import WebhookLimit
from ringback.models.statements import among, fetch_rows, key_of, key_text, many, moment_of, moment_text, on_postgres


async def lock_limits(
    db: BaseDBAsyncClient, webhook_ids: Collection[UUID], max_concurrency: int
) -> dict[UUID, WebhookLimit]:
    """Lock webhooks within a transaction and return their limits; those that another worker has locked are left out.

    `max_concurrency` is the bound of webhooks without one of their own.
    """
    lock = "FOR NO KEY UPDATE SKIP LOCKED" if on_postgres(db) else ""
    statement = f"{_LIMITS} WHERE {among(db, 'id', 1)} {lock}"
    rows = await fetch_rows(db, statement, many(db, webhook_ids))
    locked = [key_of(row[0]) for row in rows]
    counts = await fetch_rows(db, _UNDER_WAY.format(among(db, "webhook_id", 1)), many(db, locked))
    under_way = {key_of(key): count for key, count in counts}
    limits = {}
    for key, (_, bound, rate, last_slot_at) in zip(locked, rows, strict=True):
        most = max_concurrency if bound is None else bound
        interval = None if rate is None else dt.timedelta(seconds=1 / rate)
        limits[key] = WebhookLimit(most - under_way.get(key, 0), interval, moment_of(last_slot_at))
    return limits


async def save_slots(db: BaseDBAsyncClient, slots: Mapping[UUID, dt.datetime]) -> None:
    """Store the last slot of each of these webhooks."""
    if not slots:
        return
    if on_postgres(db):
        rows = [[slot, key] for key, slot in slots.items()]
        await db.execute_many("UPDATE ringback_webhook SET last_slot_at = $1 WHERE id = $2", rows)
    else:
        texts = [[moment_text(slot), key_text(key)] for key, slot in slots.items()]
        await db.execute_many("UPDATE ringback_webhook SET last_slot_at = ? WHERE id = ?", texts)


_LIMITS = "SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook"
#: By the index ringback_event_claimed (webhook_id, worker_id).
_UNDER_WAY = """
SELECT webhook_id, count(*) FROM ringback_event WHERE worker_id IS NOT NULL AND {} GROUP BY webhook_id
"""
