"""Deliverers that lose a claim, or whose events change between claim and send."""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from ringback.models import beginning, claims, clock, interventions
from ringback.models.beginning import Delivery
from ringback.models.event import Event
from ringback.models.states import EventStatus
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.deliverers import Bench, public
from tests.support.eventually import eventually_found
from tests.support.stopped import StoppedClock

pytestmark = pytest.mark.usefixtures("database")


async def taken_back() -> None:
    """Make events due again that are claimed at the moment and not begun."""
    assert await claims.take_back(await clock.now() + dt.timedelta(seconds=claims.PICKUP_SECONDS)) > 0


async def test_a_stale_worker_sends_nothing(bench: Bench) -> None:
    event = await builders.event(await builders.webhook())
    stale = await builders.claimed(event)
    await taken_back()
    await builders.claimed(await builders.stored(event))
    await bench.deliverer.take(stale, [event.id])
    await bench.idle()
    assert bench.endpoint.requests == []
    assert bench.finished == [event.id]


async def test_a_worker_that_lost_its_claim_while_it_waited_sends_nothing(bench: Bench, stopped: StoppedClock) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.3)
    await bench.take(event)
    await bench.waiting_for(event)
    await taken_back()
    owner = await builders.claimed(await builders.stored(event))
    stopped.advance(0.3)
    await bench.idle()
    assert bench.endpoint.requests == []
    assert (await builders.stored(event)).lease == owner


async def test_the_same_message_twice_is_sent_once(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.5)
    lease = await builders.claimed(event)
    await asyncio.gather(bench.deliverer.take(lease, [event.id]), bench.deliverer.take(lease, [event.id]))
    await bench.idle()
    assert len(bench.endpoint.requests) == 1


async def test_nothing_is_sent_under_a_lease_that_has_lapsed(
    bench: Bench, stopped: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = beginning.begin

    async def begin_and_wait(*args: Any) -> list[Delivery]:
        begun = await begin(*args)
        stopped.advance(bench.lease_seconds + 0.1)
        return begun

    monkeypatch.setattr(beginning, "begin", begin_and_wait)
    event = await builders.event(await builders.webhook())
    await bench.take(event)
    await bench.idle()
    assert bench.endpoint.requests == []
    assert await builders.attempts(event) == []
    assert bench.finished == [event.id]
    assert [e.event_id for e in await claims.expired(await clock.now(), 10)] == [event.id]


async def test_a_lease_is_renewed_while_its_attempts_are_under_way(
    benches: Callable[..., Bench], stopped: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals = 0
    renew = claims.renew

    async def counted(*args: Any) -> dt.datetime:
        nonlocal renewals
        renewals += 1
        return await renew(*args)

    monkeypatch.setattr(claims, "renew", counted)
    bench = benches(lease_seconds=0.6)
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()
    await bench.take(event)
    await bench.endpoint.asked()
    # The loop runs its timers in the order of their moments, however late it is.
    await asyncio.sleep(bench.lease_seconds)
    assert renewals > 0, "within the time of a lease"
    for _ in range(3):
        stopped.advance(0.5)
        assert await claims.expired(await clock.now(), 10) == []
        ends = stopped.now() + dt.timedelta(seconds=bench.lease_seconds)
        await eventually_found(lambda: is_leased_until(event, ends))  # noqa: B023
    bench.endpoint.release()
    await bench.idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


async def is_leased_until(event: Event, ends: dt.datetime) -> bool:
    return (await builders.stored(event)).due_at == ends


async def test_an_event_cancelled_while_it_waits_is_not_sent(bench: Bench, stopped: StoppedClock) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.3)
    await bench.take(event)
    await bench.waiting_for(event)
    await interventions.cancel(public(event))
    stopped.advance(0.3)
    await bench.idle()
    assert bench.endpoint.requests == []
    stored = await builders.stored(event)
    assert (stored.status, stored.lease, stored.due_at) == (EventStatus.CANCELLED, None, None)
    assert await builders.attempts(event) == []
    assert bench.finished == [event.id]


async def test_a_redelivery_takes_a_claimed_event_over_and_it_is_sent_once(bench: Bench, stopped: StoppedClock) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.3, status=EventStatus.RETRYING, attempt_count=1)
    await bench.take(event)
    await bench.waiting_for(event)
    await interventions.redeliver(public(event))
    await bench.take(await builders.stored(event))
    await bench.endpoint.asked()  # before its former moment, to which the clock has not come yet
    stopped.advance(0.3)
    await bench.idle()
    assert len(bench.endpoint.requests) == 1
    (attempt,) = await builders.attempts(event)
    assert event.next_attempt_at is not None
    assert attempt.number == 2
    assert attempt.started_at < event.next_attempt_at - dt.timedelta(seconds=0.1)


async def test_an_attempt_uses_the_webhook_as_it_is_at_its_moment(bench: Bench, stopped: StoppedClock) -> None:
    webhook = await builders.webhook(url="https://old.example/")
    event = await builders.event(webhook, due_in=0.3)
    await bench.take(event)
    await bench.waiting_for(event)
    stopped.advance(0.1)
    await Webhook.filter(id=webhook.id).update(url="https://new.example/", updated_at=await clock.now())
    stopped.advance(0.2)
    await bench.idle()
    assert [str(r.url) for r in bench.endpoint.requests] == ["https://new.example/"]
