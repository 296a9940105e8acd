"""Tests of granting events to a worker: fair shares, concurrency and rates."""

import datetime as dt
import random
from collections import Counter
from uuid import UUID, uuid4

import pytest

from ringback.models.queue.grants import AHEAD, Candidate, ClaimRequest, WebhookLimit, grant, take_turns

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
TENTH = dt.timedelta(seconds=0.1)
CRM, SHOP, MAIL = UUID(int=1), UUID(int=2), UUID(int=3)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def due(
    count: int, webhook_id: UUID = CRM, *, since: float = -60, is_retry: bool = False, is_suspect: bool = False
) -> list[Candidate]:
    return [Candidate(uuid4(), webhook_id, at(since), is_suspect, is_retry) for _ in range(count)]


def worker_with(free_slots: int = 100, *, retry_slots: int | None = None, **fields: object) -> ClaimRequest:
    return ClaimRequest(free_slots, free_slots if retry_slots is None else retry_slots, 50, **fields)  # type: ignore[arg-type]


def unlimited(*webhook_ids: UUID) -> dict[UUID, WebhookLimit]:
    return {webhook_id: WebhookLimit(free=1_000) for webhook_id in webhook_ids}


def ids(candidates: list[Candidate]) -> list[UUID]:
    return [candidate.event_id for candidate in candidates]


# Turns.


def test_first_attempts_and_retries_take_turns() -> None:
    first, last = due(2)
    retries = due(4, is_retry=True)

    turns = take_turns([first, last], retries, retries_first=False)

    assert turns == [first, retries[0], last, *retries[1:]]


def test_retries_come_first_when_it_is_their_turn() -> None:
    first, last = due(2)
    retries = due(4, is_retry=True)

    turns = take_turns([first, last], retries, retries_first=True)

    assert turns == [retries[0], first, retries[1], last, *retries[2:]]


def test_one_kind_alone_keeps_its_order() -> None:
    firsts = due(3)

    assert take_turns(firsts, [], retries_first=True) == firsts
    assert take_turns([], firsts, retries_first=True) == firsts
    assert take_turns([], [], retries_first=False) == []


# Shares of a worker's slots.


def test_a_webhook_alone_gets_half_of_the_slots() -> None:
    grants = grant(due(100), unlimited(CRM), worker_with(100), NOW)

    assert len(grants.starts) == 50
    assert grants.left_behind
    assert grants.at_limit == {}


def test_the_earliest_events_start_first() -> None:
    events = due(10)

    grants = grant(events, unlimited(CRM), worker_with(6), NOW)

    assert list(grants.starts) == ids(events[:3])


def test_a_second_webhook_gets_slots_beside_a_backlog() -> None:
    first, second = due(100, CRM), due(100, SHOP)

    grants = grant([*first, *second], unlimited(CRM, SHOP), worker_with(100), NOW)

    assert list(grants.starts) == ids(first[:50] + second[:25])


def test_a_third_webhook_gets_slots_in_a_later_claim() -> None:
    events = due(3, MAIL)

    grants = grant(events, unlimited(MAIL), worker_with(25, in_flight={CRM: 50, SHOP: 25}), NOW)

    assert list(grants.starts) == ids(events)
    assert not grants.left_behind


@pytest.mark.parametrize(
    ("free_slots", "in_flight", "granted"), [(50, 50, 0), (50, 46, 2), (50, 49, 1), (1, 0, 1), (0, 0, 0)]
)
def test_events_in_flight_count_towards_the_share(free_slots: int, in_flight: int, granted: int) -> None:
    grants = grant(due(5), unlimited(CRM), worker_with(free_slots, in_flight={CRM: in_flight}), NOW)

    assert len(grants.starts) == granted
    assert grants.left_behind


def test_the_request_is_not_changed() -> None:
    request = worker_with(10, in_flight=Counter({CRM: 1}))

    grant(due(5), unlimited(CRM), request, NOW)

    assert request == worker_with(10, in_flight=Counter({CRM: 1}))


@pytest.mark.parametrize("seed", range(50))
def test_every_grant_obeys_the_share_of_its_webhook(seed: int) -> None:
    dice = random.Random(seed)
    webhook_ids = [UUID(int=number) for number in range(1, dice.randint(2, 12))]
    events = [due(1, dice.choice(webhook_ids), is_retry=dice.random() < 0.4)[0] for _ in range(200)]
    busy = {webhook_id: dice.randint(0, 20) for webhook_id in webhook_ids if dice.random() < 0.5}
    free_slots = dice.randint(0, 100)
    retry_slots = dice.randint(0, free_slots)

    grants = grant(
        events, unlimited(*webhook_ids), worker_with(free_slots, retry_slots=retry_slots, in_flight=busy), NOW
    )

    in_flight = Counter(busy)
    refused = 0
    for event in events:
        has_share = in_flight[event.webhook_id] < free_slots and not (event.is_retry and retry_slots == 0)
        assert (event.event_id in grants.starts) == has_share
        refused += not has_share
        in_flight[event.webhook_id] += has_share
        free_slots -= has_share
        retry_slots -= has_share and event.is_retry
    assert free_slots >= 0
    assert retry_slots >= 0
    assert grants.left_behind == (refused > 0)


