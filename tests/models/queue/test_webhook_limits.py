"""Tests of claims under the limits of webhooks, which apply to all workers together."""

import asyncio
import copy
import datetime as dt
import itertools
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import pytest
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.enums import EventStatus
from ringback.models.event import Change, Event
from ringback.models.queue import claims, workers
from ringback.models.queue.claims import ClaimedBatch, claim
from ringback.models.queue.grants import FIRST_WEBHOOK, LARGE_BYTES, ClaimRequest, WebhookLimit
from ringback.models.queue.webhook_limits import read_limits, save_slots
from ringback.models.queue.workers import WorkerLease
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.patience import PATIENCE_SECONDS
from tests.support.statements import counted

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

#: Slots of 50 attempts a second: three of them are within the 50 ms that a claim looks ahead.
INTERVAL = dt.timedelta(milliseconds=20)


async def backlog(webhook: Webhook, count: int) -> list[Event]:
    return [await builders.event(webhook, due_in=number / 100 - 60) for number in range(count)]


async def claim_all(worker_id: UUID | None = None, *, max_concurrency: int = 50, **fields: Any) -> ClaimedBatch:
    """Claim with more slots than there are events."""
    request = ClaimRequest(free_slots=400, retry_slots=400, max_concurrency=max_concurrency, **fields)
    return await claim(worker_id or uuid4(), request)


def ids(batch: ClaimedBatch) -> list[UUID]:
    return [delivery.event.id for delivery in batch.deliveries]


def starts(batch: ClaimedBatch) -> list[dt.datetime]:
    return [delivery.event.next_attempt_at for delivery in batch.deliveries]


async def count_in_flight(webhook: Webhook) -> int:
    return await Event.filter(webhook_id=webhook.id).exclude(worker_id=None).count()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[UUID, WebhookLimit]:
    """Return the limits that claims read, by webhook, before anything is granted."""
    limits_read: dict[UUID, WebhookLimit] = {}

    async def read(*args: Any) -> dict[UUID, WebhookLimit]:
        limits = await read_limits(*args)
        limits_read.update(copy.deepcopy(limits))
        return limits

    monkeypatch.setattr(claims, "read_limits", read)
    return limits_read


# Concurrency.


async def test_a_claim_takes_the_earliest_events_up_to_the_limits() -> None:
    default, own = await builders.webhook(), await builders.webhook(max_concurrency=2)
    of_default, of_own = await backlog(default, 5), await backlog(own, 5)

    batch = await claim_all(max_concurrency=3)

    assert set(ids(batch)) == {event.id for event in [*of_default[:3], *of_own[:2]]}
    assert batch.at_limit == {default.id: None, own.id: None}
    assert not batch.left_behind


async def test_events_in_flight_in_other_workers_count() -> None:
    webhook = await builders.webhook(max_concurrency=3)
    events = await backlog(webhook, 5)
    await builders.claim(events[4])

    batch, next_batch = await claim_all(), await claim_all()

    assert ids(batch) == [events[0].id, events[1].id]
    assert next_batch.deliveries == []
    assert next_batch.at_limit == {webhook.id: None}


async def test_cancelled_events_count_while_they_are_in_flight() -> None:
    webhook = await builders.webhook(max_concurrency=1)
    event, waiting = await backlog(webhook, 2)
    lease = await builders.claim(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)

    during = await claim_all()
    await workers.release(lease, [event.id])
    after = await claim_all()

    assert during.deliveries == []
    assert ids(after) == [waiting.id]


async def test_events_of_dead_workers_count_until_they_are_recorded() -> None:
    webhook = await builders.webhook(max_concurrency=1)
    event, _ = await backlog(webhook, 2)
    await builders.die(await builders.claim(event))

    assert (await claim_all()).deliveries == []


async def test_recorded_and_released_events_free_capacity() -> None:
    webhook = await builders.webhook(max_concurrency=3)
    events = await backlog(webhook, 6)
    lease = WorkerLease(uuid4(), 0.0)
    await claim_all(lease.worker_id)
    ended = {"status": EventStatus.SUCCEEDED, "worker_id": None, "claimed_at": None, "next_attempt_at": None}
    await Event.filter(id=events[0].id).update(**ended)
    await workers.release(lease, [events[2].id])

    batch = await claim_all()

    assert ids(batch) == [events[2].id, events[3].id]
    assert batch.at_limit == {webhook.id: None}


