"""The newest rows that meet conditions: how far is looked for what is rare, and where that goes on."""

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
#: From the oldest to the newest; the oldest one is of a rare action.
COUNT = 30


@pytest_asyncio.fixture
async def events(database: object, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setattr(keyset, "STRETCHES", (4, 8))
    monkeypatch.setattr(keyset, "COUNTED", 2)
    webhook = await builders.webhook()
    change = Change(model="lead", action="CREATED", object_id="1", item={}, created_at=START)
    made = [
        Event(
            id=new_key_at(START + dt.timedelta(minutes=number)), webhook_id=webhook.id, change_id=change.id,
            model="lead", object_id="1", action="CREATED" if number else "DELETED", max_attempts=3, created_at=START,
            status="FAILED" if number % 2 else "SUCCEEDED",
        )
        for number in range(COUNT)
    ]  # fmt: skip
    for written in ([change], made):
        await insert(Event._meta.db, written)
    return made


def of(action: str, **others: Any) -> KeysetScan[Event]:
    leads = (IndexPrefix(("status",)), IndexPrefix(("model",)))
    return KeysetScan(Event, {"model": ["lead"], "action": [action], **others}, leads=leads)


async def test_what_is_rare_is_looked_for_in_stretches(events: list[Event]) -> None:
    deleted = of("DELETED")
    assert await deleted.newest(3) == Page([], scanned_to=events[COUNT - 12].id)
    assert await deleted.newest(3, below=events[COUNT - 12].id) == Page([], scanned_to=events[COUNT - 24].id)
    assert await deleted.newest(3, below=events[COUNT - 24].id) == Page([events[0]])


async def test_the_values_of_a_list_share_a_stretch(events: list[Event]) -> None:
    found = await of("DELETED", status=["FAILED", "SUCCEEDED"]).newest(3)
    assert found.rows == []
    assert found.scanned_to in {event.id for event in events[COUNT - 13 : COUNT - 9]}


async def test_as_many_as_are_asked_for_end_it(events: list[Event]) -> None:
    assert await of("CREATED").newest(10) == Page(events[: -10 - 1 : -1])


async def test_a_list_without_values_has_no_rows(events: list[Event]) -> None:
    assert await of("CREATED", status=[]).newest(3) == Page([])
