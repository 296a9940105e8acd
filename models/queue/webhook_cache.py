"""A cache of webhooks, which are read again only when they have changed."""

import datetime as dt
from collections.abc import Mapping
from itertools import chain
from uuid import UUID

from cachetools import LRUCache

from ringback.models.database.row_decoding import load_by_id
from ringback.models.webhook import Webhook

#: Total weight of the cached webhooks. A webhook weighs 1, and 1 more for each page of its text.
MAX_WEIGHT = 20_000
PAGE_CHARACTERS = 2_048


class WebhookCache:
    """The webhooks that were used last. Each change of a webhook moves its `updated_at`, so an old one is noticed."""

    def __init__(self, max_weight: int = MAX_WEIGHT) -> None:
        self._cached: LRUCache[UUID, Webhook] = LRUCache(max_weight, _weigh)

    async def of(self, updated_at: Mapping[UUID, dt.datetime]) -> Mapping[UUID, Webhook]:
        """Return the webhooks with these ids, each as it was when it had this `updated_at`, or later."""
        current: dict[UUID, Webhook] = {}
        for webhook_id, version in updated_at.items():
            webhook = self._cached.get(webhook_id)
            if webhook is not None and webhook.updated_at == version:
                current[webhook_id] = webhook
        missing = [webhook_id for webhook_id in updated_at if webhook_id not in current]
        loaded = await load_by_id(Webhook._meta.db, Webhook, missing)
        for webhook_id, webhook in loaded.items():
            self._cached[webhook_id] = webhook
        return current | loaded


def _weigh(webhook: Webhook) -> int:
    headers = chain.from_iterable(webhook.headers)
    texts = (webhook.url, webhook.body_template, webhook.condition or "", *headers)
    return 1 + sum(map(len, texts)) // PAGE_CHARACTERS
