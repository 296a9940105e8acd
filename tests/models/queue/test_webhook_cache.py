"""Webhooks that are read again only when they have changed."""

import datetime as dt
from uuid import UUID

import pytest

from ringback.models.database import clock
from ringback.models.queue.webhook_cache import WebhookCache
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_a_webhook_is_read_again_when_it_has_changed() -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    current = WebhookCache()
    asked = {webhook.id: webhook.updated_at, other.id: other.updated_at}
    first = await current.of(asked)
    assert {key: found.url for key, found in first.items()} == {webhook.id: webhook.url, other.id: other.url}
    again = await current.of(asked)
    assert (again[webhook.id], again[other.id]) == (first[webhook.id], first[other.id])
    assert again[webhook.id] is first[webhook.id]
    changed_at = await clock.now() + dt.timedelta(seconds=1)
    await Webhook.filter(id=webhook.id).update(url="https://new.example/", updated_at=changed_at)
    found = await current.of({webhook.id: changed_at, other.id: other.updated_at})
    assert found[webhook.id].url == "https://new.example/"
    assert found[other.id] is first[other.id]


async def test_those_last_used_are_kept() -> None:
    one, two, three = [await builders.webhook() for _ in range(3)]
    current = WebhookCache(most=2)
    kept: dict[UUID, Webhook] = {}
    for webhook in (one, two, one, three):
        kept |= await current.of({webhook.id: webhook.updated_at})
    assert (await current.of({one.id: one.updated_at}))[one.id] is kept[one.id]
    assert (await current.of({two.id: two.updated_at}))[two.id] is not kept[two.id]
