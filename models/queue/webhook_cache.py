"""Webhooks as they are now, read again only when they have changed."""

import datetime as dt
from collections.abc import Mapping
from uuid import UUID

from cachetools import LRUCache

from ringback.models.database.row_decoding import load_by_id
from ringback.models.webhook import Webhook

#: So much is kept, the webhooks last used: each weighs one, and one more for each page of text in it.
MOST, PAGE_CHARACTERS = 20_000, 2_048


class WebhookCache:
    """Keeps the webhooks last asked for. Every change of one moves its `updated_at`, which tells whether it is kept."""

    def __init__(self, most: int = MOST) -> None:
        self._kept: LRUCache[UUID, Webhook] = LRUCache(most, _weight)

    async def of(self, updated_at: Mapping[UUID, dt.datetime]) -> Mapping[UUID, Webhook]:
        """These webhooks, as they were when they had been changed at the given moments, or later."""
        found: dict[UUID, Webhook] = {}
        for key, moment in updated_at.items():
            webhook = self._kept.get(key)
            if webhook is not None and webhook.updated_at == moment:
                found[key] = webhook
        read = await load_by_id(Webhook._meta.db, Webhook, [key for key in updated_at if key not in found])
        for key, webhook in read.items():
            self._kept[key] = webhook
        return found | read


def _weight(webhook: Webhook) -> int:
    texts = (webhook.url, webhook.body_template, webhook.condition or "", *(value for _, value in webhook.headers))
    return 1 + sum(map(len, texts)) // PAGE_CHARACTERS