async def test_a_lowered_limit_starts_nothing_until_enough_attempts_have_ended() -> None:
    webhook = await builders.webhook()
    events = await backlog(webhook, 6)
    lease = WorkerLease(uuid4(), 0.0)
    await claim_all(lease.worker_id, max_concurrency=4)

    over = await claim_all(max_concurrency=2)
    await workers.release(lease, [events[0].id, events[1].id])
    at_the_limit = await claim_all(max_concurrency=2)
    await workers.release(lease, [events[2].id])
    below = await claim_all(max_concurrency=2)

    assert over.deliveries == []
    assert at_the_limit.deliveries == []
    assert ids(below) == [events[0].id]


async def test_claims_at_the_same_time_keep_within_the_limit_together() -> None:
    webhook, other = await builders.webhook(max_concurrency=7), await builders.webhook()
    await backlog(webhook, 40)
    await backlog(other, 1)

    batches = await asyncio.gather(*(claim_all() for _ in range(8)))
    # A claim that found the webhook locked left it out, so the limit is reached only now.
    batches += [await claim_all() for _ in range(3)]

    claimed = [event_id for batch in batches for event_id in ids(batch)]
    assert len(claimed) == len(set(claimed)) == 8
    assert await count_in_flight(webhook) == 7
    assert await count_in_flight(other) == 1


async def test_claims_that_race_with_releases_keep_within_the_limit() -> None:
    webhook = await builders.webhook(max_concurrency=3)
    await backlog(webhook, 12)
    highest = 0

    async def work() -> None:
        nonlocal highest
        lease = WorkerLease(uuid4(), 0.0)
        for _ in range(8):
            batch = await claim_all(lease.worker_id)
            highest = max(highest, await count_in_flight(webhook))
            await workers.release(lease, ids(batch))

    await asyncio.gather(*(work() for _ in range(4)))

    assert 1 <= highest <= 3
    assert await count_in_flight(webhook) == 0


@pytest.mark.parametrize("after_webhook", [None, FIRST_WEBHOOK])
async def test_the_remaining_limit_is_read_with_the_rate(
    limits: dict[UUID, WebhookLimit], after_webhook: UUID | None
) -> None:
    webhook = await builders.webhook(max_concurrency=5, rate_limit_per_second=0.5)
    events = await backlog(webhook, 3)
    await builders.claim(events[0])
    slot = await clock.now()
    async with in_transaction() as tx:
        await save_slots(tx, {webhook.id: slot})

    await claim_all(after_webhook=after_webhook)

    assert limits == {webhook.id: WebhookLimit(4, dt.timedelta(seconds=2), slot)}


@pytest.mark.parametrize("after_webhook", [None, FIRST_WEBHOOK])
async def test_webhooks_without_limits_use_the_default_and_no_rate(
    limits: dict[UUID, WebhookLimit], after_webhook: UUID | None
) -> None:
    webhook = await builders.webhook()
    await backlog(webhook, 2)

    await claim_all(max_concurrency=9, after_webhook=after_webhook)

    assert limits == {webhook.id: WebhookLimit(9)}


