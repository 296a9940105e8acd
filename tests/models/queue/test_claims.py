"""Tests of claiming due events and of releasing them, on both databases."""

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import astuple, replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.sql import is_postgres
from ringback.models.enums import EventStatus
from ringback.models.event import Change, Event
from ringback.models.queue import claims, workers
from ringback.models.queue.claims import MAX_CLAIM, ClaimedBatch
from ringback.models.queue.claims import claim as claim_events
from ringback.models.queue.grants import LARGE_BYTES, ClaimRequest, WebhookLimit
from ringback.models.queue.webhook_limits import read_limits
from ringback.models.webhook import Webhook
from tests.support import builders, unsaved
from tests.support.inserting import insert
from tests.support.patience import PATIENCE_SECONDS

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

WORKER = UUID(int=1)
ENDED = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


async def claim(free_slots: int = 100, *, worker_id: UUID = WORKER) -> ClaimedBatch:
    request = ClaimRequest(free_slots=free_slots, retry_slots=free_slots, max_concurrency=50)
    return await claim_events(worker_id, request)


def ids(batch: ClaimedBatch) -> list[UUID]:
    return [delivery.event.id for delivery in batch.deliveries]


async def test_a_claim_writes_the_worker_into_the_event_and_nothing_else() -> None:
    event = await builders.event(await builders.webhook(), due_in=-1)
    before = await builders.stored(event)
    asked_at = await clock.now()

    batch = await claim()

    assert ids(batch) == [event.id]
    stored = await builders.stored(event)
    assert stored.worker_id == WORKER
    assert stored.claimed_at is not None
    assert asked_at <= stored.claimed_at <= await clock.now()
    stored.worker_id = stored.claimed_at = None
    assert vars(stored) == vars(before)


async def test_a_claim_returns_the_stored_columns_of_event_change_and_webhook() -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    first = await builders.event(webhook, due_in=-3)
    retry = await builders.event(
        other, due_in=-2, status=EventStatus.RETRYING, attempt_count=4, attempts_before_round=2,
        abandoned_in_a_row=1, max_attempts=7,
    )  # fmt: skip
    await Change.filter(id=retry.change_id).update(item={"zone": "Ø", "a": [1, None]}, changed_fields=["zone"])
    await Webhook.filter(id=other.id).update(updated_at=other.updated_at + dt.timedelta(microseconds=7))

    of_first, of_retry = (await claim()).deliveries

    assert of_first.change == unsaved.change({"id": "lead_1", "name": "Ада"}, [])
    assert of_retry.change is not None
    assert (of_retry.change.item, of_retry.change.changed_fields) == ({"zone": "Ø", "a": [1, None]}, ["zone"])
    assert of_first.webhook_updated_at == webhook.updated_at
    assert of_retry.webhook_updated_at == other.updated_at + dt.timedelta(microseconds=7)
    for event, claimed in ((first, of_first.event), (retry, of_retry.event)):
        stored = builders.as_claimed(await builders.stored(event))
        assert claimed == stored
        assert [type(value) for value in astuple(claimed)] == [type(value) for value in astuple(stored)]


async def test_a_test_event_is_returned_with_its_item_and_no_change() -> None:
    event = await builders.event(await builders.webhook(), is_test=True, test_item={"id": 1, "name": "Ева"})
    await Event.filter(id=event.id).update(change_id=None)

    (delivery,) = (await claim()).deliveries

    assert delivery.change is None
    assert delivery.event.is_test
    assert delivery.event.test_item == {"id": 1, "name": "Ева"}


async def test_the_earliest_delivery_comes_first() -> None:
    webhook = await builders.webhook()
    late, early, middle = [await builders.event(webhook, due_in=seconds) for seconds in (-1, -3, -2)]

    batch = await claim()

    assert ids(batch) == [early.id, middle.id, late.id]


