"""The policy of a webhook's limits: what they let go, and when."""

import datetime as dt

import pytest

from ringback.models.limits import Limits, free_at, grant, is_full

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

TEN_A_SECOND = dt.timedelta(seconds=0.1)


def at(*seconds: float) -> list[dt.datetime]:
    return [NOW + dt.timedelta(seconds=s) for s in seconds]


def test_without_a_rate_each_goes_at_its_own_moment_while_there_is_room() -> None:
    given = grant(Limits(3), at(-9, 0.1, 0.2, 0.3), NOW)
    assert given.moments == at(-9, 0.1, 0.2)
    assert given.left == Limits(0)
    assert is_full(given.left)


@pytest.mark.parametrize("room", [0, -2])
def test_without_room_nothing_goes(room: int) -> None:
    given = grant(Limits(room, TEN_A_SECOND), at(-9), NOW)
    assert given.moments == []
    assert given.left == Limits(room, TEN_A_SECOND)


def test_the_first_slot_of_a_rate_is_now_and_the_others_follow_evenly_as_far_as_claims_look() -> None:
    given = grant(Limits(50, TEN_A_SECOND), at(*[-9] * 20), NOW)
    assert given.moments == at(0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert given.left == Limits(44, TEN_A_SECOND, at(0.5)[0])


def test_slots_go_on_from_the_last_one_whoever_gave_it() -> None:
    given = grant(Limits(50, TEN_A_SECOND, at(0.25)[0]), at(*[-9] * 20), NOW)
    assert given.moments == at(0.35, 0.45)


def test_an_event_never_goes_before_its_own_moment_and_its_slot_is_where_the_next_one_counts_from() -> None:
    given = grant(Limits(50, TEN_A_SECOND, at(-5)[0]), at(0.2, 0.2, 0.45), NOW)
    assert given.moments == at(0.2, 0.3, 0.45)


def test_slots_that_nobody_used_are_lost() -> None:
    assert grant(Limits(50, TEN_A_SECOND, at(-60)[0]), at(*[-60] * 3), NOW).moments == at(0, 0.1, 0.2)


def test_a_rate_that_is_slower_than_claims_look_ahead_gives_one_slot_at_a_time() -> None:
    slow = dt.timedelta(seconds=100)
    given = grant(Limits(50, slow), at(-9, -9), NOW)
    assert given.moments == at(0)
    assert grant(given.left, at(-9), NOW).moments == []
    assert grant(given.left, at(-9), at(99.4)[0]).moments == []
    assert grant(given.left, at(-9), at(99.6)[0]).moments == at(100)


def test_a_rate_that_is_raised_counts_from_the_next_slot_on() -> None:
    given = grant(Limits(50, dt.timedelta(seconds=100)), at(-9), NOW)
    assert given.left.last_slot_at == NOW
    assert grant(Limits(50, TEN_A_SECOND, given.left.last_slot_at), at(-9, -9), NOW).moments == at(0.1, 0.2)


def test_a_webhook_is_looked_at_again_when_half_of_the_look_ahead_is_free() -> None:
    assert free_at(Limits(5), NOW) == NOW
    assert free_at(Limits(5, TEN_A_SECOND), NOW) == NOW
    assert free_at(Limits(5, TEN_A_SECOND, at(0.5)[0]), NOW) == at(0.35)[0]
    assert not is_full(Limits(1, TEN_A_SECOND, at(0.5)[0]))
