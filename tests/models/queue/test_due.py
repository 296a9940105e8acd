"""Tests of finding due events, on both databases."""

import datetime as dt
from typing import Any
from uuid import UUID

import pytest

from ringback.models.database import clock
from ringback.models.enums import EventStatus
from ringback.models.event import Event
from ringback.models.queue.claims import ClaimedBatch, claim, find_next_due
from ringback.models.queue.grants import FIRST_WEBHOOK, ClaimRequest
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

WORKER = UUID(int=1)
RETRY: dict[str, Any] = {"status": EventStatus.RETRYING, "attempt_count": 1}
SUSPECT: dict[str, Any] = {**RETRY, "attempt_count": 2, "abandoned_in_a_row": 2}


async def look(free_slots: int = 100, *, retry_slots: int | None = None, **fields: Any) -> ClaimedBatch:
    """Claim due events, by default with as many slots for retries as for first attempts."""
    retries = free_slots if retry_slots is None else retry_slots
    return await claim(WORKER, ClaimRequest(free_slots=free_slots, retry_slots=retries, max_concurrency=50, **fields))


def ids(batch: ClaimedBatch) -> list[UUID]:
    return [delivery.event.id for delivery in batch.deliveries]


def webhook_ids(batch: ClaimedBatch) -> set[UUID]:
    return {delivery.event.webhook_id for delivery in batch.deliveries}


async def backlog(webhook: Webhook, count: int, **fields: Any) -> list[Event]:
    """Make events that have been due for hours, the earliest first."""
    return [await builders.event(webhook, due_in=number - 10_000, **fields) for number in range(count)]


async def test_each_kind_is_found_from_its_earliest_event_on() -> None:
    webhook = await builders.webhook()
    late, early = await builders.event(webhook, due_in=-1), await builders.event(webhook, due_in=-20)
    late_retry, early_retry = (
        await builders.event(webhook, due_in=-5, **RETRY),
        await builders.event(webhook, due_in=-60, **RETRY),
    )

    one_each = await look(free_slots=3, retry_slots=1)
    rest = await look()

    assert ids(one_each) == [early_retry.id, early.id]
    assert ids(rest) == [late_retry.id, late.id]


async def test_without_slots_for_retries_only_first_attempts_are_claimed() -> None:
    webhook = await builders.webhook()
    await backlog(webhook, 3, **RETRY)
    first = await builders.event(webhook)

    batch = await look(retry_slots=0)

    assert ids(batch) == [first.id]
    assert not batch.more_due


async def test_a_backlog_of_retries_hides_no_first_attempt() -> None:
    webhook = await builders.webhook()
    retries = await backlog(webhook, 9, **RETRY)
    first = await builders.event(webhook)

    batch = await look(free_slots=4)

    assert ids(batch) == [retries[0].id, first.id]


@pytest.mark.parametrize("retries_first", [False, True])
async def test_the_last_slot_goes_to_the_kind_whose_turn_it_is(retries_first: bool) -> None:
    webhook = await builders.webhook()
    first, retry = await builders.event(webhook), await builders.event(webhook, **RETRY)

    batch = await look(free_slots=1, retries_first=retries_first)

    assert ids(batch) == [retry.id if retries_first else first.id]


async def test_webhooks_on_hold_are_neither_due_nor_next() -> None:
    on_hold, other = await builders.webhook(), await builders.webhook()
    await backlog(on_hold, 2)
    await builders.event(on_hold, due_in=100)
    due, following = await builders.event(other), await builders.event(other, due_in=200)

    batch = await look(on_hold={on_hold.id})

    assert ids(batch) == [due.id]
    assert await find_next_due({on_hold.id}, await builders.later(0.05)) == following.next_attempt_at
    assert await look(on_hold={on_hold.id, other.id}) == ClaimedBatch()
    assert await find_next_due({on_hold.id, other.id}, await builders.later(0.05)) is None


async def test_one_suspect_is_claimed_at_a_time() -> None:
    webhook = await builders.webhook()
    suspect, _ = await backlog(webhook, 2, **SUSPECT)
    plain = await builders.event(webhook, **RETRY)

    batch = await look()

    assert ids(batch) == [suspect.id, plain.id]
    assert [delivery.event.is_suspect for delivery in batch.deliveries] == [True, False]
    assert batch.left_behind