@pytest.mark.parametrize("after_webhook", [None, FIRST_WEBHOOK])
@pytest.mark.on_postgres
async def test_a_claim_holds_its_webhooks_until_it_has_ended(
    after_webhook: UUID | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two claims that counted at the same time would both use the capacity that is left."""
    webhook = await builders.webhook(max_concurrency=1)
    await backlog(webhook, 4)
    outside = copy_context()
    others: list[ClaimedBatch] = []

    async def read(*args: Any) -> dict[UUID, WebhookLimit]:
        monkeypatch.setattr(claims, "read_limits", read_limits)
        limits = await read_limits(*args)
        async with asyncio.timeout(PATIENCE_SECONDS):
            others.append(await asyncio.create_task(claim_all(), context=outside))
        return limits

    monkeypatch.setattr(claims, "read_limits", read)

    batch = await claim_all(after_webhook=after_webhook)

    assert len(batch.deliveries) == 1
    assert [(other.seen, other.deliveries, other.contended) for other in others] == [(4, [], True)]
    assert await count_in_flight(webhook) == 1


async def test_an_attempt_that_has_ended_in_the_worker_does_not_count() -> None:
    webhook = await builders.webhook(max_concurrency=1)
    first, second = await backlog(webhook, 2)
    worker_id = uuid4()
    claimed = await claim_all(worker_id)
    assert [delivery.event.id for delivery in claimed.deliveries] == [first.id]

    of_another = await claim_all(unrecorded=[first.id])
    assert (of_another.deliveries, of_another.at_limit) == ([], {webhook.id: None})

    claimed = await claim_all(worker_id, unrecorded=[first.id])
    assert [delivery.event.id for delivery in claimed.deliveries] == [second.id]


async def test_without_webhooks_no_limits_are_read() -> None:
    with counted() as statements:
        async with in_transaction() as tx:
            assert await read_limits(tx, {}, uuid4(), ClaimRequest(1, 1, 50)) == {}

    assert [statement for statement in statements if "ringback" in statement] == []


# Rates.


async def test_a_rate_moves_attempts_to_slots_an_interval_apart() -> None:
    webhook = await builders.webhook(rate_limit_per_second=50)
    events = await backlog(webhook, 8)
    asked_at = await clock.now()

    batch = await claim_all()

    first = starts(batch)[0]
    assert asked_at <= first <= await clock.now()
    assert ids(batch) == [event.id for event in events[:3]]
    assert starts(batch) == [first, first + INTERVAL, first + 2 * INTERVAL]
    assert batch.at_limit == {webhook.id: first + 3 * INTERVAL}
    assert (batch.left_behind, batch.more_due) == (False, False)


async def test_slots_are_stored_in_the_events_and_in_the_webhook() -> None:
    webhook, plain = await builders.webhook(rate_limit_per_second=50), await builders.webhook()
    events = await backlog(webhook, 8)
    await backlog(plain, 1)

    batch = await claim_all()

    slots = [delivery.event.next_attempt_at for delivery in batch.deliveries if delivery.event.webhook_id == webhook.id]
    stored = [(await builders.stored(event)).next_attempt_at for event in events]
    assert stored == [*slots, *(event.next_attempt_at for event in events[3:])]
    assert (await Webhook.get(id=webhook.id)).last_slot_at == slots[-1]
    unlimited = await Webhook.get(id=plain.id)
    assert (unlimited.last_slot_at, unlimited.updated_at) == (None, plain.updated_at)


async def test_another_worker_goes_on_after_the_last_slot() -> None:
    webhook = await builders.webhook(rate_limit_per_second=1)
    await backlog(webhook, 3)

    first, second = await claim_all(), await claim_all()

    (slot,) = starts(first)
    assert second.deliveries == []
    assert second.at_limit == {webhook.id: slot + dt.timedelta(seconds=1)}
    assert await count_in_flight(webhook) == 1


async def test_a_saved_slot_does_not_change_the_version_of_the_webhook() -> None:
    webhook = await builders.webhook(rate_limit_per_second=50)
    await backlog(webhook, 1)

    (delivery,) = (await claim_all()).deliveries

    assert delivery.webhook_updated_at == webhook.updated_at
    assert (await Webhook.get(id=webhook.id)).updated_at == webhook.updated_at


async def test_a_rate_that_is_removed_releases_the_backlog_at_once() -> None:
    webhook = await builders.webhook(rate_limit_per_second=1)
    events = await backlog(webhook, 5)
    await claim_all()
    await Webhook.filter(id=webhook.id).update(rate_limit_per_second=None)

    batch = await claim_all()

    assert ids(batch) == [event.id for event in events[1:]]
    assert starts(batch) == [event.next_attempt_at for event in events[1:]]


async def test_claims_at_the_same_time_share_the_rate() -> None:
    webhook = await builders.webhook(rate_limit_per_second=50)
    await backlog(webhook, 40)

    batches = await asyncio.gather(*(claim_all() for _ in range(8)))

    slots = sorted(slot for batch in batches for slot in starts(batch))
    gaps = [later - earlier for earlier, later in itertools.pairwise(slots)]
    assert len(slots) >= 3
    assert min(gaps) >= INTERVAL
    assert (await Webhook.get(id=webhook.id)).last_slot_at == slots[-1]


async def test_a_slot_of_an_event_that_does_not_start_is_not_used() -> None:
    webhook = await builders.webhook(rate_limit_per_second=50)
    await backlog(webhook, 3)
    await Change.all().update(item={"text": "x" * LARGE_BYTES})

    batch = await claim_all(common_bytes=1)

    (start,) = starts(batch)
    assert (await Webhook.get(id=webhook.id)).last_slot_at == start


async def test_a_full_webhook_with_a_rate_moves_no_slot() -> None:
    slot = await builders.later(-60)
    values: dict[str, Any] = {"max_concurrency": 1, "rate_limit_per_second": 50, "last_slot_at": slot}
    webhook = await builders.webhook(**values)
    events = await backlog(webhook, 2)
    await builders.claim(events[0])

    batch = await claim_all()

    assert batch.at_limit == {webhook.id: None}
    assert (await Webhook.get(id=webhook.id)).last_slot_at == slot
    assert (await builders.stored(events[1])).next_attempt_at == events[1].next_attempt_at
