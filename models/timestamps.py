"""Timestamps as text: RFC 3339 in JSON, and the form that SQLite stores."""

import datetime as dt
from functools import lru_cache
from typing import Any


def format_timestamp(moment: dt.datetime) -> str:
    """RFC 3339 in UTC with Z and microseconds."""
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


@lru_cache(4_096)
def sqlite_timestamp(moment: dt.datetime) -> str:
    """A moment as SQLite keeps it: texts are compared, so all are of one zone."""
    return str(moment.astimezone(dt.UTC))


def parse_timestamp(value: Any) -> dt.datetime | None:
    """A moment, or NULL, as a statement gives it on either kind of database."""
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return None if moment is None else moment.astimezone(dt.UTC)
