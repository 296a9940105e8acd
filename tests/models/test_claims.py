"""Claims and leases on a real database: who may send, who may not, and what becomes of what nobody finished."""

import asyncio
import datetime as dt
from uuid import uuid4

import pytest

from ringback.models import beginning, claims, clock
from ringback.models.claims import CLAIM_SECONDS, PICKUP_SECONDS, Expired
from ringback.models.event import Event
from ringback.models.states import EventStatus
from tests.support import builders
from tests.support.claims import age, due_ids, look

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_two_claimers_get_disjoint_events() -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(20)]
    now = await clock.now()
    seen = await look(now)
    assert len(seen) == 20
    first, second = await asyncio.gather(claims.claim([seen[:15]], now), claims.claim([seen[5:]], now))
    # Postgres skips a webhook for which somebody else is claiming: whoever came too late claims again.
    first = first if first.batches else await claims.claim([seen[:15]], now)
    second = second if second.batches else await claims.claim([seen[5:]], now)
    ((one, his),) = first.batches
    ((two, hers),) = second.batches
    assert one != two
    assert {d.event_id for d in his} | {d.event_id for d in hers} == {e.id for e in events}
    assert not {d.event_id for d in his} & {d.event_id for d in hers}
    assert sorted([len(his), len(hers)]) == [5, 15]
    assert (await claims.claim([seen], now)).batches == []


async def test_each_batch_has_its_own_lease() -> None:
    webhook = await builders.webhook()
    one, two = await builders.event(webhook), await builders.event(webhook)
    now = await clock.now()
    seen = await look(now)
    (first, _), (second, _) = (await claims.claim([seen[:1], seen[1:]], now, lease_seconds=60)).batches
    stored = await builders.stored(one)
    assert (stored.lease, stored.lease_begun_at) == (first, None)
    assert stored.due_at == now + dt.timedelta(seconds=60)
    assert stored.next_attempt_at == one.next_attempt_at
    assert (await builders.stored(two)).lease == second != first
    assert await due_ids() == []


async def test_an_event_cancelled_between_look_and_claim_is_not_claimed() -> None:
    event = await builders.event(await builders.webhook())
    now = await clock.now()
    seen = await look(now)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, due_at=None)
    assert (await claims.claim([seen], now)).batches == []


async def test_a_claim_that_nobody_began_is_claimed_again_and_the_former_one_is_worth_nothing() -> None:
    event = await builders.event(await builders.webhook())
    lost = await builders.claimed(event)
    assert await due_ids() == []
    ends = (await builders.stored(event)).due_at
    assert ends is not None
    claimed_at = ends - dt.timedelta(seconds=CLAIM_SECONDS)
    assert await claims.take_back(claimed_at + dt.timedelta(seconds=PICKUP_SECONDS - 1)) == 0
    assert await claims.take_back(claimed_at + dt.timedelta(seconds=PICKUP_SECONDS)) == 1
    assert await due_ids() == [event.id]
    assert await claims.expired(await clock.now(), 100) == []
    found = await builders.claimed(await builders.stored(event))
    assert await beginning.waiting(lost, [event.id]) == []
    assert await builders.begin(lost, [event.id]) == set()
    await claims.hand_back(lost, [event.id])
    assert (await builders.stored(event)).lease == found
    assert await builders.begin(found, [event.id]) == {event.id}
    assert await builders.attempts(event) == []


async def test_an_event_is_begun_once() -> None:
    webhook = await builders.webhook()
    one, two = await builders.event(webhook, due_in=1_000), await builders.event(webhook)
    lease = await builders.claimed(one, two)
    assert await beginning.waiting(lease, [one.id, two.id]) == [
        (two.next_attempt_at, two.id),
        (one.next_attempt_at, one.id),
    ]
    before = await builders.stored(two)
    asked_at = await clock.now()
    assert await builders.begin(lease, [two.id]) == {two.id}
    stored = await builders.stored(two)
    assert (stored.due_at, stored.lease) == (before.due_at, lease)
    assert stored.lease_begun_at is not None and asked_at <= stored.lease_begun_at <= await clock.now()
    assert await builders.begin(lease, [one.id, two.id]) == {one.id}
    assert await builders.begin(lease, [one.id, two.id]) == set()
    assert await beginning.waiting(lease, [one.id, two.id]) == []