async def test_an_event_is_claimed_50_ms_ahead_and_keeps_its_time() -> None:
    webhook = await builders.webhook()
    soon = await builders.event(webhook, due_in=0.04)
    later = await builders.event(webhook, due_in=10)

    batch = await claim()

    assert ids(batch) == [soon.id]
    assert batch.deliveries[0].event.next_attempt_at == soon.next_attempt_at
    assert (await builders.stored(later)).worker_id is None


async def make_event(webhook: Webhook, item_bytes: int, due_in: float) -> Event:
    """Make an event whose item has this many bytes as JSON, of which half are in letters of two bytes."""
    event = await builders.event(webhook, due_in=due_in)
    text = "ж" * (item_bytes // 4)
    text += "x" * (item_bytes - len(orjson.dumps({"text": text})))
    await Change.filter(id=event.change_id).update(item={"text": text})
    return event


async def test_large_items_start_until_their_memory_is_used() -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    large = [await make_event(webhook, 20_000, number - 10) for number in range(4)]
    small = await make_event(webhook, LARGE_BYTES - 1, -1)
    of_other = await make_event(other, LARGE_BYTES, -0.5)
    request = ClaimRequest(free_slots=50, retry_slots=50, max_concurrency=50, common_bytes=60_000)

    batch = await claim_events(WORKER, request)
    without_room = await claim_events(WORKER, replace(request, common_bytes=-5))
    rest = await claim_events(WORKER, replace(request, common_bytes=1))

    assert ids(batch) == [*[event.id for event in large[:3]], small.id]
    assert [delivery.item_size for delivery in batch.deliveries] == [20_000, 20_000, 20_000, LARGE_BYTES - 1]
    assert batch.at_limit.keys() == {webhook.id, other.id}
    assert ids(without_room) == []
    assert without_room.at_limit.keys() == {webhook.id, other.id}
    assert ids(rest) == [large[3].id]
    assert rest.at_limit.keys() == {other.id}
    assert (await builders.stored(of_other)).worker_id is None


async def test_large_items_of_prompt_webhooks_have_memory_of_their_own() -> None:
    webhook, prompt = await builders.webhook(), await builders.webhook()
    for number in range(2):
        await make_event(webhook, 20_000, number - 10)
    events = [await make_event(prompt, 20_000, number - 5) for number in range(3)]
    request = ClaimRequest(
        free_slots=50, retry_slots=50, max_concurrency=50, prompt=[prompt.id], common_bytes=0, prompt_bytes=40_000
    )

    batch = await claim_events(WORKER, request)

    assert ids(batch) == [event.id for event in events[:2]]
    assert batch.at_limit.keys() == {webhook.id, prompt.id}


async def test_a_claimed_event_is_not_claimed_again() -> None:
    event = await builders.event(await builders.webhook())

    first, second = await claim(), await claim(worker_id=uuid4())

    assert ids(first) == [event.id]
    assert second == ClaimedBatch()
    assert (await builders.stored(event)).worker_id == WORKER


async def test_an_event_of_a_dead_worker_is_not_claimed() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await builders.die(lease)

    batch = await claim()

    assert batch == ClaimedBatch()
    assert (await builders.stored(event)).worker_id == lease.worker_id


@pytest.mark.parametrize("status", ENDED)
async def test_an_ended_event_is_not_claimed(status: EventStatus) -> None:
    await builders.event(await builders.webhook(), status=status, next_attempt_at=None)

    assert await claim() == ClaimedBatch()


def run_between_look_and_start(monkeypatch: pytest.MonkeyPatch, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a step outside the claim's transaction, after it has found due events and before it starts attempts."""
    outside = copy_context()

    async def read(*args: Any) -> dict[UUID, WebhookLimit]:
        limits = await read_limits(*args)
        await asyncio.create_task(step(), context=outside)
        return limits

    monkeypatch.setattr(claims, "read_limits", read)


async def end_event(event: Event, status: EventStatus, db: BaseDBAsyncClient | None = None) -> None:
    await Event.filter(id=event.id).using_db(db).update(status=status, next_attempt_at=None)


@pytest.mark.on_postgres
@pytest.mark.parametrize("status", ENDED)
async def test_an_event_that_ends_after_the_look_is_not_claimed(
    status: EventStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await builders.webhook()
    event, other = await builders.event(webhook, due_in=-2), await builders.event(webhook, due_in=-1)
    run_between_look_and_start(monkeypatch, partial(end_event, event, status))

    batch = await claim()

    assert batch.seen == 2
    assert ids(batch) == [other.id]
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.claimed_at) == (status, None, None)


@pytest.mark.parametrize("status", ENDED)
async def test_an_event_that_ends_while_it_is_claimed_is_not_claimed(status: EventStatus) -> None:
    event = await builders.event(await builders.webhook())
    outside = copy_context()

    # On Postgres the claim skips the row that the transaction has locked; on SQLite it waits for the transaction.
    async with in_transaction() as tx:
        await end_event(event, status, tx)
        claiming = asyncio.create_task(claim(), context=outside)
        await asyncio.wait({claiming}, timeout=PATIENCE_SECONDS if is_postgres(tx) else 0.5)
        assert claiming.done() is is_postgres(tx)
    batch = await claiming

    assert batch == ClaimedBatch(seen=int(is_postgres(Event._meta.db)))
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.claimed_at) == (status, None, None)


@pytest.mark.on_postgres
async def test_an_event_that_another_worker_claims_after_the_look_stays_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    event = await builders.event(await builders.webhook())
    other = workers.WorkerLease(uuid4(), 0.0)

    async def claim_elsewhere() -> None:
        await builders.claim(event, lease=other)

    run_between_look_and_start(monkeypatch, claim_elsewhere)

    batch = await claim()

    assert (batch.seen, batch.deliveries) == (1, [])
    assert (await builders.stored(event)).worker_id == other.worker_id


async def test_claims_at_the_same_time_share_no_event() -> None:
    webhooks = [await builders.webhook() for _ in range(4)]
    events = [await builders.event(webhooks[number % 4]) for number in range(40)]
    worker_ids = [uuid4() for _ in range(4)]

    batches = await asyncio.gather(*(claim(worker_id=worker_id) for worker_id in worker_ids))

    claimed = {key: worker_id for worker_id, batch in zip(worker_ids, batches, strict=True) for key in ids(batch)}
    assert len(claimed) == sum(len(batch.deliveries) for batch in batches)
    assert {event.id: event.worker_id for event in await Event.exclude(worker_id=None)} == claimed
    last = await claim()
    assert {*claimed, *ids(last)} == {event.id for event in events}


@pytest.mark.on_postgres
async def test_a_claim_skips_webhooks_that_another_claim_has_locked() -> None:
    locked, free = await builders.webhook(), await builders.webhook()
    await builders.event(locked, due_in=-1)
    event = await builders.event(free)
    outside = copy_context()

    async with in_transaction() as tx:
        await tx.execute_query("SELECT 1 FROM ringback_webhook WHERE id = $1 FOR NO KEY UPDATE", [locked.id])
        async with asyncio.timeout(5):
            batch = await asyncio.create_task(claim(), context=outside)

    assert ids(batch) == [event.id]
    assert batch.contended
    assert batch.at_limit == {}


async def test_a_claim_alone_is_not_contended() -> None:
    await builders.event(await builders.webhook())

    assert not (await claim()).contended


async def test_a_full_look_says_that_more_may_be_due() -> None:
    webhook = await builders.webhook()
    for seconds in (-3, -2, -1):
        await builders.event(webhook, due_in=seconds)

    full, rest = await claim(free_slots=2), await claim(free_slots=100)

    assert (full.seen, len(full.deliveries), full.more_due, full.left_behind) == (2, 1, True, True)
    assert (rest.seen, len(rest.deliveries), rest.more_due, rest.left_behind) == (2, 2, False, False)


async def test_a_full_look_at_retries_says_that_more_may_be_due() -> None:
    webhook = await builders.webhook()
    for seconds in (-2, -1):
        await builders.event(webhook, due_in=seconds, status=EventStatus.RETRYING, attempt_count=1)

    batch = await claim_events(WORKER, ClaimRequest(free_slots=100, retry_slots=1, max_concurrency=50))

    assert (batch.seen, len(batch.deliveries), batch.more_due) == (1, 1, True)


async def test_one_claim_has_at_most_500_events() -> None:
    webhook = await builders.webhook(max_concurrency=1_000)
    now = await clock.now()
    values = {"webhook_id": webhook.id, "model": "lead", "action": "CREATED", "max_attempts": 3}
    await insert(Event._meta.db, [Event(**values, next_attempt_at=now, created_at=now) for _ in range(510)])

    batch, rest = await claim(free_slots=2_000), await claim(free_slots=2_000)

    assert MAX_CLAIM == 500
    assert (len(batch.deliveries), batch.more_due) == (500, True)
    assert (len(rest.deliveries), rest.more_due) == (10, False)


async def test_nothing_due_changes_nothing() -> None:
    event = await builders.event(await builders.webhook(), due_in=60)
    before = await builders.stored(event)

    batch = await claim()

    assert batch == ClaimedBatch()
    assert vars(await builders.stored(event)) == vars(before)


# Releasing.


async def test_a_released_event_is_due_again_at_its_time() -> None:
    event = await builders.event(await builders.webhook(), due_in=-2, status=EventStatus.RETRYING, attempt_count=1)
    before = await builders.stored(event)
    lease = await builders.claim(event)

    await workers.release(lease, [event.id])

    assert vars(await builders.stored(event)) == vars(before)
    assert ids(await claim()) == [event.id]
    assert await builders.attempts(event) == []
    assert await builders.log_of(event) == []


async def test_a_released_event_that_was_cancelled_stays_cancelled() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)

    await workers.release(lease, [event.id])

    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.claimed_at) == (EventStatus.CANCELLED, None, None)
    assert await claim() == ClaimedBatch()