async def test_beside_a_suspect_no_other_suspect_is_found() -> None:
    webhook = await builders.webhook()
    await backlog(webhook, 5, **SUSPECT)
    await backlog(webhook, 5, abandoned_in_a_row=2)
    first, retry = await builders.event(webhook, due_in=-2), await builders.event(webhook, due_in=-1, **RETRY)

    batch = await look(free_slots=4, may_take_suspect=False)
    nothing = await look(free_slots=4, may_take_suspect=False)

    assert ids(batch) == [first.id, retry.id]
    assert nothing == ClaimedBatch()


async def test_the_next_due_time_is_the_earliest_of_both_kinds() -> None:
    webhook = await builders.webhook()
    due = await builders.event(webhook)
    later, retry = await builders.event(webhook, due_in=300), await builders.event(webhook, due_in=200, **RETRY)

    batch = await look()

    assert ids(batch) == [due.id]
    assert await find_next_due((), await builders.later(0.05)) == retry.next_attempt_at
    await Event.filter(id=retry.id).update(next_attempt_at=await builders.later(400))
    assert await find_next_due((), await builders.later(0.05)) == later.next_attempt_at


async def test_claimed_and_ended_events_are_not_next() -> None:
    webhook = await builders.webhook()
    claimed = await builders.event(webhook, due_in=100)
    await builders.claim(claimed)
    await builders.event(webhook, status=EventStatus.FAILED, next_attempt_at=None)

    assert await look() == ClaimedBatch()
    assert await find_next_due((), await builders.later(0.05)) is None


async def test_due_events_without_a_slot_are_not_next() -> None:
    webhook = await builders.webhook()
    await backlog(webhook, 3)

    batch = await look(free_slots=1)

    assert batch.more_due
    assert await find_next_due((), await builders.later(0.05)) is None


# Webhook by webhook.


async def sorted_webhooks(count: int) -> list[Webhook]:
    return sorted([await builders.webhook(max_concurrency=1_000) for _ in range(count)], key=lambda each: each.id)


async def test_an_ordinary_look_is_filled_by_the_largest_backlog() -> None:
    busy, quiet = await sorted_webhooks(2)
    await backlog(busy, 9)
    await builders.event(quiet)

    batch = await look(free_slots=4)

    assert webhook_ids(batch) == {busy.id}
    assert batch.more_due


async def test_webhook_by_webhook_no_backlog_hides_another_webhook() -> None:
    busy, on_hold, last = await sorted_webhooks(3)
    of_busy = await backlog(busy, 9)
    await backlog(on_hold, 9)
    of_last = await builders.event(last)

    batch = await look(free_slots=4, on_hold={on_hold.id}, after_webhook=FIRST_WEBHOOK)

    assert ids(batch) == [of_busy[0].id, of_busy[1].id, of_last.id]
    assert not batch.more_due
    assert batch.after_webhook == FIRST_WEBHOOK


async def webhooks_of_all_looks(free_slots: int) -> set[UUID]:
    """Return the webhooks whose events are claimed until a look starts over; each look must start further on."""
    claimed: set[UUID] = set()
    after = FIRST_WEBHOOK
    while True:
        batch = await look(free_slots=free_slots, after_webhook=after)
        claimed |= webhook_ids(batch)
        assert batch.more_due == (batch.after_webhook != FIRST_WEBHOOK)
        if not batch.more_due:
            return claimed
        assert batch.after_webhook > after
        after = batch.after_webhook


async def test_full_looks_reach_every_webhook_in_turn() -> None:
    one, two, three = await sorted_webhooks(3)
    await backlog(one, 9)
    await backlog(two, 9, **RETRY)
    await builders.event(three)

    assert await webhooks_of_all_looks(free_slots=4) == {one.id, two.id, three.id}


async def test_backlogs_of_first_attempts_hide_no_retry_of_another_webhook() -> None:
    one, two, three = await sorted_webhooks(3)
    await backlog(one, 1, **RETRY)
    await backlog(two, 9)
    await backlog(three, 9)

    assert await webhooks_of_all_looks(free_slots=4) == {one.id, two.id, three.id}


