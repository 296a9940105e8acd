"""Tests of the cache of webhooks, which are read again only when they have changed."""

import datetime as dt
from uuid import UUID

import pytest

from ringback.models.database import clock
from ringback.models.queue.webhook_cache import PAGE_CHARACTERS, WebhookCache
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_a_webhook_is_read_again_when_it_has_changed() -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    cache = WebhookCache()
    versions = {webhook.id: webhook.updated_at, other.id: other.updated_at}
    first = await cache.of(versions)
    assert {key: cached.url for key, cached in first.items()} == {webhook.id: webhook.url, other.id: other.url}
    again = await cache.of(versions)
    assert (again[webhook.id], again[other.id]) == (first[webhook.id], first[other.id])
    assert again[webhook.id] is first[webhook.id]
    changed_at = await clock.now() + dt.timedelta(seconds=1)
    await Webhook.filter(id=webhook.id).update(url="https://new.example/", updated_at=changed_at)
    changed = await cache.of({webhook.id: changed_at, other.id: other.updated_at})
    assert changed[webhook.id].url == "https://new.example/"
    assert changed[other.id] is first[other.id]


async def test_the_texts_of_a_webhook_count_with_the_names_of_its_headers() -> None:
    light = await builders.webhook()
    heavy = await builders.webhook(headers=[["X" * PAGE_CHARACTERS, "y" * PAGE_CHARACTERS]])
    cache = WebhookCache(max_weight=3)
    first = await cache.of({light.id: light.updated_at})

    await cache.of({heavy.id: heavy.updated_at})

    assert (await cache.of({light.id: light.updated_at}))[light.id] is not first[light.id]


async def test_the_webhooks_used_last_stay_cached() -> None:
    used, unused, newest = [await builders.webhook() for _ in range(3)]
    cache = WebhookCache(max_weight=2)
    cached: dict[UUID, Webhook] = {}
    for webhook in (used, unused, used, newest):
        cached |= await cache.of({webhook.id: webhook.updated_at})
    assert (await cache.of({used.id: used.updated_at}))[used.id] is cached[used.id]
    assert (await cache.of({unused.id: unused.updated_at}))[unused.id] is not cached[unused.id]
