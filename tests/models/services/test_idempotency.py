"""Idempotency keys: their lifetime, and the deletion of a limited number of expired ones."""

import datetime as dt
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from ringback.models import Settings
from ringback.models.declared_model import IdempotencyKey
from ringback.models.services import idempotency
from ringback.models.services.idempotency import KEY_LIFETIME, ModelKey

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


async def store_key(key: str, age: dt.timedelta, model: str = "part", **values: Any) -> IdempotencyKey:
    """Store a key of this age at `NOW`."""
    at = NOW - age
    return await IdempotencyKey.create(model=model, key=key, digest="d", event_ids=["e"], created_at=at, **values)


async def find(*keys: tuple[str, str]) -> set[tuple[str, str]]:
    model_keys = {ModelKey(model, key) for model, key in keys}
    async with in_transaction() as db:
        return set(await idempotency.find_used_keys(db, model_keys, NOW))


async def test_a_key_belongs_to_its_model(database: Settings) -> None:
    await store_key("a", dt.timedelta())
    await store_key("a", dt.timedelta(), "other")
    await store_key("b", dt.timedelta())
    assert await find(("part", "a"), ("other", "b")) == {("part", "a")}
    with pytest.raises(IntegrityError):
        await store_key("a", dt.timedelta())


async def test_a_key_expires_after_a_day(database: Settings) -> None:
    await store_key("new", KEY_LIFETIME - dt.timedelta(seconds=1))
    await store_key("old", KEY_LIFETIME + dt.timedelta(seconds=1))
    assert await find(("part", "new"), ("part", "old")) == {("part", "new")}
    assert [key.key for key in await IdempotencyKey.all()] == ["new"]


async def test_one_call_deletes_a_limited_number_of_expired_keys(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MAX_DELETED", 2)
    for age in range(1, 6):
        await store_key(str(age), KEY_LIFETIME + dt.timedelta(minutes=age))
    assert await find(("part", "1")) == set()
    # Deleted: the two oldest, and the expired key that was looked up.
    assert sorted([key.key for key in await IdempotencyKey.all()]) == ["2", "3"]
    assert await find() == set()
    assert await IdempotencyKey.all().count() == 0
