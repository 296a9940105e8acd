"""Locks by name that last as long as a transaction, for what no row stands for yet.

On SQLite transactions come one after another anyway. On Postgres these are advisory locks, taken in the order of their
keys, so that two transactions do not wait for each other.
"""

from collections.abc import Iterable
from hashlib import blake2b

from tortoise.backends.base.client import BaseDBAsyncClient


async def hold(db: BaseDBAsyncClient, names: Iterable[str], *, shared: bool = False) -> None:
    """Wait for these locks and hold them until the transaction ends; those who share one do not wait for each other."""
    if db.capabilities.dialect == "sqlite":
        return
    keys = sorted({int.from_bytes(blake2b(n.encode(), digest_size=8).digest(), signed=True) for n in names})
    if keys:
        lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        query = f"SELECT {lock}(k) FROM (SELECT unnest($1::bigint[]) AS k ORDER BY k) AS locks"
        await db.execute_query(query, [keys])
