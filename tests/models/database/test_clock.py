"""Tests of the clocks that continue a reading of the database clock."""

import datetime as dt
import sys
import time

import pytest

from ringback.models.database import clock


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the time in which the machine was suspended")
def test_the_uptime_includes_time_in_which_the_machine_was_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 7.0}.__getitem__)

    assert clock.read_uptime() == 7.0


def test_a_reading_continues_by_the_uptime(monkeypatch: pytest.MonkeyPatch) -> None:
    read_at = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
    reading = clock._Reading(server=read_at, local=100.0, error=0.0, read_at=100.0)

    monkeypatch.setattr(clock, "read_uptime", lambda: 160.0)

    assert reading.now() == read_at + dt.timedelta(seconds=60)
