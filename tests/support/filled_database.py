"""A database with 20,000 events: filled once in a test process, and copied for each test."""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from ringback.models import bootstrap
from ringback.models.database.sql import is_postgres
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus, LogKind
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import new_key_at
from ringback.models.settings import Settings
from tests.support import builders
from tests.support.inserting import insert

EVENTS = 20_000
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
#: The oldest events alone have rare values, so a scan that starts at the newest reads every row.
RARE = 50


def moment(number: int) -> dt.datetime:
    return START + dt.timedelta(minutes=number)


@dataclass(frozen=True)
class Filled:
    """A filled database, to make copies from: a data directory, or the URL of a Postgres database."""

    template: str
    #: The ids of its webhooks; the first has half of all events.
    webhook_ids: list[UUID]


async def open_and_fill(chosen: Settings) -> list[UUID]:
    """Fill a migrated database; returns the ids of its webhooks."""
    async with bootstrap.open_database(chosen):
        return await fill()


async def fill() -> list[UUID]:
    """Fill the open database; returns the ids of its webhooks."""
    made = [await builders.webhook(model="lead" if number % 2 else "order") for number in range(20)]
    changes = [Change(model="lead", action="CREATED", object_id="1", item={}, created_at=START) for _ in range(1_000)]
    events, attempts, entries = [], [], []
    for number in range(EVENTS):
        at = moment(number)
        webhook = made[0 if number % 2 else number // 2 % 19 + 1]
        rare = number < RARE
        waits = number % 100 == 0
        due = dt.datetime(2099, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=number) if waits else None
        status = _status(number)
        event = Event(
            id=new_key_at(at), webhook_id=webhook.id, change_id=changes[0].id, model="rare" if rare else webhook.model,
            action="DELETED" if rare else "CREATED", object_id=str(number % 500), is_test=rare, status=status,
            attempt_count=1, max_attempts=3, next_attempt_at=due, created_at=at,
            finished_at=None if waits else at,
        )  # fmt: skip
        events.append(event)
        attempts.append(
            Attempt(
                id=new_key_at(at),
                event_id=event.id,
                webhook_id=webhook.id,
                number=1,
                started_at=at,
                duration_ms=1,
                outcome="TIMED_OUT" if rare else "DELIVERED",
                status_code=503 if rare else 200,
            )
        )
        entries.append(
            LogEntry(
                kind=LogKind.EVENT_RECORDED, message="", at=at, webhook_id=webhook.id, event_id=event.id, model="lead"
            )
        )
    client = Event._meta.db
    await insert(client, changes)
    for start in range(0, EVENTS, 5_000):
        for many in (events, attempts, entries):
            await insert(client, many[start : start + 5_000])
    await client.execute_script("VACUUM ANALYZE" if is_postgres(client) else "ANALYZE")
    return [webhook.id for webhook in made]


def _status(number: int) -> EventStatus:
    if number < RARE and number % 2:
        return EventStatus.CANCELLED
    if number % 40 == 2:
        return EventStatus.FAILED
    if number % 100 == 0:
        return EventStatus.RETRYING
    return EventStatus.SUCCEEDED
