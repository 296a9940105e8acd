"""Writing to the delivery log, and following it."""

import asyncio
from typing import Any

from tortoise.transactions import in_transaction

from ringback.graphql_api.context.live_log import Tailer
from ringback.models import delivery_log
from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import LogKind
from ringback.models.ids import new_key
from tests.support.api import Api
from tests.support.patience import PATIENCE_SECONDS

CURSORS = "subscription ($after: String) { deliveryLog(after: $after) { cursor message } }"


async def write(*messages: str, **fields: Any) -> None:
    """Commit these log entries as a unit of work does."""
    now = await clock.now()
    given = {"webhook_id": new_key(), "event_id": new_key(), "model": "lead", "kind": LogKind.EVENT_RECORDED, **fields}
    entries = [LogEntry(message=message, at=now, **given) for message in messages]
    async with in_transaction() as db:
        await LogEntry.bulk_create(entries, using_db=db)
    notifier.notify(Topic.LOGGED)


async def take(stream: Any, count: int) -> list[Any]:
    """Return the next `count` things of a stream."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [await anext(stream) for _ in range(count)]


async def subscribed(api: Api, count: int) -> None:
    """Wait until so many follow the log."""
    await joined(api.services.tailer, count)


async def joined(tailer: Tailer, count: int) -> None:
    """Wait until a tailer has so many subscribers."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while tailer.audience.size != count:
            await asyncio.sleep(0)


async def caught_up(tailer: Tailer) -> None:
    """Wait until the tailer has handed on everything that is committed by now."""
    newest = await delivery_log.read_end(await delivery_log.read_epoch())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while tailer.position is None or tailer.position < newest:
            await asyncio.sleep(0.001)


def entries_of(results: list[Any]) -> list[dict[str, Any]]:
    """Return the entries of answers that have no errors."""
    assert [result.errors for result in results] == [()] * len(results)
    return [result.data["deliveryLog"] for result in results]
