"""Idempotency keys: what is still kept, and that expired ones go a bounded number at a time."""

import datetime as dt
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from ringback.models import Settings
from ringback.models.declared_model import IdempotencyKey
from ringback.models.services import idempotency
from ringback.models.services.idempotency import KEY_LIFETIME

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


async def keep(key: str, age: dt.timedelta, model: str = "part", **values: Any) -> IdempotencyKey:
    """Make a key of this age at `NOW`."""
    at = NOW - age
    return await IdempotencyKey.create(model=model, key=key, digest="d", event_ids=["e"], created_at=at, **values)


async def known(*wanted: tuple[str, str]) -> set[tuple[str, str]]:
    async with in_transaction() as db:
        return set(await idempotency.find_used_keys(db, set(wanted), NOW))


async def test_a_key_belongs_to_its_model(database: Settings) -> None:
    await keep("a", dt.timedelta())
    await keep("a", dt.timedelta(), "other")
    await keep("b", dt.timedelta())
    assert await known(("part", "a"), ("other", "b")) == {("part", "a")}
    with pytest.raises(IntegrityError):
        await keep("a", dt.timedelta())


async def test_a_key_is_kept_for_a_day(database: Settings) -> None:
    await keep("new", KEY_LIFETIME - dt.timedelta(seconds=1))
    await keep("old", KEY_LIFETIME + dt.timedelta(seconds=1))
    assert await known(("part", "new"), ("part", "old")) == {("part", "new")}
    assert [key.key for key in await IdempotencyKey.all()] == ["new"]


async def test_expired_keys_go_a_bounded_number_at_a_time(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_REMOVED", 2)
    for age in range(1, 6):
        await keep(str(age), KEY_LIFETIME + dt.timedelta(minutes=age))
    assert await known(("part", "1")) == set()
    # The two oldest, and the one that was asked for.
    assert sorted([key.key for key in await IdempotencyKey.all()]) == ["2", "3"]
    assert await known() == set()
    assert await IdempotencyKey.all().count() == 0
