"""The events in flight: counts by webhook and kind, and the signals that wake the claimer."""

from dataclasses import replace
from uuid import uuid4

import pytest

from ringback.jobs import in_flight as in_flight_module
from ringback.jobs.in_flight import InFlight
from ringback.jobs.outcomes import Delivered, HttpResponse
from ringback.jobs.result import Result
from ringback.models.enums import EventStatus
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.queue.grants import LARGE_BYTES
from tests.support.unsaved import AT, event


def delivered(claimed: ClaimedEvent) -> Result:
    return Result(
        event_id=claimed.id,
        worker_id=uuid4(),
        attempt_count=0,
        outcome=Delivered(HttpResponse(200)),
        started_at=AT,
        ended_at=AT,
        duration_ms=0,
        event=claimed,
    )


def test_events_count_by_webhook_retry_and_suspect_until_they_end() -> None:
    in_flight = InFlight()
    first = event(id=uuid4())
    retry = event(id=uuid4(), webhook_id=first.webhook_id, status=EventStatus.RETRYING)
    suspect = event(id=uuid4(), abandoned_in_a_row=2)

    for claimed in (first, retry, suspect):
        in_flight.start(claimed)
    assert len(in_flight) == 3
    assert in_flight.event_ids == {first.id, retry.id, suspect.id}
    assert in_flight.by_webhook == {first.webhook_id: 2, suspect.webhook_id: 1}
    assert (in_flight.retries, in_flight.suspects) == (1, 1)

    for claimed in (first, retry, suspect):
        in_flight.end(claimed)
    assert len(in_flight) == 0
    assert in_flight.by_webhook == {}
    assert (in_flight.retries, in_flight.suspects) == (0, 0)


def test_an_event_claimed_again_before_its_release_is_reported_counts_twice() -> None:
    in_flight = InFlight()
    claimed = event()
    claimed_again = replace(claimed)

    in_flight.start(claimed)
    in_flight.start(claimed_again)
    in_flight.end(claimed)

    assert len(in_flight) == 1
    assert in_flight.event_ids == {claimed.id}
    assert in_flight.by_webhook == {claimed.webhook_id: 1}


def test_a_free_slot_wakes_only_a_claimer_that_needs_one() -> None:
    in_flight = InFlight()
    claimed = event()

    in_flight.start(claimed)
    in_flight.end(claimed)
    assert (in_flight.wake.is_set(), in_flight.slot_freed.is_set()) == (False, True)

    in_flight.is_short_of_slots = True
    in_flight.start(claimed)
    in_flight.end(claimed)
    assert in_flight.wake.is_set()


def test_an_ended_attempt_wakes_the_claimer_for_a_full_webhook_only() -> None:
    in_flight = InFlight()
    claimed, of_full_webhook = event(), event(id=uuid4())
    in_flight.full_until[of_full_webhook.webhook_id] = 1e9
    in_flight.start(claimed)
    in_flight.start(of_full_webhook)

    in_flight.end(claimed)
    assert not in_flight.wake.is_set()

    in_flight.end(of_full_webhook)
    assert in_flight.wake.is_set()


def test_freed_webhooks_are_returned_once() -> None:
    in_flight = InFlight()
    claimed = event()

    in_flight.start(claimed)
    assert not in_flight.was_freed(claimed.webhook_id)
    in_flight.end(claimed)
    assert in_flight.was_freed(claimed.webhook_id)
    assert in_flight.take_freed_webhooks() == {claimed.webhook_id}

    assert not in_flight.was_freed(claimed.webhook_id)
    assert in_flight.take_freed_webhooks() == set()


def test_only_webhooks_that_are_not_prompt_use_common_slots() -> None:
    in_flight = InFlight()
    fast, slow = event(id=uuid4()), event(id=uuid4())
    for claimed in (fast, slow, replace(slow, id=uuid4())):
        in_flight.start(claimed)
    assert in_flight.in_common_slots == {fast.webhook_id: 1, slow.webhook_id: 2}

    in_flight.set_prompt(fast.webhook_id, True)
    assert list(in_flight.prompt) == [fast.webhook_id]
    assert in_flight.in_common_slots == {slow.webhook_id: 2}

    in_flight.set_prompt(fast.webhook_id, False)
    in_flight.set_prompt(slow.webhook_id, False)
    assert list(in_flight.prompt) == []
    assert in_flight.in_common_slots == {fast.webhook_id: 1, slow.webhook_id: 2}


def test_the_prompt_webhooks_with_the_oldest_attempts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight_module, "MAX_PROMPT", 2)
    in_flight = InFlight()
    first, second, third = uuid4(), uuid4(), uuid4()

    for webhook_id in (first, second, first, third):
        in_flight.set_prompt(webhook_id, True)

    assert list(in_flight.prompt) == [first, third]


def test_large_bodies_are_held_until_their_memory_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight_module, "MAX_LARGE_BYTES", 50_000)
    in_flight = InFlight()
    claimed, rendered, waiting, prompt = (event(id=uuid4()) for _ in range(4))
    in_flight.set_prompt(prompt.webhook_id, True)

    in_flight.start(claimed, 40_000)
    assert in_flight.room_for_bodies(is_prompt=False) == 10_000
    assert in_flight.hold_body(rendered, 20_000), "the last one may exceed the limit"
    assert in_flight.room_for_bodies(is_prompt=False) == -10_000
    assert not in_flight.hold_body(waiting, LARGE_BYTES)
    assert in_flight.hold_body(waiting, LARGE_BYTES - 1)
    assert in_flight.hold_body(prompt, LARGE_BYTES)

    in_flight.hold_body(claimed, 10)
    assert in_flight.body_freed.is_set()
    assert in_flight.hold_body(waiting, LARGE_BYTES)
    for ended in (claimed, rendered, waiting, prompt):
        in_flight.on_recorded(delivered(ended))
    assert in_flight.room_for_bodies(is_prompt=False) == in_flight.room_for_bodies(is_prompt=True) == 50_000
