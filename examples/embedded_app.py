"""A coffee bar that uses Ringback as a library. Run it with `.venv/bin/python examples/embedded_app.py [URL]`."""

import asyncio
import sys
import tempfile

from aiohttp import web
from tortoise import fields
from tortoise.transactions import in_transaction

from ringback.jobs import Ringback
from ringback.models import Action, Event, Tracked, Tracking, WebhookSpec, load_settings


class Order(Tracked):
    """A guest's order, which webhooks can watch."""

    guest = fields.CharField(max_length=64)
    cups = fields.IntField()
    tracking = Tracking(name="coffee_order", labels={"en": "Coffee order"})


async def place_order(guest: str, cups: int) -> None:
    """Place an order of at most 3 cups, without a word of Ringback. What is rolled back fires no webhook."""
    async with in_transaction():
        await Order.create(guest=guest, cups=cups)
        if cups > 3:
            raise ValueError(f"{guest} ordered {cups}, which is too many")
    print(f"{guest} ordered {cups}")


async def print_body(request: web.BaseRequest) -> web.Response:
    """Receive the webhook."""
    print("received", await request.text())
    return web.Response(text="thank you")


async def main(folder: str) -> None:
    """Take two orders, and wait until the URL, or else this program itself, has received the first."""
    receiver = await asyncio.get_running_loop().create_server(web.Server(print_body), "127.0.0.1")
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    settings = load_settings(data_dir=folder, models=(__name__,), dangerous_allow_networks="127.0.0.1")
    async with Ringback(settings) as ringback:
        spec = WebhookSpec("coffee_order", (Action.CREATED,), url, send_json=True, retry_delays_seconds=(0, 2))
        await ringback.webhooks.create(spec)
        worker = asyncio.create_task(ringback.run_worker())
        await place_order("Ann", 2)
        try:
            await place_order("Bob", 5)
        except ValueError as error:
            print(error)
        event = await ringback.events.wait_until_ended(await Event.get())
        print(f"{event.model} {event.object_id}: {event.status} after {event.attempt_count} attempt(s)")
        worker.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(name))
