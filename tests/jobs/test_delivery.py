"""Deliverers on a real database: attempts at their moments, failures, and the stop."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from tortoise.exceptions import OperationalError

from ringback.jobs import delivery
from ringback.models import clock
from ringback.models.event import Event
from ringback.models.inbox import Inbox
from ringback.models.inboxes import InboxAddresses
from ringback.models.secrets import SecretBox
from ringback.models.states import EventStatus
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.deliverers import Bench, public
from tests.support.eventually import eventually_found
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("database")


async def test_a_batch_is_sent_and_recorded(bench: Bench) -> None:
    webhook = await builders.webhook(body_template="name={{ item.name }}")
    events = [await builders.event(webhook) for _ in range(5)]
    await bench.take(*events)
    await bench.idle()
    assert [r.body for r in bench.endpoint.requests] == ["name=Ада".encode()] * 5
    ids = [dict(r.headers)["PS-WEBHOOK_EVENT-ID"] for r in bench.endpoint.requests]
    assert sorted(ids) == sorted(public(e) for e in events)
    for event in events:
        assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
        assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]
    assert sorted(bench.finished) == sorted(e.id for e in events)


async def lag(event: Event) -> dt.timedelta:
    """Return how long after its moment an event's only attempt started."""
    (attempt,) = await builders.attempts(event)
    assert event.next_attempt_at is not None
    return attempt.started_at - event.next_attempt_at


async def test_each_event_is_sent_at_its_moment_and_none_before_it(bench: Bench) -> None:
    webhook = await builders.webhook()
    least = dt.timedelta.max
    for _ in range(20):  # a busy machine may make one of them late, but not always one of them
        late, soon = await builders.event(webhook, due_in=0.45), await builders.event(webhook, due_in=0.15)
        bench.endpoint.requests.clear()
        await bench.take(late, soon)
        assert bench.endpoint.requests == []
        await bench.idle()
        assert [dict(r.headers)["webhook-id"] for r in bench.endpoint.requests] == [public(soon), public(late)]
        lags = [await lag(event) for event in (late, soon)]
        assert min(lags) > dt.timedelta(milliseconds=-6)
        least = min(least, max(lags))
        if least < dt.timedelta(milliseconds=200):
            break
    assert least < dt.timedelta(milliseconds=200)


async def test_an_event_that_waits_for_its_moment_is_not_begun(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=10 * PATIENCE_SECONDS)
    lease = await bench.take(event)
    stored = await builders.stored(event)
    assert (stored.lease, stored.lease_begun_at) == (lease, None)


async def test_the_next_attempt_follows_the_end_of_this_one_exactly(bench: Bench) -> None:
    bench.endpoint.status = 500
    event = await builders.event(await builders.webhook())
    await bench.take(event)
    await bench.idle()
    (attempt,) = await builders.attempts(event)
    assert attempt.duration_ms == 20
    expected = attempt.started_at + dt.timedelta(milliseconds=20, seconds=240)
    assert (await builders.stored(event)).next_attempt_at == expected


async def test_a_slow_answer_holds_up_no_other_event_of_the_batch(bench: Bench) -> None:
    webhook = await builders.webhook()
    first, second = await builders.event(webhook), await builders.event(webhook, due_in=0.1)
    bench.endpoint.hold()
    await bench.take(first, second)
    await bench.endpoint.asked(2)
    assert bench.finished == []
    bench.endpoint.release()
    await bench.idle()


async def test_taking_returns_while_the_attempts_are_under_way(bench: Bench) -> None:
    bench.endpoint.hold()
    event = await builders.event(await builders.webhook())
    await asyncio.wait_for(bench.take(event), PATIENCE_SECONDS)
    await bench.endpoint.asked()
    assert await builders.attempts(event) == []
    bench.endpoint.release()
    await bench.idle()


async def test_own_inboxes_are_sent_to_unguarded_after_rendering(bench: Bench) -> None:
    await Inbox.create(token="t0ken", responses=[], created_at=await clock.now())
    webhook = await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ 't0ken' }}")
    foreign = await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ 'other' }}")
    await bench.take(await builders.event(webhook))
    await bench.idle()
    await bench.take(await builders.event(foreign))
    await bench.idle()
    assert bench.endpoint.unguarded == [True, False]


