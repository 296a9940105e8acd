"""`make bench-page`: measures pages of 100 with everything that the contract selects.

The pages are executed and encoded in this process, as for every transport but without a network, on a new SQLite
database. Times are of the wall clock, after a warm-up: the median of many runs.
"""

import argparse
import asyncio
import cProfile
import datetime as dt
import pstats
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ringback.graphql_api.context.authentication import Authenticator
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.context.request_context import Context, Services
from ringback.graphql_api.execution.engine import Engine
from ringback.graphql_api.schema.build import schema
from ringback.models import bootstrap, delivery_log, settings
from ringback.models.database import clock
from ringback.models.enums import Action, EventStatus, OutcomeName, Role
from ringback.models.event import Attempt, Change, Event
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.services import api_tokens
from ringback.models.services.inboxes import Inboxes
from ringback.models.services.webhooks import Webhooks
from ringback.models.webhook import Webhook
from tests.contract import operations
from tests.support.statements import counted

EVENTS, ATTEMPTS, WEBHOOKS = 100, 3, 10
WARM_UP = 5
EVENT = operations()["Event"]
WITH_ATTEMPTS = """
query Events($first: Int!) {
  events(first: $first) { nodes { ...EventRow attempts { ...AttemptRow } } pageInfo { hasNextPage endCursor } }
}
"""
#: The contract's operations. The second selects for each event what the operation `Event` does.
PAGES = {
    "Events": operations()["Events"],
    "Events with 3 attempts each": WITH_ATTEMPTS + EVENT[EVENT.index("fragment") :],
    "Attempts": operations()["Attempts"],
}
ITEM: dict[str, Any] = {
    "id": "ord_01h455vb4pex5vsknk084sn02q", "number": "1", "status": "NEW", "comment": None, "total": "1402.00",
    "customer": {"name": "Ада", "phone": "+7 900 000-00-00", "email": None},
    "items": [{"brand": "Bosch", "article": "0 986 479 098", "name": "Колодки", "quantity": 2, "price": "350.50"}] * 2,
}  # fmt: skip


class Page:
    """A page that can be read repeatedly."""

    def __init__(self, engine: Engine, context: Context, document: str) -> None:
        self._engine = engine
        self._context = context
        self._document = document

    async def read(self) -> bytes:
        """Execute the operation and return the encoded response."""
        context = Context(self._context.services, self._context.viewer)
        operation = await self._engine.operation(self._document)
        response = await self._engine.execute(operation, {"first": EVENTS}, context)
        assert response.errors == (), response.errors
        return response.json

    async def times(self, runs: int) -> list[float]:
        """Return the time of each of `runs` reads, in milliseconds."""
        times = []
        for _ in range(WARM_UP + runs):
            started = time.perf_counter()
            await self.read()
            times.append((time.perf_counter() - started) * 1000)
        return times[WARM_UP:]

    async def profile(self, runs: int) -> None:
        """Print where the time goes."""
        with cProfile.Profile() as profile:
            for _ in range(runs):
                await self.read()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


@asynccontextmanager
async def open_filled_database(folder: Path) -> AsyncIterator[Context]:
    """Create and fill a database. Yields the context for resolvers."""
    own_settings = settings.load_settings(data_dir=folder)
    await bootstrap.migrate(own_settings)
    async with bootstrap.open_database(own_settings):
        await fill()
        box, addresses = SecretBox("bench"), InboxAddresses("http://127.0.0.1:8000")
        services = Services(
            webhooks=Webhooks(AddressPolicy(()), addresses, box),
            inboxes=Inboxes(box),
            inbox_addresses=addresses,
            tailer=Tailer(await delivery_log.read_epoch()),
            authenticator=Authenticator(),
        )
        token, _ = await api_tokens.create_token("bench", Role.ADMIN)
        yield Context(services, token)


async def fill() -> None:
    """Write events of orders, with their attempts."""
    now = await clock.now()
    webhooks = [
        await Webhook.create(
            name=f"webhook {n}", model="customer_order", actions=["UPDATED"], url="https://hooks.example/",
            signing_secret="", created_at=now, updated_at=now,
        )
        for n in range(WEBHOOKS)
    ]  # fmt: skip
    for n in range(EVENTS):
        common = {"model": "customer_order", "action": Action.UPDATED, "object_id": ITEM["id"], "created_at": now}
        change = await Change.create(item=ITEM, changed_fields=["status"], **common)
        event = await Event.create(
            webhook_id=webhooks[n % WEBHOOKS].id, change_id=change.id, status=EventStatus.FAILED,
            attempt_count=ATTEMPTS, max_attempts=ATTEMPTS, finished_at=now, **common,
        )  # fmt: skip
        for number in range(1, ATTEMPTS + 1):
            await Attempt.create(**rejected_attempt(event, number))


def rejected_attempt(event: Event, number: int) -> dict[str, Any]:
    """Return the columns of a rejected attempt."""
    headers = [[f"x-header-{n}", f"value {n}"] for n in range(8)]
    return {
        "event_id": event.id, "webhook_id": event.webhook_id, "number": number, "duration_ms": 12,
        "started_at": event.created_at + dt.timedelta(seconds=number), "outcome": OutcomeName.REJECTED,
        "status_code": 500, "error": "The endpoint answered 500; only 200 counts as success.",
        "request": {"method": "POST", "url": "https://hooks.example/", "headers": headers, "body": str(ITEM)},
        "response": {"headers": headers[:5], "body": "sorry", "body_truncated": False},
    }  # fmt: skip


async def main(runs: int, *, profile: bool) -> None:
    """Measure every page and print the results."""
    engine = Engine(schema)
    with tempfile.TemporaryDirectory() as folder:
        async with open_filled_database(Path(folder)) as context:
            for name, document in PAGES.items():
                page = Page(engine, context, document)
                with counted() as statements:
                    size = len(await page.read())
                times = await page.times(runs)
                print(
                    f"{name:28} median {statistics.median(times):5.1f} ms, best {min(times):5.1f} ms, "
                    f"{len(statements)} statements, {size:,} bytes"
                )
                if profile:
                    await page.profile(runs)
    engine.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args()
    asyncio.run(main(options.runs, profile=options.profile))
