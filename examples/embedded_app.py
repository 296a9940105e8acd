"""A coffee bar that uses Ringback as a library, in its own process and its own database.

    python examples/embedded_app.py [URL]

It has a Tortoise configuration and transactions of its own; `place_order()` does not know of Ringback. Without a URL
the example receives its webhook itself. It prints what happened.
"""

import asyncio
import sys
import tempfile
from typing import Any

from tortoise import Tortoise, fields
from tortoise.models import Model
from tortoise.transactions import in_transaction

from ringback.jobs.worker import run_worker
from ringback.models import (
    Action,
    AddressPolicy,
    InboxAddresses,
    Settings,
    Tracked,
    Tracking,
    Webhooks,
    WebhookSpec,
    load_secret_box,
    load_settings,
    migrate_config,
    open_tortoise,
    postgres_connection,
    sqlite_connection,
    tortoise_apps,
)
from ringback.models.database.notifications import Topic, notifier
from ringback.models.event import Event


class Coffee(Model):
    """What is left in the jar; nobody watches it."""

    name = fields.CharField(max_length=32, primary_key=True)
    cups = fields.IntField()


class Order(Tracked):
    """A guest's order, which webhooks can watch."""

    id = fields.IntField(primary_key=True)
    guest = fields.CharField(max_length=64)
    cups = fields.IntField()
    coffee: Any = fields.ForeignKeyField("bar.Coffee", on_delete=fields.RESTRICT)

    tracking = Tracking(name="coffee_order", labels={"en": "Coffee order"})


class SoldOut(Exception):
    """There is not enough coffee left."""


async def place_order(guest: str, cups: int) -> None:
    """Take an order, all or nothing: when the coffee is sold out, no order stays behind and no webhook fires."""
    async with in_transaction():
        coffee = await Coffee.select_for_update().get(name="espresso")  # on SQLite everybody waits anyway
        await Order.create(guest=guest, cups=cups, coffee=coffee)
        coffee.cups -= cups
        await coffee.save()
        if coffee.cups < 0:
            raise SoldOut


def tortoise_config(settings: Settings) -> dict[str, Any]:
    """The bar's own configuration, with Ringback's client and Ringback's tables beside its own."""
    if settings.is_embedded:
        connection = sqlite_connection(settings.database_path)
    else:
        connection = postgres_connection(settings.database_url, pool_size=settings.database_pool_size)
    return {
        "connections": {"default": connection},
        "apps": {**tortoise_apps(), "bar": {"models": [__name__], "default_connection": "default"}},
        "use_tz": True,
    }


async def open_bar(settings: Settings, url: str) -> None:
    """Take orders and deliver their events until none is waiting."""
    policy = AddressPolicy(settings.dangerous_allow_networks)
    secrets, inboxes = load_secret_box(settings), InboxAddresses(settings.address())
    await migrate_config(tortoise_config(settings))
    async with open_tortoise(tortoise_config(settings)):
        await Tortoise.generate_schemas()  # the bar's own tables; Ringback's have migrations
        await Coffee.create(name="espresso", cups=3)
        spec = WebhookSpec("coffee_order", (Action.CREATED,), url, send_json=True, retry_delays_seconds=(0, 2))
        await Webhooks(policy, inboxes, secrets).create(spec)
        async with run_worker(settings, policy=policy, secrets=secrets, inboxes=inboxes):
            for guest, cups in [("Ann", 2), ("Bob", 5)]:
                try:
                    await place_order(guest, cups)
                    print(f"{guest} ordered {cups}")
                except SoldOut:
                    print(f"{guest} ordered {cups}, which is too many")
            news = notifier.listen(Topic.LOGGED)
            while await Event.filter(finished_at=None).exists():
                await news.wait(1)
        for event in await Event.all():
            print(f"{event.model} {event.object_id}: {event.status} after {event.attempt_count} attempt(s)")


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a request with 200 and print its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
    print("received", (await reader.readexactly(length)).decode())
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def main() -> None:
    """Open the bar in a temporary folder; deliveries reach a receiver on this machine only because they may."""
    server = await asyncio.start_server(receive, "127.0.0.1")
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    with tempfile.TemporaryDirectory() as folder:
        await open_bar(load_settings(data_dir=folder, dangerous_allow_networks="127.0.0.1"), url)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
