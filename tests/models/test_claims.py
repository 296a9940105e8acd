"""Claims and leases on a real database: who may send, who may not, and what becomes of what nobody finished."""

import asyncio
import datetime as dt
from uuid import UUID, uuid4

import pytest

from ringback.models import beginning, claims, clock
from ringback.models.claims import PICKUP_SECONDS, Due, Expired, Held
from ringback.models.event import Event
from ringback.models.states import EventStatus
from tests.support import builders

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


def soon(now: dt.datetime, seconds: float = 0.5) -> dt.datetime:
    return now + dt.timedelta(seconds=seconds)


async def due_ids(until: float = 0.5, held: Held = claims.NOTHING_HELD) -> list[object]:
    now = await clock.now()
    return [d.event_id for d in await look(now, until, held=held)]


async def look(now: dt.datetime, until: float = 0.5, limit: int = 100, held: Held = claims.NOTHING_HELD) -> list[Due]:
    firsts, retries = await claims.due(soon(now, until), limit, held)
    return sorted([*firsts, *retries], key=lambda d: d.next_attempt_at)


async def age(event: Event, seconds: float) -> None:
    """Let the event's lease have ended `seconds` ago."""
    await Event.filter(id=event.id).update(due_at=await clock.now() - dt.timedelta(seconds=seconds))


# ----------------------------------------------------------------------------------------------------------------- due


async def test_due_events_come_in_the_order_of_their_moments() -> None:
    webhook = await builders.webhook()
    late = await builders.event(webhook, due_in=0.4)
    first = await builders.event(webhook, due_in=0.3)
    overdue = await builders.event(webhook, due_in=-60, status=EventStatus.RETRYING, abandoned_in_a_row=2)
    await builders.event(webhook, due_in=5)
    now = await clock.now()
    assert await claims.due(soon(now), 100) == (
        [
            Due(first.id, webhook.id, first.next_attempt_at or now),
            Due(late.id, webhook.id, late.next_attempt_at or now),
        ],
        [Due(overdue.id, webhook.id, overdue.next_attempt_at or now, suspect=True, retry=True)],
    )
    assert [[d.event_id for d in found] for found in await claims.due(soon(now), 1)] == [[first.id], [overdue.id]]


async def test_what_is_held_is_neither_due_nor_next() -> None:
    busy, other = await builders.webhook(), await builders.webhook()
    one = await builders.event(busy)
    suspect = await builders.event(other, due_in=0.1, abandoned_in_a_row=2)
    plain = await builders.event(other, due_in=0.2)
    assert await due_ids() == [one.id, suspect.id, plain.id]
    assert await due_ids(held=Held([busy.id])) == [suspect.id, plain.id]
    assert await due_ids(held=Held(suspects=True)) == [one.id, plain.id]
    assert await due_ids(held=Held([busy.id], suspects=True)) == [plain.id]
    long_ago = await clock.now() - dt.timedelta(days=1)
    assert await claims.next_due(long_ago) == one.due_at
    assert await claims.next_due(long_ago, Held([busy.id])) == suspect.due_at
    assert await claims.next_due(long_ago, Held([busy.id], suspects=True)) == plain.due_at
    assert await claims.next_due(long_ago, Held([busy.id, other.id])) is None
    assert suspect.due_at is not None
    assert await claims.next_due(suspect.due_at) == plain.due_at


async def test_ended_events_are_never_due() -> None:
    webhook = await builders.webhook()
    for status in (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED):
        await builders.event(webhook, status=status, next_attempt_at=None, due_at=None)
    assert await due_ids() == []
    assert await claims.next_due(await clock.now() - dt.timedelta(days=1)) is None


async def test_webhook_by_webhook_no_backlog_hides_another_one() -> None:
    webhooks = sorted([await builders.webhook() for _ in range(4)], key=lambda webhook: webhook.id)
    one, held, idle, last = webhooks
    retry = {"status": EventStatus.RETRYING, "attempt_count": 1}
    for webhook in (one, held):
        for number in range(5):
            await builders.event(webhook, due_in=number - 60)
            await builders.event(webhook, due_in=number - 60, **retry)
    await builders.event(idle, due_in=60)
    of_last, suspect = await builders.event(last), await builders.event(last, due_in=-1, abandoned_in_a_row=2)
    until = soon(await clock.now())

    async def turn(limit: int, after: UUID, holding: Held) -> tuple[list[tuple[UUID, bool]], UUID]:
        firsts, retries, reached = await claims.due_by_webhook(until, limit, 2, after, holding)
        moments = [d.next_attempt_at for d in firsts if d.webhook_id == one.id]
        assert moments == sorted(moments)
        return [(d.webhook_id, d.retry) for d in [*firsts, *retries]], reached

    of_one = [(one.id, False)] * 2
    all_kinds = [*of_one, *[(last.id, False)] * 2, *[(one.id, True)] * 2]
    start = claims.FIRST_WEBHOOK
    assert await turn(100, start, Held([held.id])) == (all_kinds, start)
    assert await turn(2, start, Held([held.id], retries=True)) == (of_one, one.id)
    assert await turn(2, one.id, Held([held.id], retries=True)) == ([(last.id, False)] * 2, last.id)
    assert await turn(2, last.id, Held([held.id])) == ([], start)
    firsts, _, _ = await claims.due_by_webhook(until, 100, 2, held.id, Held(suspects=True))
    assert [d.event_id for d in firsts] == [of_last.id] != [suspect.id]


# --------------------------------------------------------------------------------------------------------------- claim


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
    now = await clock.now()
    assert await claims.take_back(now + dt.timedelta(seconds=PICKUP_SECONDS - 1)) == 0
    assert await claims.take_back(now + dt.timedelta(seconds=PICKUP_SECONDS)) == 1
    assert await due_ids() == [event.id]
    assert await claims.expired(await clock.now(), 100) == []
    found = await builders.claimed(await builders.stored(event))
    assert await beginning.waiting(lost, [event.id]) == []
    assert await builders.begin(lost, [event.id]) == set()
    await claims.hand_back(lost, [event.id])
    assert (await builders.stored(event)).lease == found
    assert await builders.begin(found, [event.id]) == {event.id}
    assert await builders.attempts(event) == []


# --------------------------------------------------------------------------------------------------------------- begin


async def test_an_event_is_begun_once() -> None:
    webhook = await builders.webhook()
    one, two = await builders.event(webhook, due_in=0.1), await builders.event(webhook)
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


# --------------------------------------------------------------------------------------------------- renew, hand back


async def test_renewing_keeps_what_was_begun_and_nothing_else() -> None:
    webhook = await builders.webhook()
    begun, claimed, foreign = [await builders.event(webhook) for _ in range(3)]
    lease = await builders.claimed(begun, claimed)
    await builders.begin(lease, [begun.id])
    await builders.begun(foreign, seconds=7)
    untouched = [(await builders.stored(e)).due_at for e in (claimed, foreign)]
    ends = await claims.renew(lease, [begun.id, claimed.id, foreign.id], 45)
    assert (await builders.stored(begun)).due_at == ends
    assert 44 < (ends - await clock.now()).total_seconds() <= 45
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


# ------------------------------------------------------------------------------------------------------------- expired


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
