"""The statements of docs/operations.md that delete old events."""

import datetime as dt
import re
from pathlib import Path

import pytest
from tortoise.connection import get_connection

from ringback.models.bootstrap import CONNECTION
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus, LogKind
from ringback.models.event import Attempt, Change, Event
from ringback.models.webhook import Webhook
from tests.support import builders

PAGE = Path(__file__).parents[3] / "docs/operations.md"
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.every_database]


def read_statements(database_kind: str) -> str:
    section = PAGE.read_text().split("<!-- retention -->")[1].split("<!-- /retention -->")[0]
    postgres, sqlite = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    return str(sqlite if database_kind == "sqlite" else postgres)


async def store_event(webhook: Webhook, *, days_old: int, ended: bool) -> Event:
    """Store an event with its change, an attempt and a log entry, all of the same age."""
    event = await builders.event(webhook)
    time = await clock.now() - dt.timedelta(days=days_old)
    event.created_at = time
    if ended:
        event.status, event.next_attempt_at, event.finished_at = EventStatus.SUCCEEDED, None, time
    await event.save()
    await Change.filter(id=event.change_id).update(created_at=time)
    await builders.attempt(event)
    await LogEntry.create(
        at=time, kind=LogKind.EVENT_RECORDED, message="x", webhook_id=webhook.id, event_id=event.id, model="lead"
    )
    return event


async def test_old_events_are_deleted_with_all_their_rows(database_kind: str) -> None:
    webhook = await builders.webhook()
    await store_event(webhook, days_old=92, ended=True)
    waiting = await store_event(webhook, days_old=92, ended=False)
    recent = await store_event(webhook, days_old=88, ended=True)

    await get_connection(CONNECTION).execute_script(read_statements(database_kind))

    assert {event.id for event in await Event.all()} == {waiting.id, recent.id}
    assert {attempt.event_id for attempt in await Attempt.all()} == {waiting.id, recent.id}
    assert {change.id for change in await Change.all()} == {waiting.change_id, recent.change_id}
    assert [entry.event_id for entry in await LogEntry.all()] == [recent.id]
