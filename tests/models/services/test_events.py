"""Test events and redelivery: items, due times, and refusals."""

import datetime as dt
from typing import Any

import pytest

from ringback.jobs.attempt_writer import write_attempts
from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, EventStatus
from ringback.models.errors import Problem, ProblemCode
from ringback.models.event import Attempt, Change, Event
from ringback.models.lead import Lead
from ringback.models.queue import workers
from ringback.models.services import events
from ringback.models.tracking.model_fields import make_sample
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.interventions import ended, key, public, refused
from tests.support.patience import PATIENCE_SECONDS

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

ENDED = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


async def test_a_test_event_is_due_at_once_and_then_follows_the_schedule() -> None:
    webhook = await builders.webhook(retry_delays=[5, 7])
    listener = notifier.listen(Topic.DUE)
    before = await clock.now()
    event = await events.test_fire(key(webhook), Action.UPDATED, {"id": 7, "name": "Ада"})
    assert await listener.wait(PATIENCE_SECONDS)
    stored = await builders.stored(event)
    assert stored.next_attempt_at is not None
    assert before <= stored.next_attempt_at <= await clock.now()
    assert stored.created_at == stored.next_attempt_at
    assert (stored.worker_id, stored.claimed_at) == (None, None)
    assert (stored.is_test, stored.status, stored.max_attempts) == (True, EventStatus.PENDING, 2)
    assert (stored.model, stored.action, stored.object_id) == ("lead", Action.UPDATED, "7")
    assert (stored.test_item, stored.change_id) == ({"id": 7, "name": "Ада"}, None)
    ended_at = await clock.now()
    await write_attempts([builders.result(event, await builders.claim(stored), ended_at=ended_at)])
    again = await builders.stored(event)
    assert (again.status, again.next_attempt_at) == (EventStatus.RETRYING, ended_at + dt.timedelta(seconds=7))


async def test_without_an_item_the_models_sample_is_sent() -> None:
    event = await events.test_fire(key(await builders.webhook()), Action.CREATED, None)
    assert (await builders.stored(event)).test_item == make_sample(Lead)


async def test_an_item_may_be_empty_or_without_an_id() -> None:
    webhook = await builders.webhook()
    for item in ({}, {"id": None}):
        event = await builders.stored(await events.test_fire(key(webhook), Action.CREATED, item))
        assert (event.test_item, event.object_id) == (item, None)


async def test_a_test_ignores_the_condition_and_inactivity() -> None:
    webhook = await builders.webhook(is_active=False, condition="item.name == 'never'", actions=["DELETED"])
    event = await events.test_fire(key(webhook), Action.CREATED, {"name": "Ада"})
    assert (await builders.stored(event)).status is EventStatus.PENDING


async def test_a_test_writes_nothing_but_its_event() -> None:
    webhook = await builders.webhook()
    await builders.webhook()
    before = await Webhook.all().order_by("id").values()
    event = await events.test_fire(key(webhook), Action.CREATED, None)
    assert [e.id for e in await Event.all()] == [event.id]
    assert await builders.log_of(event) == ["EVENT_RECORDED"]
    assert await LogEntry.all().count() == 1
    assert (await Change.all().count(), await Attempt.all().count(), await Lead.all().count()) == (0, 0, 0)
    assert await Webhook.all().order_by("id").values() == before


@pytest.mark.parametrize("item", ["text", 1, [1], True])
async def test_an_item_must_be_an_object(item: Any) -> None:
    problem = await refused(events.test_fire(key(await builders.webhook()), Action.CREATED, item))
    assert (problem.field, problem.code) == ("item", ProblemCode.INVALID)


async def test_a_deleted_or_unknown_webhook_cannot_be_tested() -> None:
    gone = await builders.webhook(deleted_at=await clock.now())
    for name in (key(gone), "whk_01h455vb4pex5vsknk084sn02q"):
        problem = await refused(events.test_fire(name, Action.CREATED, None))
        assert problem.field == "webhook_id"


async def test_redelivering_a_retrying_event_makes_its_attempt_due_now() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook, due_in=400, status=EventStatus.RETRYING, attempt_count=1)
    listener = notifier.listen(Topic.DUE)
    before = await clock.now()
    await events.redeliver(public(event))
    assert await listener.wait(PATIENCE_SECONDS)
    stored = await builders.stored(event)
    assert stored.next_attempt_at is not None
    assert before <= stored.next_attempt_at <= await clock.now()
    assert (stored.status, stored.attempt_count, stored.max_attempts) == (EventStatus.RETRYING, 1, 3)
    assert stored.attempts_before_round == 0
    (entry,) = await LogEntry.filter(event_id=event.id)
    assert entry.kind == "RETRY_SCHEDULED"
    assert entry.message.startswith("Redelivery requested; attempt 2 due at 20")


