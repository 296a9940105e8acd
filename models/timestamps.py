"""Timestamps as text: RFC 3339 in JSON, and the form that SQLite stores."""

import datetime as dt
from functools import lru_cache
from typing import Any


def format_timestamp(timestamp: dt.datetime) -> str:
    """Return a timestamp as RFC 3339 text, in UTC with microseconds. Example: 2026-01-31T12:00:00.000000Z."""
    return timestamp.astimezone(dt.UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


@lru_cache(4_096)
def format_sqlite_timestamp(timestamp: dt.datetime) -> str:
    """Return a timestamp as SQLite stores it. Always in UTC, because SQLite compares the texts."""
    return str(timestamp.astimezone(dt.UTC))


def parse_timestamp(value: Any) -> dt.datetime | None:
    """Return a timestamp from a row of either database in UTC, or None for NULL.

    UTC is also assumed where the text names no time zone.
    """
    if value is None:
        return None
    timestamp = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    assert isinstance(timestamp, dt.datetime)
    if timestamp.tzinfo is dt.UTC:
        return timestamp
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=dt.UTC)
    return timestamp.astimezone(dt.UTC)
