"""How the dispatcher divides due events: into batches, among webhooks, and between first attempts and retries."""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID, uuid4

from ringback.jobs.dispatcher import BATCH_EVENTS, admitted, batches, in_turn
from ringback.models.claims import Due

AT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
A, B, C = uuid4(), uuid4(), uuid4()


def due(webhook: UUID, events: int, *, suspect: bool = False) -> list[Due]:
    return [Due(uuid4(), webhook, AT, suspect) for _ in range(events)]


def owners(events: Sequence[Due]) -> list[UUID]:
    return [d.webhook_id for d in events]


def test_nothing_makes_no_batch() -> None:
    assert batches([]) == []


def test_small_webhooks_share_a_batch_in_the_order_of_their_webhooks() -> None:
    a, b = due(A, 2), due(B, 1)
    assert batches([a[0], b[0], a[1]]) == [[a[0], a[1], b[0]]]


def test_a_busy_webhook_travels_by_itself() -> None:
    busy, small = due(A, BATCH_EVENTS // 2), due(B, BATCH_EVENTS // 4 - 1)
    assert batches([*small, *busy]) == [busy, small]


def test_no_batch_is_larger_than_its_limit_and_nothing_is_lost() -> None:
    events = due(A, 2 * BATCH_EVENTS) + [d for _ in range(BATCH_EVENTS + 50) for d in due(uuid4(), 1)]
    made = batches(events)
    assert [len(batch) for batch in made] == [BATCH_EVENTS, BATCH_EVENTS, BATCH_EVENTS, 50]
    assert {d.event_id for batch in made for d in batch} == {d.event_id for d in events}
    assert sum(map(len, made)) == len(events)


def test_alone_a_webhook_gets_half_of_the_places() -> None:
    assert len(admitted(due(A, 100), {}, 100, 100)) == 50


def test_a_second_one_still_finds_room_when_the_first_took_all_it_could() -> None:
    found = admitted(due(A, 100) + due(B, 100), {}, 100, 100)
    assert owners(found) == [A] * 50 + [B] * 25
    assert owners(admitted(due(C, 3), {A: 50, B: 25}, 25, 25)) == [C] * 3


def test_what_is_under_way_counts() -> None:
    assert admitted(due(A, 5), {A: 50}, 50, 50) == []
    assert len(admitted(due(A, 5), {A: 46}, 50, 50)) == 2
    assert admitted(due(A, 5), {}, 0, 0) == []


def test_the_earliest_come_first() -> None:
    events = due(A, 10)
    assert admitted(events, {}, 6, 6) == events[:3]


def test_of_suspects_only_one_is_admitted() -> None:
    suspects, plain = due(A, 3, suspect=True), due(A, 2)
    assert admitted([suspects[0], plain[0], suspects[1], plain[1], suspects[2]], {}, 100, 100) == [suspects[0], *plain]


def test_retries_get_no_more_than_their_share() -> None:
    retries = [Due(uuid4(), A, AT, retry=True) for _ in range(5)]
    firsts = due(B, 3)
    assert admitted([*retries, *firsts], {}, 100, 2) == [*retries[:2], *firsts]
    assert admitted([*retries, *firsts], {}, 100, 0) == firsts


def test_first_attempts_and_retries_take_turns() -> None:
    firsts, retries = due(A, 2), due(B, 4)
    one, two, three, four = retries
    assert in_turn(firsts, retries, retries_first=False) == [firsts[0], one, firsts[1], two, three, four]
    assert in_turn(firsts, retries, retries_first=True) == [one, firsts[0], two, firsts[1], three, four]
    assert in_turn(firsts, [], retries_first=True) == firsts
    assert in_turn([], [], retries_first=False) == []
