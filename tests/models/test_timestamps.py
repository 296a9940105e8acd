"""Tests of timestamps as text."""

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ringback.models.timestamps import parse_timestamp

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the time zone of this process to one that is not UTC."""
    with monkeypatch.context() as environment:
        environment.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
@pytest.mark.parametrize(
    "stored",
    [
        NOON,
        NOON.astimezone(dt.timezone(dt.timedelta(hours=3))),
        "2026-01-31 12:00:00+00:00",
        "2026-01-31 15:00:00+03:00",
        "2026-01-31 12:00:00",
    ],
)
def test_a_stored_timestamp_is_read_in_utc(stored: Any) -> None:
    timestamp = parse_timestamp(stored)

    assert timestamp == NOON
    assert timestamp.tzinfo is dt.UTC


def test_null_is_no_timestamp() -> None:
    assert parse_timestamp(None) is None
