"""What comes along when events are begun, and what of a claim waits, on both kinds of database."""

import datetime as dt

import pytest

from ringback.models import beginning, clock
from ringback.models.beginning import Begun
from ringback.models.event import Change, Event
from ringback.models.states import EventStatus
from tests.support import builders

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_what_is_begun_comes_with_its_snapshot_and_the_state_of_its_webhook() -> None:
    webhook = await builders.webhook()
    late, early = await builders.event(webhook, due_in=2_000), await builders.event(webhook)
    test = await builders.event(await builders.webhook(), due_in=1_000, is_test=True, test_item={"id": 1})
    await Event.filter(id=test.id).update(change_id=None)
    await Change.filter(id=late.change_id).update(item={"name": "Ева"}, changed_fields=["name"])
    lease = await builders.claimed(late, early, test)
    begun = await beginning.begin(lease, [late.id, test.id, early.id])
    assert [d.event.id for d in begun] == [early.id, test.id, late.id]
    for delivery in begun:
        stored = await Event.get(id=delivery.event.id)
        assert delivery.event == tuple(getattr(stored, name) for name in Begun._fields)
        assert [type(value) for value in delivery.event] == [type(getattr(stored, name)) for name in Begun._fields]
        assert stored.lease_begun_at is not None
    of_early, of_test, of_late = begun
    assert of_early.change is not None and of_late.change is not None
    assert (of_early.change.item, of_early.change.changed_fields) == ({"id": "lead_1", "name": "Ада"}, [])
    assert (of_late.change.item, of_late.change.changed_fields) == ({"name": "Ева"}, ["name"])
    assert (of_test.change, of_test.event.test_item) == (None, {"id": 1})
    assert of_early.webhook_updated_at == webhook.updated_at != of_test.webhook_updated_at


async def test_only_what_is_due_is_begun_and_the_rest_waits() -> None:
    webhook = await builders.webhook()
    due, later, last = [await builders.event(webhook, due_in=seconds) for seconds in (0, 3_000, 4_000)]
    lease = await builders.claimed(due, later, last)
    ids = [last.id, later.id, due.id]
    soon = await clock.now() + dt.timedelta(seconds=1_000)
    assert [d.event.id for d in await beginning.begin(lease, ids, soon)] == [due.id]
    waiting = await beginning.waiting(lease, ids)
    assert waiting == [(later.next_attempt_at, later.id), (last.next_attempt_at, last.id)]
    await Event.filter(id=later.id).update(status=EventStatus.CANCELLED)
    await Event.filter(id=last.id).update(due_at=await clock.now())
    assert await beginning.waiting(lease, ids) == []
    assert await beginning.begin(lease, ids) == []
