"""The database's clock, the only one that schedules and leases go by.

SQLite has no server: its clock is this machine's, read here with microseconds, which SQLite's own functions lack.

Postgres's is asked once in a while, and in between this machine's monotonic clock tells how it went on: asking takes a
round trip, deliveries need the moment several times each, and leases have margins of seconds where the reading is at
most half a round trip off. This machine's own idea of the time, which may be wrong by hours, does not count.
"""

import datetime as dt
import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import BaseORMException

from ringback.models.database.sql import fetch, is_postgres
from ringback.models.database.transactions import RecordingTransaction
from ringback.models.site_settings import SiteSettings

#: How old a reading of the server's clock may grow, in seconds.
READING_SECONDS = 5.0
#: How far two clocks drift apart at most, in seconds per second: a reading that was disturbed does not replace one
#: that is better although older.
DRIFT = 0.001


class Clock:
    """A clock that goes on by itself: this machine's."""

    def now(self) -> dt.datetime:
        """The present time."""
        return dt.datetime.now(dt.UTC)


@dataclass(slots=True)
class _Reading(Clock):
    """The clock of a server, which said `server` when the monotonic clock stood at `local`, give or take `error` s.

    `asked_at` is when the server was last asked, by the monotonic clock.
    """

    server: dt.datetime
    local: float
    error: float
    asked_at: float

    def now(self) -> dt.datetime:
        """The server's time now."""
        return self.server + dt.timedelta(seconds=time.monotonic() - self.local)


_readings: WeakKeyDictionary[BaseDBAsyncClient, _Reading] = WeakKeyDictionary()


async def now(db: BaseDBAsyncClient | None = None) -> dt.datetime:
    """Return the time of the database behind `db`, or, without it, of the one that holds Ringback's own tables."""
    return (await read_clock(db)).now()


async def read_clock(db: BaseDBAsyncClient | None = None) -> Clock:
    """The clock of that database, for who needs the moment often within the next seconds, and does not want to wait."""
    db = db or SiteSettings._meta.db
    if not is_postgres(db):
        return Clock()
    client = db.client if isinstance(db, RecordingTransaction) else db
    reading = _readings.get(client)
    if reading is None:
        reading = _readings[client] = await _read(db)
    elif time.monotonic() - reading.asked_at > READING_SECONDS:
        reading = await _read_again(client, db, reading)
    return reading


async def _read_again(client: BaseDBAsyncClient, db: BaseDBAsyncClient, former: _Reading) -> _Reading:
    former.asked_at = time.monotonic()  # first of all, so that one caller asks and no other waits
    try:
        found = await _read(db)
    except BaseORMException:  # the database is away: the former reading goes on being right
        return former
    if found.error <= former.error + (found.local - former.local) * DRIFT:
        _readings[client] = found
    return _readings[client]


async def _read(db: BaseDBAsyncClient) -> _Reading:
    before = time.monotonic()
    rows = await fetch(db, "SELECT clock_timestamp() AS now")
    after = time.monotonic()
    server: dt.datetime = rows[0]["now"]
    return _Reading(server.astimezone(dt.UTC), (before + after) / 2, (after - before) / 2, before)
