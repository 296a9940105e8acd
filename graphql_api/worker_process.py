"""The process of `ringback worker`, and the deliveries that `ringback serve` makes too.

Imports nothing of the API, so that a worker starts fast and takes little memory.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from importlib.metadata import version

from ringback.graphql_api.process import IDLE_TRANSACTION_SECONDS, StopSignals, tune_garbage_collection
from ringback.graphql_api.supervisor import ProcessSupervisor, call_when_input_ends
from ringback.jobs.worker import run_worker
from ringback.models import bootstrap
from ringback.models.background_tasks import end_tasks
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox, open_secret_box
from ringback.models.services import template_check
from ringback.models.services.url_check import UrlCheck
from ringback.models.settings import Settings


async def work(settings: Settings, *, supervised: bool = False) -> None:
    """Deliver until a signal arrives, without serving the API. With `supervised`, also until standard input ends."""
    stop = StopSignals()
    if supervised:
        call_when_input_ends(stop.request)
    await bootstrap.migrate(settings)
    async with (
        bootstrap.open_database(settings, idle_transaction_seconds=IDLE_TRANSACTION_SECONDS),
        bootstrap.share_notifications(settings.notifications_url),
        # The API processes made the inbox URLs in webhooks from the same settings.
        deliver_events(settings, await open_secret_box(settings), settings.address()) as hurried,
    ):
        stop.on_repeated_interrupt(hurried.set)
        tune_garbage_collection()
        print(f"Ringback {version('ringback')} is delivering. Stop it with Ctrl+C.", flush=True)
        async with check_webhooks(settings, settings.address()):
            await stop.wait()


async def work_in_processes(count: int, *options: str) -> None:
    """Deliver in `count` processes of `ringback worker` with these options, until a signal arrives."""
    stop = StopSignals()
    supervisor = ProcessSupervisor(count, "worker", "--supervised", *options)
    running = asyncio.create_task(supervisor.run())
    stop.on_repeated_interrupt(lambda: supervisor.stop(signal.SIGINT))
    await asyncio.wait([running, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    supervisor.stop(signal.SIGTERM)
    await running


def deliver_events(
    settings: Settings, secrets: SecretBox, public_url: str
) -> contextlib.AbstractAsyncContextManager[asyncio.Event]:
    """Deliver while the block runs, on an open database. Set the yielded event to abandon deliveries in flight."""
    policy = AddressPolicy(settings.dangerous_allow_networks, settings.allow_ports)
    return run_worker(settings, policy=policy, secrets=secrets, inboxes=InboxAddresses(public_url))


@contextlib.asynccontextmanager
async def check_webhooks(settings: Settings, public_url: str) -> AsyncIterator[None]:
    """Check the webhooks in the background while the block runs, because thousands take seconds."""
    policy = AddressPolicy(settings.dangerous_allow_networks, settings.allow_ports)
    url_check = UrlCheck(policy, InboxAddresses(public_url))
    task = asyncio.create_task(template_check.log_refused_templates(url_check))
    try:
        yield
    finally:
        await end_tasks(task)
