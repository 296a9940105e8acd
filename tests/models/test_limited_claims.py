"""Claims under the limits of a webhook, on every kind of database."""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

import pytest

from ringback.models import claims, clock, limits
from ringback.models.claims import PICKUP_SECONDS, Claimed, Due
from ringback.models.event import Event
from ringback.models.limits import Limits
from ringback.models.states import EventStatus
from ringback.models.webhook import Webhook
from tests.support import builders

TEN_A_SECOND = dt.timedelta(seconds=0.1)


async def waiting(of: Webhook, events: int, **fields: object) -> list[Event]:
    return [await builders.event(of, due_in=-60 + number / 100, **fields) for number in range(events)]


async def claim_all(bound: int = 50, ended: Mapping[UUID, UUID] = limits.NOTHING_ENDED) -> Claimed:
    now = await clock.now()
    firsts, retries = await claims.due(now, 1_000)
    return await claims.claim([[*firsts, *retries]], now, bound, ended=ended)


def events_of(claimed: Claimed) -> list[Due]:
    return [d for _, batch in claimed.batches for d in batch]


def ids(events: Sequence[Due | Event]) -> list[UUID]:
    return [e.event_id if isinstance(e, Due) else e.id for e in events]


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_claim_takes_no_more_than_the_bound_leaves_and_the_earliest_first() -> None:
    plain, own = await builders.webhook(), await builders.webhook(max_concurrency=2)
    of_plain, of_own = await waiting(plain, 5), await waiting(own, 5)
    first = await claim_all(bound=3)
    assert set(ids(events_of(first))) == set(ids(of_plain[:3] + of_own[:2]))
    assert first.limits == {plain.id: Limits(0), own.id: Limits(0)}
    second = await claim_all(bound=3)
    assert second.batches == []
    assert second.limits == first.limits
    assert await Event.filter(lease__isnull=False).count() == 5
    lease = first.batches[0][0]
    await builders.begin(lease, ids(of_plain[:3]))
    await claims.hand_back(lease, [of_own[1].id])
    assert set(ids(events_of(await claim_all(bound=4)))) == {of_own[1].id, of_plain[3].id}
    assert (await limits.read([plain.id, own.id], 4)) == {plain.id: Limits(0), own.id: Limits(0)}


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_what_the_claiming_process_has_seen_end_does_not_count() -> None:
    webhook = await builders.webhook()
    events = await waiting(webhook, 6)
    lease = (await claim_all(bound=4)).batches[0][0]
    ended = {events[0].id: lease, events[1].id: uuid4(), events[5].id: lease}
    assert (await limits.read([webhook.id], 4, ended)) == {webhook.id: Limits(1)}
    # The second one is running under another lease, and the last one is not.
    taken = await claim_all(bound=4, ended=ended)
    assert (ids(events_of(taken)), taken.limits) == ([events[4].id], {webhook.id: Limits(0)})
    # Once it is on record it counts no more anyway.
    await Event.filter(id=events[0].id).update(status=EventStatus.SUCCEEDED, lease=None, due_at=None)
    assert (await limits.read([webhook.id], 4, ended)) == {webhook.id: Limits(0)}
    assert (await claim_all(bound=4, ended=ended)).batches == []


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_bound_that_was_lowered_lets_nothing_go_until_enough_have_ended() -> None:
    webhook = await builders.webhook()
    events = await waiting(webhook, 6)
    claimed = await claim_all(bound=4)
    assert (await claim_all(bound=2)).batches == []
    lease = claimed.batches[0][0]
    await Event.filter(id__in=ids(events[:2])).update(status=EventStatus.SUCCEEDED, lease=None, due_at=None)
    assert (await claim_all(bound=2)).batches == []
    await claims.hand_back(lease, [events[2].id])
    assert ids(events_of(await claim_all(bound=2))) == [events[2].id]


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_claims_that_were_taken_back_do_not_count_and_cannot_be_begun() -> None:
    webhook = await builders.webhook()
    events = await waiting(webhook, 4)
    lost = (await claim_all(bound=2)).batches[0][0]
    assert await claims.take_back(await clock.now() + dt.timedelta(seconds=PICKUP_SECONDS)) == 2
    assert await builders.begin(lost, ids(events[:2])) == set()
    found = await claim_all(bound=2)
    assert len(events_of(found)) == 2
    assert found.batches[0][0] != lost


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_those_who_claim_at_the_same_time_keep_within_the_bound_together() -> None:
    webhook, other = await builders.webhook(max_concurrency=7), await builders.webhook()
    await waiting(webhook, 40)
    one = await waiting(other, 1)
    now = await clock.now()
    firsts, _ = await claims.due(now, 100)
    parts = [[[d for d in firsts[part::8] if d.webhook_id == webhook.id]] for part in range(8)]
    claimed = await asyncio.gather(*(claims.claim(part, now, 50) for part in parts), claims.claim([[
        d for d in firsts if d.webhook_id == other.id]], now, 50))  # fmt: skip
    taken = [d for each in claimed[:8] for d in events_of(each)]
    assert 1 <= len(taken) <= 7
    assert len(set(ids(taken))) == len(taken)
    assert ids(events_of(claimed[8])) == ids(one)
    # A claim that found the webhook locked took nothing, and looks again.
    for _ in range(3):
        taken += events_of(await claim_all())
    assert len(taken) == 7 == await Event.filter(webhook_id=webhook.id, lease__isnull=False).count()


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_a_rate_moves_what_is_claimed_to_its_slots_and_holds_the_rest() -> None:
    webhook = await builders.webhook(rate_limit_per_second=10)
    events = await waiting(webhook, 20)
    before = await clock.now()
    claimed = events_of(await claim_all())
    assert ids(claimed) == ids(events[:6])
    stored = [await builders.stored(e) for e in events]
    moments = [e.next_attempt_at for e in stored[:6] if e.next_attempt_at is not None]
    assert moments == [d.next_attempt_at for d in claimed]
    assert [(later - moments[0]) for later in moments] == [n * TEN_A_SECOND for n in range(6)]
    assert before <= moments[0] <= await clock.now()
    assert [e.next_attempt_at for e in stored[6:]] == [e.next_attempt_at for e in events[6:]]
    assert (await Webhook.get(id=webhook.id)).last_slot_at == moments[5]
    # Slots that were given are kept by the row: another worker, or the same one after a restart, goes on from there.
    again = events_of(await claim_all())
    assert all(d.next_attempt_at >= moments[5] + TEN_A_SECOND for d in again)
    await Webhook.filter(id=webhook.id).update(rate_limit_per_second=None)
    assert len(events_of(await claim_all())) == 14 - len(again)


@pytest.mark.every_database
@pytest.mark.usefixtures("database")
async def test_those_who_claim_at_the_same_time_share_the_rate() -> None:
    webhook = await builders.webhook(rate_limit_per_second=10)
    await waiting(webhook, 40)
    now = await clock.now()
    firsts, _ = await claims.due(now, 100)
    claimed = await asyncio.gather(*(claims.claim([firsts[part::8]], now, 50) for part in range(8)))
    moments = sorted(d.next_attempt_at for each in claimed for d in events_of(each))
    # Five when one of them found the webhook free, and the others found it locked.
    assert moments == [now + n * TEN_A_SECOND for n in range(len(moments))]
    assert len(moments) in (5, 6)
