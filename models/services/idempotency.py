"""Idempotency keys: a change that is published twice under one key is recorded once.

A key belongs to one model, so programs that publish different models cannot clash. It is stored for 24 hours, with the
events of its change and with a digest of it, which reveals that the key was used again for another change.
"""

import datetime as dt
from collections.abc import Set
from typing import NamedTuple
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.declared_model import IdempotencyKey

KEY_LIFETIME = dt.timedelta(hours=24)
#: Expired keys deleted by one call. A call adds at most 500, so expired keys cannot pile up.
MAX_DELETED = 1_000


class ModelKey(NamedTuple):
    """An idempotency key and the model that it belongs to."""

    model: str
    key: str


def lock_name(model: str) -> str:
    """Return the name of the lock to hold while looking up and adding keys of a model."""
    return f"idempotency keys of {model}"


async def find_used_keys(
    db: BaseDBAsyncClient, model_keys: Set[ModelKey], now: dt.datetime
) -> dict[ModelKey, IdempotencyKey]:
    """Return the stored keys among the given ones, and delete expired keys. Runs at most three statements."""
    stored = await _find_stored_keys(db, model_keys)
    oldest = now - KEY_LIFETIME
    expired_ids = await _find_expired_ids(db, oldest)
    used: dict[ModelKey, IdempotencyKey] = {}
    for model_key, row in stored.items():
        if row.created_at < oldest:
            expired_ids.add(row.id)
        else:
            used[model_key] = row
    if expired_ids:
        await IdempotencyKey.filter(id__in=expired_ids).using_db(db).delete()
    return used


async def _find_stored_keys(db: BaseDBAsyncClient, model_keys: Set[ModelKey]) -> dict[ModelKey, IdempotencyKey]:
    if not model_keys:
        return {}
    models = {model_key.model for model_key in model_keys}
    keys = {model_key.key for model_key in model_keys}
    stored: dict[ModelKey, IdempotencyKey] = {}
    for row in await IdempotencyKey.filter(key__in=keys, model__in=models).using_db(db):
        model_key = ModelKey(row.model, row.key)
        # The query also returns a key of one of these models that was given for another model.
        if model_key in model_keys:
            stored[model_key] = row
    return stored


async def _find_expired_ids(db: BaseDBAsyncClient, oldest: dt.datetime) -> set[UUID]:
    expired = IdempotencyKey.filter(created_at__lt=oldest).using_db(db).order_by("created_at").limit(MAX_DELETED)
    return {row.id for row in await expired.only("id")}
