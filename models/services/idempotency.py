"""Idempotency keys: a change that was published twice under one key is recorded once.

A key belongs to a model: two programs that publish changes of different models cannot meet. It is kept for 24 hours
with a digest of its change, so that the same key with another change is noticed, and with the events of the change.
"""

import datetime as dt
from collections.abc import Collection, Sequence

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.declared_model import IdempotencyKey

KEY_LIFETIME = dt.timedelta(hours=24)
#: Expired keys that one call removes: more than one call adds, so that they cannot pile up.
MAX_REMOVED = 1_000


def lock_name(model: str) -> str:
    """The lock of whoever looks for keys of a model in order to add some."""
    return f"idempotency keys of {model}"


async def find_used_keys(
    db: BaseDBAsyncClient, wanted: Collection[tuple[str, str]], now: dt.datetime
) -> dict[tuple[str, str], IdempotencyKey]:
    """Which of these pairs of model and key are still kept; the expired ones make room. Three statements at most."""
    found: Sequence[IdempotencyKey] = []
    if wanted:
        rows = IdempotencyKey.filter(key__in={key for _, key in wanted}, model__in={model for model, _ in wanted})
        found = [row for row in await rows.using_db(db) if (row.model, row.key) in wanted]
    expired = (
        IdempotencyKey.filter(created_at__lt=now - KEY_LIFETIME).using_db(db).order_by("created_at").limit(MAX_REMOVED)
    )
    gone = {row.id for row in found if row.created_at < now - KEY_LIFETIME} | set(
        await expired.values_list("id", flat=True)
    )
    if gone:
        await IdempotencyKey.filter(id__in=gone).using_db(db).delete()
    return {(row.model, row.key): row for row in found if row.id not in gone}
