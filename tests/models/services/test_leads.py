"""Leads: callback requests are stored while the site setting trackLeads is on."""

import asyncio
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.models.enums import LeadStatus
from ringback.models.errors import InputRejected
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.lead import Lead
from ringback.models.services import leads, site_settings
from ringback.models.tracking import snapshot
from tests.support import builders

pytestmark = pytest.mark.every_database


async def track_and_watch_leads() -> None:
    await site_settings.update_site_settings({"track_leads": True})
    await builders.webhook(actions=["CREATED", "UPDATED", "DELETED"])


def id_of(row: Lead) -> str:
    return encode(Prefix.LEAD, row.id)


async def changes() -> list[tuple[str, list[str]]]:
    return [(str(c.action), c.changed_fields) for c in await Change.all().order_by("id")]


async def test_a_request_writes_nothing_while_leads_are_not_tracked(database: object) -> None:
    await builders.webhook()
    assert await leads.request_callback("Ада", "+7") is None
    assert [await model.all().count() for model in (Lead, Change, Event)] == [0, 0, 0]


async def test_a_request_becomes_a_lead_and_an_event_while_leads_are_tracked(database: object) -> None:
    await track_and_watch_leads()
    lead = await leads.request_callback("  Ада ", "+7 900")
    assert lead is not None
    expected: tuple[str, str, LeadStatus, str | None] = ("Ада", "+7 900", LeadStatus.NEW, None)
    assert (lead.name, lead.phone, lead.status, lead.comment) == expected
    ((change),) = await Change.all()
    assert (change.object_id, change.item["name"], change.item["phone"]) == (id_of(lead), "Ада", "+7 900")
    assert await Event.filter(change_id=change.id).count() == 1


@pytest.mark.parametrize(
    ("name", "phone"),
    [("", "+7"), ("Ада", " "), ("a\0b", "+7"), ("\u200b", "+7"), ("Ада", "\u3164"), ("Ада", "1" * 65)],
)
async def test_an_invalid_form_is_refused_whether_leads_are_tracked_or_not(
    database: object, name: str, phone: str
) -> None:
    for track_leads in (False, True):
        await site_settings.update_site_settings({"track_leads": track_leads})
        with pytest.raises(InputRejected):
            await leads.request_callback(name, phone)
    assert await Lead.all().count() == 0


async def test_a_tab_or_line_break_in_a_form_does_not_lose_the_lead(database: object) -> None:
    await track_and_watch_leads()
    lead = await leads.request_callback("Ада\tЛавлейс\n", "+7 900\r\n123")
    assert lead is not None
    assert (lead.name, lead.phone) == ("Ада Лавлейс", "+7 900 123")
    updated = await leads.update_lead(id_of(lead), {"name": "Ада\nКинг"})
    assert updated.name == "Ада Кинг"
    assert await changes() == [("CREATED", []), ("UPDATED", ["name"])]


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"status": LeadStatus.DONE, "comment": "called\nback"}, ["comment", "status"]),
        ({"name": "Grace"}, ["name"]),
        ({"name": "Ада", "phone": " +7 ", "status": LeadStatus.NEW, "comment": None}, None),
        ({}, None),
    ],
)
async def test_an_update_is_one_change_or_none(
    database: object, given: dict[str, Any], changed: list[str] | None
) -> None:
    await track_and_watch_leads()
    lead = await leads.request_callback("Ада", "+7")
    assert lead is not None
    updated = await leads.update_lead(id_of(lead), given)
    expected = [] if changed is None else [("UPDATED", changed)]
    assert [(action, sorted(names)) for action, names in (await changes())[1:]] == expected
    assert (updated.updated_at > lead.updated_at) is bool(expected)


async def test_a_deleted_lead_cannot_be_changed(database: object) -> None:
    await track_and_watch_leads()
    lead = await leads.request_callback("Ада", "+7")
    assert lead is not None
    await leads.delete_lead(id_of(lead))
    assert await changes() == [("CREATED", []), ("DELETED", [])]
    for use in (leads.delete_lead(id_of(lead)), leads.update_lead(id_of(lead), {"name": "x"})):
        with pytest.raises(InputRejected, match="There is no lead with the id lead_"):
            await use


async def test_requests_at_the_same_time_become_one_lead_each(database: object) -> None:
    await track_and_watch_leads()
    names = [f"Ada {number}" for number in range(60)]
    rows = await asyncio.gather(*(leads.request_callback(name, "+7") for name in names))
    assert [row and row.name for row in rows] == names
    stored = {id_of(row): row for row in await Lead.all()}
    assert stored == {id_of(row): row for row in rows if row}
    assert {i: (row.name, row.created_at) for i, row in stored.items()} == {
        id_of(row): (row.name, row.created_at) for row in rows if row
    }
    recorded = await Change.all()
    assert sorted(change.item["name"] for change in recorded) == sorted(names)
    assert {change.object_id for change in recorded} == set(stored)
    assert await Event.all().count() == len(names)


async def test_a_request_within_a_transaction_is_part_of_it(database: object) -> None:
    await track_and_watch_leads()
    with pytest.raises(ZeroDivisionError):
        async with in_transaction():
            assert await leads.request_callback("Ada", "+7") is not None
            raise ZeroDivisionError
    assert [await model.all().count() for model in (Lead, Change, Event)] == [0, 0, 0]


async def test_creating_and_updating_a_lead_in_one_transaction_is_one_change(database: object) -> None:
    await track_and_watch_leads()
    async with in_transaction():
        lead = await leads.request_callback("Ada", "+7")
        assert lead is not None
        await leads.update_lead(id_of(lead), {"comment": "called"})
    assert await changes() == [("CREATED", [])]
    assert (await Change.get()).item["comment"] == "called"


async def test_the_change_holds_the_lead_as_stored(database: object) -> None:
    await track_and_watch_leads()
    lead = await leads.request_callback("Ada", "+7")
    assert lead is not None
    ((key, stored),) = (await snapshot.read(Lead._meta.db, Lead, [lead.id])).items()
    assert (key, (await Change.get()).item) == (lead.id, stored.item)


async def test_a_lead_that_no_webhook_watches_is_stored_without_an_event(database: object) -> None:
    await site_settings.update_site_settings({"track_leads": True})
    assert await leads.request_callback("Ada", "+7") is not None
    await builders.webhook(actions=["DELETED"])
    assert await leads.request_callback("Ida", "+7") is not None
    assert [await model.all().count() for model in (Lead, Change, Event)] == [2, 0, 0]