@pytest.mark.parametrize("status", ENDED)
async def test_redelivering_an_ended_event_starts_a_new_round_with_further_numbers(status: EventStatus) -> None:
    webhook = await builders.webhook(retry_delays=[5, 240])
    event = await ended(webhook, status, abandoned_in_a_row=5)
    before = await clock.now()
    await events.redeliver(public(event))
    after = await clock.now()
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.attempts_before_round) == (EventStatus.RETRYING, 3, 3)
    assert (stored.max_attempts, stored.finished_at, stored.abandoned_in_a_row) == (5, None, 0)
    assert stored.next_attempt_at is not None
    assert before <= stored.next_attempt_at <= after
    ended_at = await clock.now()
    await write_attempts([builders.result(event, await builders.claim(stored), ended_at=ended_at)])
    assert [a.number for a in await builders.attempts(event)] == [4]
    assert (await builders.stored(event)).next_attempt_at == ended_at + dt.timedelta(seconds=240)


async def test_an_event_cancelled_before_its_first_attempt_is_pending_again() -> None:
    event = await ended(await builders.webhook(), EventStatus.CANCELLED, attempt_count=0)
    await events.redeliver(public(event))
    stored = await builders.stored(event)
    assert (stored.status, stored.max_attempts, stored.attempts_before_round) == (EventStatus.PENDING, 3, 0)


async def test_an_event_claimed_before_its_due_time_cannot_be_redelivered() -> None:
    event = await builders.event(await builders.webhook(), due_in=0.04, status=EventStatus.RETRYING, attempt_count=1)
    lease = await builders.claim(event)

    problem = await refused(events.redeliver(public(event)))

    assert problem.message == "An attempt is in flight. Redeliver the event when the attempt has ended."
    assert (await builders.stored(event)).worker_id == lease.worker_id


async def test_a_released_event_can_be_redelivered() -> None:
    event = await builders.event(await builders.webhook(), due_in=400, status=EventStatus.RETRYING, attempt_count=1)
    lease = await builders.claim(event)
    await workers.release(lease, [event.id])
    before = await clock.now()

    await events.redeliver(public(event))

    stored = await builders.stored(event)
    assert stored.next_attempt_at is not None
    assert before <= stored.next_attempt_at <= await clock.now()
    assert stored.worker_id is None


async def test_a_redelivery_of_an_ended_event_notifies_workers() -> None:
    event = await ended(await builders.webhook(retry_delays=[5]))
    listener = notifier.listen(Topic.DUE)

    await events.redeliver(public(event))

    assert await listener.wait(PATIENCE_SECONDS)


async def test_a_refused_redelivery_gives_the_reason() -> None:
    webhook = await builders.webhook()
    inactive, deleted = await builders.webhook(is_active=False), await builders.webhook(deleted_at=await clock.now())
    in_flight = await builders.event(webhook, status=EventStatus.RETRYING, attempt_count=1)
    await builders.claim(in_flight)
    cancelled_in_flight = await builders.event(webhook)
    await builders.claim(cancelled_in_flight)
    await events.cancel(public(cancelled_in_flight))
    reasons = {
        "The event has not had its first attempt yet. Redeliver it after that attempt.": await builders.event(webhook),
        "The event's webhook was deleted, so the event cannot be redelivered.": await ended(deleted),
        "The event's webhook is inactive. Activate it first.": await ended(inactive),
        "An attempt is in flight. Redeliver the event when the attempt has ended.": in_flight,
    }
    for reason, event in reasons.items():
        assert await refused(events.redeliver(public(event))) == Problem(reason, "id", ProblemCode.CONFLICT)
    problem = await refused(events.redeliver(public(cancelled_in_flight)))
    assert problem.message == "An attempt is in flight. Redeliver the event when the attempt has ended."


async def test_a_test_event_of_an_inactive_webhook_can_be_redelivered() -> None:
    event = await ended(await builders.webhook(is_active=False), is_test=True)
    await events.redeliver(public(event))
    assert (await builders.stored(event)).status is EventStatus.RETRYING


@pytest.mark.parametrize("ask", [events.redeliver, events.cancel])
@pytest.mark.parametrize(
    "name", ["", "evt_", "nonsense", "whk_01h455vb4pex5vsknk084sn02q", "evt_01h455vb4pex5vsknk084sn02q"]
)
async def test_an_unknown_event_is_refused(ask: Any, name: str) -> None:
    assert (await refused(ask(name))).field == "id"
