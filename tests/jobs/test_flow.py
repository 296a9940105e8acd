"""What ended lately tells how much will end soon."""

import time
from uuid import uuid4

import pytest

from ringback.jobs.flow import HORIZON_SECONDS, LONG_SECONDS, Flow

A, B = uuid4(), uuid4()


class Time:
    """The monotonic clock."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    return made


def test_as_many_will_end_as_lately_did(clock: Time) -> None:
    flow = Flow()
    young = [(A, clock.now)] * 5 + [(B, clock.now)] * 5
    assert flow.ending(young) == {}
    flow.ended(A, clock.now - 0.02)
    flow.ended(A, clock.now - 0.02)
    clock.now += HORIZON_SECONDS / 2
    flow.ended(B, clock.now - 0.02)
    assert flow.ending(young) == {A: 2, B: 1}
    clock.now += HORIZON_SECONDS * 0.6
    assert flow.ending(young) == {B: 1}
    clock.now += HORIZON_SECONDS
    assert flow.ending(young) == {}


def test_what_took_long_tells_nothing(clock: Time) -> None:
    flow = Flow()
    young = [(A, clock.now)] * 5
    flow.ended(A, clock.now - LONG_SECONDS - 0.01)
    assert flow.ending(young) == {}
    flow.ended(A, clock.now - LONG_SECONDS + 0.01)
    assert flow.ending(young) == {A: 1}


def test_what_hangs_will_not_end_because_others_of_its_webhook_do(clock: Time) -> None:
    flow = Flow()
    for _ in range(90):
        flow.ended(A, clock.now - 0.02)
    hanging = [(A, clock.now - LONG_SECONDS - 0.01)] * 50
    assert flow.ending(hanging) == {}
    assert flow.ending([*hanging, *[(A, clock.now - 0.01)] * 10, (B, clock.now)]) == {A: 10}
