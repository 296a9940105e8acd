"""Named locks that last until the end of a transaction, for rules about rows that do not exist yet.

On Postgres these are advisory locks, acquired in the order of their keys so that transactions cannot deadlock. SQLite
needs none, because it runs one writing transaction at a time.
"""

from collections.abc import Iterable
from hashlib import blake2b

from tortoise.backends.base.client import BaseDBAsyncClient

_LOCK = "SELECT {}(key) FROM (SELECT unnest($1::bigint[]) AS key ORDER BY key) AS locks"


async def acquire(db: BaseDBAsyncClient, names: Iterable[str], *, shared: bool = False) -> None:
    """Acquire these locks until the transaction ends. Transactions that share a lock do not wait for each other."""
    if db.capabilities.dialect == "sqlite":
        return
    keys = sorted({_lock_key(name) for name in names})
    if keys:
        function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        await db.execute_query(_LOCK.format(function), [keys])


def _lock_key(name: str) -> int:
    """Return a hash of the name, as a signed 64-bit integer."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
