"""Keyset pagination: how far a scan for rare rows goes, and where the next page continues."""

import datetime as dt
from typing import Any

import pytest
import pytest_asyncio

from ringback.models.database import keyset
from ringback.models.database.keyset import KeysetScan, Page
from ringback.models.database.keyset_sql import IndexPrefix
from ringback.models.event import Change, Event
from ringback.models.ids import new_key_at
from tests.support import builders
from tests.support.inserting import insert

pytestmark = pytest.mark.every_database

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
#: Events, oldest first; only the oldest has the rare action DELETED.
COUNT = 30


@pytest_asyncio.fixture
async def events(database: object, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setattr(keyset, "SCAN_STEP_ROWS", (4, 8))
    monkeypatch.setattr(keyset, "MAX_COUNTED_ROWS", 2)
    webhook = await builders.webhook()
    change = Change(model="lead", action="CREATED", object_id="1", item={}, created_at=START)
    events = [
        Event(
            id=new_key_at(START + dt.timedelta(minutes=number)), webhook_id=webhook.id, change_id=change.id,
            model="lead", object_id="1", action="CREATED" if number else "DELETED", max_attempts=3, created_at=START,
            status="FAILED" if number % 2 else "SUCCEEDED",
        )
        for number in range(COUNT)
    ]  # fmt: skip
    for rows in ([change], events):
        await insert(Event._meta.db, rows)
    return events


def scan(action: str, **columns: Any) -> KeysetScan[Event]:
    indexes = (IndexPrefix(("status",)), IndexPrefix(("model",)))
    return KeysetScan(Event, {"model": ["lead"], "action": [action], **columns}, indexes=indexes)


async def test_each_page_scans_a_limited_number_of_rows(events: list[Event]) -> None:
    deleted = scan("DELETED")

    assert await deleted.newest(3) == Page([], scanned_to=events[COUNT - 12].id)
    assert await deleted.newest(3, below=events[COUNT - 12].id) == Page([], scanned_to=events[COUNT - 24].id)
    assert await deleted.newest(3, below=events[COUNT - 24].id) == Page([events[0]])


async def test_the_branches_of_a_list_share_the_limit(events: list[Event]) -> None:
    page = await scan("DELETED", status=["FAILED", "SUCCEEDED"]).newest(3)

    assert page.rows == []
    assert page.scanned_to in {event.id for event in events[COUNT - 13 : COUNT - 9]}


async def test_a_scan_ends_when_the_page_is_full(events: list[Event]) -> None:
    assert await scan("CREATED").newest(10) == Page(events[: -10 - 1 : -1])


async def test_an_empty_list_matches_no_rows(events: list[Event]) -> None:
    assert await scan("CREATED", status=[]).newest(3) == Page([])
