"""Leads: callback requests become some while the site wants them."""

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


async def watched() -> None:
    await site_settings.update_site_settings({"track_leads": True})
    await builders.webhook(actions=["CREATED", "UPDATED", "DELETED"])


def id_of(row: Lead) -> str:
    return encode(Prefix.LEAD, row.id)


async def changes() -> list[tuple[str, list[str]]]:
    return [(str(c.action), c.changed_fields) for c in await Change.all().order_by("id")]


async def test_while_leads_are_not_tracked_nothing_is_written(database: object) -> None:
    await builders.webhook()
    assert await leads.request_callback("Ада", "+7") is None
    assert [await model.all().count() for model in (Lead, Change, Event)] == [0, 0, 0]


async def test_while_they_are_a_request_becomes_a_lead_and_an_event(database: object) -> None:
    await watched()
    made = await leads.request_callback("  Ада ", "+7 900")
    assert made is not None
    expected: tuple[str, str, LeadStatus, str | None] = ("Ада", "+7 900", LeadStatus.NEW, None)
    assert (made.name, made.phone, made.status, made.comment) == expected
    ((change),) = await Change.all()
    assert (change.object_id, change.item["name"], change.item["phone"]) == (id_of(made), "Ада", "+7 900")
    assert await Event.filter(change_id=change.id).count() == 1


@pytest.mark.parametrize(("name", "phone"), [("", "+7"), ("Ада", " "), ("a\nb", "+7"), ("Ада", "1" * 65)])
async def test_a_form_that_is_not_filled_in_is_refused_whether_leads_are_tracked_or_not(
    database: object, name: str, phone: str
) -> None:
    for wanted in (False, True):
        await site_settings.update_site_settings({"track_leads": wanted})
        with pytest.raises(InputRejected):
            await leads.request_callback(name, phone)
    assert await Lead.all().count() == 0


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
    await watched()
    made = await leads.request_callback("Ада", "+7")
    assert made is not None
    updated = await leads.update_lead(id_of(made), given)
    expected = [] if changed is None else [("UPDATED", changed)]
    assert [(action, sorted(names)) for action, names in (await changes())[1:]] == expected
    assert (updated.updated_at > made.updated_at) is bool(expected)


async def test_a_deleted_lead_is_gone(database: object) -> None:
    await watched()
    made = await leads.request_callback("Ада", "+7")
    assert made is not None
    await leads.delete_lead(id_of(made))
    assert await changes() == [("CREATED", []), ("DELETED", [])]
    for use in (leads.delete_lead(id_of(made)), leads.update_lead(id_of(made), {"name": "x"})):
        with pytest.raises(InputRejected, match="There is no lead with the id lead_"):
            await use


async def test_requests_at_the_same_time_are_leads_of_their_own(database: object) -> None:
    await watched()
    names = [f"Ada {number}" for number in range(60)]
    made = await asyncio.gather(*(leads.request_callback(name, "+7") for name in names))
    assert [row and row.name for row in made] == names
    stored = {id_of(row): row for row in await Lead.all()}
    assert stored == {id_of(row): row for row in made if row}
    assert {i: (row.name, row.created_at) for i, row in stored.items()} == {
        id_of(row): (row.name, row.created_at) for row in made if row
    }
    recorded = await Change.all()
    assert sorted(change.item["name"] for change in recorded) == sorted(names)
    assert {change.object_id for change in recorded} == set(stored)
    assert await Event.all().count() == len(names)


async def test_a_request_within_a_transaction_is_part_of_it(database: object) -> None:
    await watched()
    with pytest.raises(ZeroDivisionError):
        async with in_transaction():
            assert await leads.request_callback("Ada", "+7") is not None
            raise ZeroDivisionError
    assert [await model.all().count() for model in (Lead, Change, Event)] == [0, 0, 0]


async def test_what_more_happens_to_a_lead_in_its_transaction_is_one_change_with_it(database: object) -> None:
    await watched()
    async with in_transaction():
        made = await leads.request_callback("Ada", "+7")
        assert made is not None
        await leads.update_lead(id_of(made), {"comment": "called"})
    assert await changes() == [("CREATED", [])]
    assert (await Change.get()).item["comment"] == "called"


async def test_the_change_shows_the_lead_as_it_is_stored(database: object) -> None:
    await watched()
    made = await leads.request_callback("Ada", "+7")
    assert made is not None
    ((key, stored),) = (await snapshot.read(Lead._meta.db, Lead, [made.id])).items()
    assert (key, (await Change.get()).item) == (made.id, stored.item)


async def test_a_lead_without_a_webhook_for_new_ones_is_stored_alone(database: object) -> None:
    await site_settings.update_site_settings({"track_leads": True})
    assert await leads.request_callback("Ada", "+7") is not None
    await builders.webhook(actions=["DELETED"])
    assert await leads.request_callback("Ida", "+7") is not None
    assert [await model.all().count() for model in (Lead, Change, Event)] == [2, 0, 0]
