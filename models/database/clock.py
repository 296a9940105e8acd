"""The database clock, which all schedules and leases use.

SQLite runs in this process, so its clock is the system clock, read here because SQLite's own functions lack
microseconds.

The clock of Postgres is read every few seconds and continued with the local uptime in between, because a delivery
needs the time several times and each reading costs a round trip. A reading is off by at most half a round trip, far
below the margins of leases. The local system clock, which may be hours off, is never used.
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

#: A monotonic clock that includes time in which the machine was suspended; only Linux has it.
_UPTIME = getattr(time, "CLOCK_BOOTTIME", None)
#: Seconds between two readings of the server's clock.
READING_SECONDS = 5.0
#: Assumed drift of two clocks, in seconds per second. A slow reading does not replace an older but more exact one.
DRIFT = 0.001


def read_uptime() -> float:
    """Return the seconds of a monotonic clock. On Linux it includes time in which the machine was suspended."""
    return time.monotonic() if _UPTIME is None else time.clock_gettime(_UPTIME)


class Clock:
    """The system clock, and the base of clocks that continue without I/O."""

    def now(self) -> dt.datetime:
        """Return the current time in UTC."""
        return dt.datetime.now(dt.UTC)


@dataclass(slots=True)
class _Reading(Clock):
    """A server's clock: it showed `server` at the uptime `local`, give or take `error` seconds.

    `read_at` is the uptime at the last attempt to read it.
    """

    server: dt.datetime
    local: float
    error: float
    read_at: float

    def now(self) -> dt.datetime:
        """Return the server's current time in UTC."""
        return self.server + dt.timedelta(seconds=read_uptime() - self.local)


_readings: WeakKeyDictionary[BaseDBAsyncClient, _Reading] = WeakKeyDictionary()


async def now(db: BaseDBAsyncClient | None = None) -> dt.datetime:
    """Return the current time of the database of `db`, by default the one that holds Ringback's tables."""
    return (await read_clock(db)).now()


async def read_clock(db: BaseDBAsyncClient | None = None) -> Clock:
    """Return the database clock. Within a few seconds, reading the time from it costs no round trip."""
    db = db or SiteSettings._meta.db
    if not is_postgres(db):
        return Clock()
    client = db.client if isinstance(db, RecordingTransaction) else db
    reading = _readings.get(client)
    if reading is None:
        reading = _readings[client] = await _read(db)
    elif read_uptime() - reading.read_at > READING_SECONDS:
        reading = await _refresh(client, db, reading)
    return reading


async def _refresh(client: BaseDBAsyncClient, db: BaseDBAsyncClient, previous: _Reading) -> _Reading:
    previous.read_at = read_uptime()  # before the read, so that only one caller reads and no other waits
    try:
        reading = await _read(db)
    except BaseORMException:  # the database is unreachable: the previous reading stays valid
        return previous
    previous_error = previous.error + (reading.local - previous.local) * DRIFT
    if reading.error <= previous_error:
        _readings[client] = reading
    return _readings[client]


async def _read(db: BaseDBAsyncClient) -> _Reading:
    before = read_uptime()
    rows = await fetch(db, "SELECT clock_timestamp() AS now")
    after = read_uptime()
    server: dt.datetime = rows[0]["now"]
    return _Reading(
        server=server.astimezone(dt.UTC),
        local=(before + after) / 2,
        error=(after - before) / 2,
        read_at=before,
    )
