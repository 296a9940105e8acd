"""Webhooks as they are now, read again only when they have changed."""

import datetime as dt
from collections import OrderedDict
from collections.abc import Mapping
from uuid import UUID

from ringback.models.reading import load_by_id
from ringback.models.webhook import Webhook

#: So many are kept, the last used ones.
MOST = 20_000


class CurrentWebhooks:
    """Keeps the webhooks last asked for. Every change of one moves its `updated_at`, which tells whether it is kept."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[UUID, Webhook] = OrderedDict()

    async def of(self, updated_at: Mapping[UUID, dt.datetime]) -> Mapping[UUID, Webhook]:
        """These webhooks, as they were when they had been changed at the given moments, or later."""
        found: dict[UUID, Webhook] = {}
        for key, moment in updated_at.items():
            webhook = self._kept.get(key)
            if webhook is not None and webhook.updated_at == moment:
                found[key] = webhook
                self._kept.move_to_end(key)
        read = await load_by_id(Webhook._meta.db, Webhook, [key for key in updated_at if key not in found])
        self._kept |= read
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found | read
