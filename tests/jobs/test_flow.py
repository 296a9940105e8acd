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
    assert flow.ending() == ({}, 0)
    flow.ended(A, retry=False, claimed_at=clock.now - 0.02)
    flow.ended(A, retry=True, claimed_at=clock.now - 0.02)
    clock.now += HORIZON_SECONDS / 2
    flow.ended(B, retry=True, claimed_at=clock.now - 0.02)
    assert flow.ending() == ({A: 2, B: 1}, 2)
    clock.now += HORIZON_SECONDS * 0.6
    assert flow.ending() == ({B: 1}, 1)
    clock.now += HORIZON_SECONDS
    assert flow.ending() == ({}, 0)


def test_what_took_long_tells_nothing(clock: Time) -> None:
    flow = Flow()
    flow.ended(A, retry=True, claimed_at=clock.now - LONG_SECONDS - 0.01)
    assert flow.ending() == ({}, 0)
    flow.ended(A, retry=True, claimed_at=clock.now - LONG_SECONDS + 0.01)
    assert flow.ending() == ({A: 1}, 1)