async def test_two_workers_with_the_same_message_begin_an_event_once() -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(10)]
    ids = [e.id for e in events]
    lease = await builders.claimed(*events)
    one, two = await asyncio.gather(builders.begin(lease, ids), builders.begin(lease, ids))
    assert sorted(map(len, (one, two))) == [0, 10]


@pytest.mark.parametrize("status", [EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED])
async def test_an_event_that_ended_meanwhile_is_not_begun(status: EventStatus) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claimed(event)
    await Event.filter(id=event.id).update(status=status)
    assert await beginning.waiting(lease, [event.id]) == []
    assert await builders.begin(lease, [event.id]) == set()


async def test_renewing_keeps_what_was_begun_and_nothing_else() -> None:
    webhook = await builders.webhook()
    begun, claimed, foreign = [await builders.event(webhook) for _ in range(3)]
    lease = await builders.claimed(begun, claimed)
    await builders.begin(lease, [begun.id])
    await builders.begun(foreign, seconds=700)
    untouched = [(await builders.stored(e)).due_at for e in (claimed, foreign)]
    before = await clock.now()
    ends = await claims.renew(lease, [begun.id, claimed.id, foreign.id], 45)
    assert before <= ends - dt.timedelta(seconds=45) <= await clock.now()
    assert (await builders.stored(begun)).due_at == ends
    assert [(await builders.stored(e)).due_at for e in (claimed, foreign)] == untouched


async def test_a_lapsed_lease_is_not_renewed() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await age(event, 0.1)
    lapsed = (await builders.stored(event)).due_at
    await claims.renew(lease, [event.id], 45)
    assert (await builders.stored(event)).due_at == lapsed


async def test_what_is_handed_back_is_due_at_its_moment_again() -> None:
    webhook = await builders.webhook()
    waiting, begun, cancelled = [await builders.event(webhook, due_in=0.3) for _ in range(3)]
    lease = await builders.claimed(waiting, begun, cancelled)
    await builders.begin(lease, [begun.id, cancelled.id])
    await Event.filter(id=cancelled.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)
    await claims.hand_back(lease, [waiting.id, begun.id, cancelled.id])
    for event in (waiting, begun):
        stored = await builders.stored(event)
        assert (stored.lease, stored.lease_begun_at, stored.due_at) == (None, None, event.next_attempt_at)
        assert (stored.status, stored.attempt_count) == (EventStatus.PENDING, 0)
    ended = await builders.stored(cancelled)
    assert (ended.status, ended.lease, ended.due_at) == (EventStatus.CANCELLED, None, None)
    assert await due_ids() == [waiting.id, begun.id]


async def test_a_begun_lease_that_ended_is_not_claimed_but_found_as_expired() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    now = await clock.now()
    assert await claims.expired(now, 100) == []
    await age(event, 1)
    begun_at = (await builders.stored(event)).lease_begun_at
    assert begun_at is not None
    assert await claims.expired(await clock.now(), 100) == [Expired(event.id, lease, begun_at)]
    assert await due_ids() == []


async def test_an_event_cancelled_in_flight_is_found_too_when_its_worker_dies() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)
    await age(event, 1)
    assert [e.lease for e in await claims.expired(await clock.now(), 100)] == [lease]


async def test_the_only_worker_ends_all_leases_when_it_starts() -> None:
    webhook = await builders.webhook()
    free, claimed, begun = [await builders.event(webhook, due_in=i / 10) for i in range(3)]
    await builders.claimed(claimed)
    await builders.begun(begun)
    assert await claims.expire_all() == 2
    assert await claims.take_back(await clock.now()) == 1
    assert await due_ids() == [free.id, claimed.id]
    assert [e.event_id for e in await claims.expired(await clock.now(), 100)] == [begun.id]


def test_leases_are_never_the_same() -> None:
    assert claims.new_lease() != claims.new_lease()
    assert claims.new_lease().version == uuid4().version
