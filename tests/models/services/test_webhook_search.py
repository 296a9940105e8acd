"""The search of webhooks: what it costs."""

from collections.abc import Sequence
from typing import Any

import pytest

from ringback.models import Settings
from ringback.models.database.byte_budget import ReadWithin, current_budget
from ringback.models.services.webhook_search import find_newest
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = pytest.mark.every_database


class Meter:
    """A budget that adds up what is read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    async def read(self, read_within: ReadWithin) -> Sequence[Any]:
        page = await read_within(1_000_000)
        self.read_bytes += page.size
        return page.rows


async def test_a_search_without_hits_counts_the_urls_it_reads(database: Settings) -> None:
    url = "https://hooks.example/" + "a" * 978
    for _ in range(3):
        await builders.webhook(url=url, body_template="b" * 5_000)
    meter = Meter()
    token = current_budget.set(meter)

    assert await find_newest(Webhook.all(), "none", 10, None) == []

    current_budget.reset(token)
    assert meter.read_bytes == 3 * len(url)
