"""What ended lately tells how much will end soon."""

from uuid import uuid4

import pytest

from ringback.jobs import flow as flowing
from ringback.jobs.flow import HORIZON_SECONDS, LONG_SECONDS, Flow
from tests.support.stopped import StoppedTime

A, B = uuid4(), uuid4()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    made = StoppedTime()
    monkeypatch.setattr(flowing, "time", made)
    return made


def test_as_many_will_end_as_lately_did(clock: StoppedTime) -> None:
    flow = Flow()
    young = [(A, clock.moment)] * 5 + [(B, clock.moment)] * 5
    assert flow.ending(young) == {}
    flow.ended(A, clock.moment - 0.02)
    flow.ended(A, clock.moment - 0.02)
    clock.advance(HORIZON_SECONDS / 2)
    flow.ended(B, clock.moment - 0.02)
    assert flow.ending(young) == {A: 2, B: 1}
    clock.advance(HORIZON_SECONDS * 0.6)
    assert flow.ending(young) == {B: 1}
    clock.advance(HORIZON_SECONDS)
    assert flow.ending(young) == {}


def test_what_took_long_tells_nothing(clock: StoppedTime) -> None:
    flow = Flow()
    young = [(A, clock.moment)] * 5
    flow.ended(A, clock.moment - LONG_SECONDS - 0.01)
    assert flow.ending(young) == {}
    flow.ended(A, clock.moment - LONG_SECONDS + 0.01)
    assert flow.ending(young) == {A: 1}


def test_what_hangs_will_not_end_because_others_of_its_webhook_do(clock: StoppedTime) -> None:
    flow = Flow()
    for _ in range(90):
        flow.ended(A, clock.moment - 0.02)
    hanging = [(A, clock.moment - LONG_SECONDS - 0.01)] * 50
    assert flow.ending(hanging) == {}
    assert flow.ending([*hanging, *[(A, clock.moment - 0.01)] * 10, (B, clock.moment)]) == {A: 10}
