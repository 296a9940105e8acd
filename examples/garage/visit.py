"""A script beside the running server: it writes a visit, and the webhooks on `car` fire.

    PYTHONPATH=examples RINGBACK_MODELS=garage python -m garage.visit "KA 1" "oil change" 49.90

It opens the same database by the same settings (`RINGBACK_DATA_DIR`); the server sees the new events within a second.
"""

import asyncio
import datetime as dt
import sys
from decimal import Decimal

from tortoise.transactions import in_transaction

from garage import Car, Visit
from ringback.models import load_settings, open_database


async def visit(plate: str, work: str, price: Decimal) -> None:
    """Put a visit on record, of a new car if need be: one transaction, so one change of the car."""
    async with open_database(load_settings()), in_transaction():
        car, _ = await Car.get_or_create(plate=plate)
        await Visit.create(car=car, day=dt.datetime.now(dt.UTC).date(), work=work, price=price)


if __name__ == "__main__":
    asyncio.run(visit(sys.argv[1], sys.argv[2], Decimal(sys.argv[3])))