async def test_backlogs_of_retries_hide_no_first_attempt_of_another_webhook() -> None:
    one, two, three = await sorted_webhooks(3)
    await backlog(one, 1)
    await backlog(two, 9, **RETRY)
    await backlog(three, 9, **RETRY)

    assert await webhooks_of_all_looks(free_slots=4) == {one.id, two.id, three.id}


async def test_after_the_last_webhook_a_look_starts_over() -> None:
    one, last = await sorted_webhooks(2)
    await backlog(one, 9)

    batch = await look(free_slots=4, after_webhook=last.id)

    assert (batch.seen, batch.more_due, batch.after_webhook) == (0, False, FIRST_WEBHOOK)


async def test_webhook_by_webhook_the_earliest_events_of_both_kinds_are_found() -> None:
    (webhook,) = await sorted_webhooks(1)
    firsts, retries = await backlog(webhook, 60), await backlog(webhook, 60, **RETRY)

    batch = await look(free_slots=500, after_webhook=FIRST_WEBHOOK)

    assert batch.seen == 100
    assert set(ids(batch)) == {event.id for event in [*firsts[:50], *retries[:50]]}


async def test_webhook_by_webhook_only_due_events_that_wait_are_found() -> None:
    claimed, later, suspects, ended, plain = await sorted_webhooks(5)
    await builders.claim(*await backlog(claimed, 2))
    await builders.event(later, due_in=100)
    await backlog(suspects, 2, **SUSPECT)
    await builders.event(ended, status=EventStatus.CANCELLED, next_attempt_at=None)
    event = await builders.event(plain)

    batch = await look(may_take_suspect=False, after_webhook=FIRST_WEBHOOK)

    assert ids(batch) == [event.id]
    assert batch.seen == 1


async def test_among_prompt_webhooks_no_backlog_of_others_is_seen() -> None:
    busy, on_hold, quiet, idle = await sorted_webhooks(4)
    await backlog(busy, 9)
    await backlog(busy, 9, **RETRY)
    await backlog(on_hold, 9)
    first, retry = await builders.event(quiet), await builders.event(quiet, **RETRY)
    await builders.event(quiet, due_in=100)

    batch = await look(
        free_slots=4,
        only_prompt=True,
        prompt=[idle.id, on_hold.id, quiet.id],
        common_slots=0,
        on_hold={on_hold.id},
        after_webhook=FIRST_WEBHOOK,
    )

    assert set(ids(batch)) == {first.id, retry.id}
    assert (batch.seen, batch.more_due, batch.left_behind) == (2, False, False)


async def test_of_prompt_webhooks_the_first_ones_are_searched_first() -> None:
    one, two, three = await sorted_webhooks(3)
    for webhook in (one, two, three):
        await backlog(webhook, 60)

    batch = await look(free_slots=60, only_prompt=True, prompt=[three.id, one.id, two.id], common_slots=0)

    assert (batch.seen, batch.more_due) == (60, True)
    assert webhook_ids(batch) == {three.id, one.id}


async def test_without_slots_for_retries_no_retry_of_a_prompt_webhook_is_claimed() -> None:
    webhook = await builders.webhook()
    await backlog(webhook, 3, **RETRY)
    first = await builders.event(webhook)

    batch = await look(retry_slots=0, only_prompt=True, prompt=[webhook.id], common_slots=0)

    assert ids(batch) == [first.id]


async def test_without_prompt_webhooks_none_of_their_events_is_found() -> None:
    await builders.event(await builders.webhook())

    assert await look(only_prompt=True, common_slots=0) == ClaimedBatch()


async def test_each_webhook_gets_at_least_one_event_in_a_look() -> None:
    busy, quiet, *on_hold = await sorted_webhooks(8)
    of_busy, of_quiet = await backlog(busy, 9), await backlog(quiet, 9)

    batch = await look(free_slots=4, on_hold={webhook.id for webhook in on_hold}, after_webhook=FIRST_WEBHOOK)

    assert set(ids(batch)) == {of_busy[0].id, of_quiet[0].id}


async def test_events_of_the_same_time_are_all_claimed_in_the_end() -> None:
    webhook = await builders.webhook()
    at = await clock.now() - dt.timedelta(seconds=5)
    events = [await builders.event(webhook, next_attempt_at=at) for _ in range(7)]

    claimed: list[UUID] = []
    for _ in events:
        claimed += ids(await look(free_slots=2))

    assert sorted(claimed) == sorted(event.id for event in events)
