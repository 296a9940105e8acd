"""A program that writes to the log of a database, in transactions that take their time: `test_no_gap` starts eight.

Each transaction is numbered when it begins to wait for its turn, and not when it commits; some are rolled back.
"""

import asyncio
import random
import sys
from pathlib import Path

from tortoise.transactions import in_transaction

from ringback.models.bootstrap import open_tortoise, tortoise_config
from ringback.models.database import clock
from ringback.models.database.backends import SqliteFile
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import LogKind
from ringback.models.ids import new_key

#: The most entries of one transaction.
LARGEST = 20
WEBHOOKS = [new_key() for _ in range(3)]


async def write(path: Path, writer: int, entries: int, chance: random.Random) -> None:
    """Commit so many entries, named after the writer, the transaction and the entry."""
    async with open_tortoise(tortoise_config(SqliteFile(path))):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        left, transaction = entries, 0
        while left:
            size, transaction = min(left, chance.randint(1, LARGEST)), transaction + 1
            rolled_back = chance.random() < 0.1
            await asyncio.sleep(chance.random() * 0.02)
            begun = await clock.now()
            try:
                async with in_transaction() as db:
                    rows = [
                        LogEntry(
                            kind=LogKind.EVENT_RECORDED,
                            message=f"{writer}.{transaction}.{n} {'rolled back' if rolled_back else begun.timestamp()}",
                            at=await clock.now(db),
                            webhook_id=chance.choice(WEBHOOKS),
                            event_id=new_key(),
                            model="lead",
                        )
                        for n in range(size)
                    ]
                    await LogEntry.bulk_create(rows[: size // 2], using_db=db)
                    await asyncio.sleep(chance.random() * 0.005)
                    await LogEntry.bulk_create(rows[size // 2 :], using_db=db)
                    if rolled_back:
                        raise InterruptedError
                left -= size
            except InterruptedError:
                pass


if __name__ == "__main__":
    number, count, seed = (int(argument) for argument in sys.argv[2:5])
    asyncio.run(write(Path(sys.argv[1]), number, count, random.Random(seed)))