@pytest.mark.parametrize("retry_slots", [2, 0, -1])
def test_retries_get_no_more_than_their_slots(retry_slots: int) -> None:
    retries, firsts = due(5, CRM, is_retry=True), due(3, SHOP)

    grants = grant([*retries, *firsts], unlimited(CRM, SHOP), worker_with(100, retry_slots=retry_slots), NOW)

    assert list(grants.starts) == ids(retries[: max(retry_slots, 0)] + firsts)
    assert grants.left_behind


def test_only_one_suspect_starts() -> None:
    first, second = due(2, is_suspect=True)
    plain = due(2)

    grants = grant([first, second, *plain], unlimited(CRM), worker_with(), NOW)

    assert list(grants.starts) == ids([first, *plain])
    assert grants.left_behind


def test_no_suspect_starts_beside_another_one() -> None:
    suspect, plain = due(1, is_suspect=True), due(1)

    grants = grant([*suspect, *plain], unlimited(CRM), worker_with(may_take_suspect=False), NOW)

    assert list(grants.starts) == ids(plain)
    assert grants.left_behind


# The reserve for prompt webhooks.


@pytest.mark.parametrize(
    ("common_slots", "slow", "is_used_up"),
    [(None, 5, False), (9, 5, False), (8, 4, False), (3, 2, False), (1, 1, True), (0, 0, True), (-4, 0, True)],
)
def test_webhooks_not_known_to_be_prompt_have_shares_of_the_common_slots(
    common_slots: int | None, slow: int, is_used_up: bool
) -> None:
    of_slow, of_fast = due(5, CRM), due(5, SHOP)
    worker = worker_with(prompt={SHOP}, common_slots=common_slots)

    grants = grant([*of_slow, *of_fast], unlimited(CRM, SHOP), worker, NOW)

    assert list(grants.starts) == ids(of_slow[:slow] + of_fast)
    assert grants.left_behind == (slow < 5)
    assert grants.lacks_common_slots == is_used_up
    assert grants.at_limit == {}


def test_webhooks_that_are_not_known_to_be_prompt_use_the_common_slots_up() -> None:
    events = [*due(2, CRM), *due(2, MAIL)]

    grants = grant(events, unlimited(CRM, MAIL), worker_with(prompt={SHOP}, common_slots=2), NOW)

    assert list(grants.starts) == [events[0].event_id, events[2].event_id]
    assert grants.lacks_common_slots


def test_prompt_webhooks_use_no_common_slots() -> None:
    fast, slow = due(9, SHOP), due(1, CRM)

    grants = grant([*fast, *slow], unlimited(CRM, SHOP), worker_with(prompt={SHOP}, common_slots=1), NOW)

    assert list(grants.starts) == ids([*fast, *slow])
    assert not grants.left_behind


def test_a_prompt_webhook_alone_gets_half_of_the_slots() -> None:
    grants = grant(due(100), unlimited(CRM), worker_with(100, prompt={CRM}, common_slots=-10), NOW)

    assert len(grants.starts) == 50
    assert grants.left_behind
    assert not grants.lacks_common_slots


# Concurrency.


def test_no_more_events_start_than_the_limit_leaves() -> None:
    events = due(5)
    limits = {CRM: WebhookLimit(free=3)}

    grants = grant(events, limits, worker_with(), NOW)

    assert list(grants.starts) == ids(events[:3])
    assert limits[CRM].free == 0
    assert grants.at_limit == {CRM: None}
    assert not grants.left_behind


@pytest.mark.parametrize("free", [0, -2])
def test_a_full_webhook_starts_nothing_and_gets_no_slot(free: int) -> None:
    limits = {CRM: WebhookLimit(free, TENTH, at(-9))}

    grants = grant(due(2), limits, worker_with(), NOW)

    assert grants.starts == {}
    assert grants.slots == {}
    assert grants.at_limit == {CRM: None}
    assert limits == {CRM: WebhookLimit(free, TENTH, at(-9))}


def test_a_webhook_that_uses_its_limit_up_is_not_at_it() -> None:
    grants = grant(due(3), {CRM: WebhookLimit(free=3)}, worker_with(), NOW)

    assert len(grants.starts) == 3
    assert grants.at_limit == {}


def test_a_full_webhook_does_not_delay_others() -> None:
    full, other = due(5, CRM), due(2, SHOP)

    grants = grant([*full, *other], {CRM: WebhookLimit(free=0), SHOP: WebhookLimit(free=9)}, worker_with(), NOW)

    assert list(grants.starts) == ids(other)
    assert grants.at_limit == {CRM: None}


