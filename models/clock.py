"""The database's clock, the only one that schedules and leases go by.

SQLite has no server: its clock is this machine's, read here with microseconds, which SQLite's own functions lack.
"""

import datetime as dt

from tortoise.backends.base.client import BaseDBAsyncClient


async def now(db: BaseDBAsyncClient | None = None) -> dt.datetime:
    """The present moment of the database that `db` (or, without it, the default connection) is connected to."""
    return dt.datetime.now(dt.UTC)