async def test_a_worker_releases_no_event_of_another_worker() -> None:
    webhook = await builders.webhook()
    mine, foreign = await builders.event(webhook), await builders.event(webhook)
    lease, other = workers.WorkerLease(uuid4(), 0.0), workers.WorkerLease(uuid4(), 0.0)
    await builders.claim(mine, lease=lease)
    await builders.claim(foreign, lease=other)

    await workers.release(lease, [mine.id, foreign.id])

    assert (await builders.stored(mine)).worker_id is None
    assert (await builders.stored(foreign)).worker_id == other.worker_id


async def test_a_worker_releases_only_events_that_it_names() -> None:
    webhook = await builders.webhook()
    named, other = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.claim(named, other)

    await workers.release(lease, [named.id])
    await workers.release(lease, [])

    assert (await builders.stored(named)).worker_id is None
    assert (await builders.stored(other)).worker_id == lease.worker_id


async def test_a_worker_releases_all_events_that_it_does_not_know() -> None:
    webhook = await builders.webhook()
    known, unknown, cancelled, foreign = [await builders.event(webhook) for _ in range(4)]
    lease, other = workers.WorkerLease(uuid4(), 0.0), workers.WorkerLease(uuid4(), 0.0)
    await builders.claim(known, unknown, cancelled, lease=lease)
    await builders.claim(foreign, lease=other)
    await Event.filter(id=cancelled.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)

    released = await workers.release_all_but(lease, {known.id})

    assert released == 2
    assert (await builders.stored(known)).worker_id == lease.worker_id
    assert (await builders.stored(foreign)).worker_id == other.worker_id
    assert (await builders.stored(unknown)).worker_id is None
    assert (await builders.stored(cancelled)).worker_id is None
    assert await workers.release_all_but(lease, set()) == 1