async def test_what_cannot_be_rendered_is_an_attempt_and_nothing_is_sent(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(body_template="{{ item.fone }}"))
    await bench.take(event)
    await bench.idle()
    assert bench.endpoint.requests == []
    (attempt,) = await builders.attempts(event)
    assert (attempt.outcome, attempt.duration_ms, attempt.request) == ("RENDER_FAILED", 0, None)
    assert attempt.error is not None
    assert attempt.error.startswith("The body cannot be rendered: ")
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_a_secret_of_another_key_is_an_attempt_that_says_so(bench: Bench) -> None:
    webhook = await builders.webhook()
    sealed = SecretBox("another key").seal("whsec_x")
    await Webhook.filter(id=webhook.id).update(signing_secret=sealed, updated_at=await clock.now())
    event = await builders.event(webhook)
    await bench.take(event)
    await bench.idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["RENDER_FAILED"]


async def test_an_error_of_our_own_takes_no_other_event_along(bench: Bench) -> None:
    good, bad = (
        await builders.event(await builders.webhook()),
        await builders.event(await builders.webhook(url="https://bad.example/")),
    )
    bench.endpoint.broken.add("https://bad.example/")
    await bench.take(good, bad)
    await bench.idle()
    assert (await builders.stored(good)).status is EventStatus.SUCCEEDED
    (attempt,) = await builders.attempts(bad)
    assert attempt.outcome == "ABANDONED"
    assert attempt.error is not None
    assert "Internal error" in attempt.error
    assert "a bug of our own" not in attempt.error


async def is_free(event: Event) -> bool:
    return (await builders.stored(event)).lease is None


async def test_stopping_hands_back_what_waits_and_lets_what_is_under_way_end(bench: Bench) -> None:
    webhook = await builders.webhook()
    sent, waiting = await builders.event(webhook), await builders.event(webhook, due_in=10 * PATIENCE_SECONDS)
    bench.endpoint.hold()
    await bench.take(sent, waiting)
    await bench.endpoint.asked()
    stopping = asyncio.create_task(bench.stop())
    await eventually_found(lambda: is_free(waiting))
    assert not stopping.done()
    bench.endpoint.release()
    await stopping
    assert (await builders.stored(sent)).status is EventStatus.SUCCEEDED
    handed_back = await builders.stored(waiting)
    assert (handed_back.due_at, handed_back.attempt_count) == (waiting.next_attempt_at, 0)
    assert len(bench.endpoint.requests) == 1
    assert sorted(bench.finished) == sorted([sent.id, waiting.id])


@pytest.mark.parametrize("given", [{"hurry": True}, {"seconds": 0.1}])
async def test_what_does_not_end_in_time_is_recorded_as_abandoned(bench: Bench, given: dict[str, Any]) -> None:
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()
    await bench.take(event)
    await bench.endpoint.asked()
    await bench.stop(**given)
    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    stored = await builders.stored(event)
    assert (stored.status, stored.lease) == (EventStatus.RETRYING, None)


async def test_a_batch_that_comes_after_the_stop_is_handed_back(bench: Bench) -> None:
    await bench.stop()
    event = await builders.event(await builders.webhook())
    await bench.take(event)
    assert (await builders.stored(event)).lease is None
    assert bench.finished == [event.id]
    assert bench.endpoint.requests == []


async def test_a_database_that_fails_before_sending_costs_no_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await builders.event(await builders.webhook(url="http://127.0.0.1:8000/inbox/t0ken"))
    monkeypatch.setattr(delivery, "PAUSE_SECONDS", 0.01)

    async def away(*_: object) -> bool:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(InboxAddresses, "is_own", away)
    await bench.take(event)
    await bench.idle()
    assert bench.endpoint.requests == []
    assert await builders.attempts(event) == []
    stored = await builders.stored(event)
    assert (stored.status, stored.lease, stored.lease_begun_at) == (EventStatus.PENDING, None, None)
    assert stored.due_at == stored.next_attempt_at
    monkeypatch.undo()
    await bench.take(event)
    await bench.idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]