def test_no_event_of_a_webhook_at_its_limit_is_left_for_other_workers() -> None:
    plain, suspect = due(1), due(1, is_suspect=True)

    grants = grant([*plain, *suspect], {CRM: WebhookLimit(free=0)}, worker_with(may_take_suspect=False), NOW)

    assert grants.at_limit == {CRM: None}
    assert not grants.left_behind


def test_a_webhook_that_another_worker_has_locked_is_left_out() -> None:
    locked, other = due(2, CRM), due(1, SHOP)

    grants = grant([*locked, *other], unlimited(SHOP), worker_with(), NOW)

    assert list(grants.starts) == ids(other)
    assert grants.at_limit == {}
    assert not grants.left_behind


# Rates.


def test_without_a_rate_each_event_starts_when_it_is_due() -> None:
    overdue, soon = due(1, since=-9), due(1, since=0.04)

    grants = grant([*overdue, *soon], unlimited(CRM), worker_with(), NOW)

    assert list(grants.starts.values()) == [at(-9), at(0.04)]
    assert grants.slots == {}


@pytest.mark.parametrize(
    ("last_slot", "start"),
    [(None, 0.0), (-60, 0.0), (-0.1, 0.0), (-0.05, 0.05), (-0.08, 0.02)],
    ids=["no slot yet", "unused slots are lost", "an interval ago", "at the horizon", "within the horizon"],
)
def test_a_slot_follows_the_last_one_after_an_interval(last_slot: float | None, start: float) -> None:
    last_slot_at = None if last_slot is None else at(last_slot)
    events = due(3)

    grants = grant(events, {CRM: WebhookLimit(50, TENTH, last_slot_at)}, worker_with(), NOW)

    assert grants.starts == {events[0].event_id: at(start)}
    assert grants.slots == {CRM: at(start)}
    assert grants.at_limit == {CRM: at(start + 0.1)}
    assert not grants.left_behind


def test_slots_within_the_horizon_are_exactly_one_interval_apart() -> None:
    interval = dt.timedelta(milliseconds=20)
    limits = {CRM: WebhookLimit(50, interval)}

    grants = grant(due(9), limits, worker_with(), NOW)

    assert list(grants.starts.values()) == [at(0), at(0.02), at(0.04)]
    assert grants.slots == {CRM: at(0.04)}
    assert grants.at_limit == {CRM: at(0.06)}
    assert limits == {CRM: WebhookLimit(47, interval, at(0.04))}


def test_a_slot_is_granted_at_most_50_ms_ahead() -> None:
    microsecond = dt.timedelta(microseconds=1)

    too_early = grant(due(1), {CRM: WebhookLimit(1, TENTH, at(-0.05) + microsecond)}, worker_with(), NOW)

    assert dt.timedelta(milliseconds=50) == AHEAD
    assert too_early.starts == {}
    assert too_early.slots == {}
    assert too_early.at_limit == {CRM: at(0.05) + microsecond}


def test_an_event_never_starts_before_it_is_due() -> None:
    early, late = due(1, since=-1), due(1, since=0.045)

    grants = grant([*early, *late], {CRM: WebhookLimit(50, dt.timedelta(milliseconds=10))}, worker_with(), NOW)

    assert list(grants.starts.values()) == [at(0), at(0.045)]
    assert grants.slots == {CRM: at(0.045)}


@pytest.mark.parametrize(("seconds", "starts"), [(0, []), (99.94, []), (99.96, [100]), (130, [130])])
def test_a_slow_rate_grants_one_slot_at_a_time(seconds: float, starts: list[float]) -> None:
    events = due(2)

    grants = grant(events, {CRM: WebhookLimit(50, dt.timedelta(seconds=100), NOW)}, worker_with(), at(seconds))

    assert list(grants.starts.values()) == [at(start) for start in starts]


def test_a_raised_rate_counts_from_the_next_slot_on() -> None:
    slow = {CRM: WebhookLimit(50, dt.timedelta(seconds=100))}
    before = grant(due(1), slow, worker_with(), NOW)

    after = grant(due(1), {CRM: WebhookLimit(50, TENTH, before.slots[CRM])}, worker_with(), at(0.06))

    assert list(after.starts.values()) == [at(0.1)]


def test_a_rate_does_not_delay_other_webhooks() -> None:
    limited, other = due(3, CRM), due(2, SHOP)

    grants = grant([*limited, *other], {CRM: WebhookLimit(50, TENTH), SHOP: WebhookLimit(50)}, worker_with(), NOW)

    assert list(grants.starts) == ids([limited[0], *other])
    assert grants.slots == {CRM: NOW}
    assert grants.at_limit == {CRM: at(0.1)}


def test_an_event_without_a_share_uses_no_slot_and_no_limit() -> None:
    limits = {CRM: WebhookLimit(5, TENTH)}

    grants = grant(due(1), limits, worker_with(3, in_flight={CRM: 3}), NOW)

    assert grants.starts == {}
    assert grants.left_behind
    assert limits == {CRM: WebhookLimit(5, TENTH)}
