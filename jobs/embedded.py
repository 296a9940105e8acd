"""Ringback inside another program: one object that records, delivers and looks up events."""

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from ringback.jobs.announcer import announce_due_events
from ringback.jobs.worker import run_worker
from ringback.models import bootstrap
from ringback.models.database.notifications import Topic, notifier
from ringback.models.enums import Action
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, decode, encode
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import open_secret_box
from ringback.models.services import events
from ringback.models.services.webhooks import Webhooks
from ringback.models.settings import Settings

#: Seconds between two reads of an event, because another process may record its end without notifying this one.
POLL_SECONDS = 1.0


class Ringback:
    """Ringback inside your own program, open while its `async with` block runs.

        async with Ringback(load_settings(models=("shop",))) as ringback:
            await ringback.webhooks.create(WebhookSpec("car", (Action.CREATED,), "https://example.com/hook"))
            await ringback.run_worker()

    Entering migrates and opens the database that the settings name, or, with `tortoise_config`, the databases of your
    own Tortoise configuration, which holds `tortoise_apps()`. From then on, commits to tracked models are recorded, and
    workers elsewhere learn of due events through the broker. Entering raises ConfigurationError and TrackingError.
    """

    webhooks: Webhooks

    def __init__(self, settings: Settings, *, tortoise_config: Mapping[str, Any] | None = None) -> None:
        self.settings = settings
        self.events = Events()
        self._tortoise_config = tortoise_config
        self._open = contextlib.AsyncExitStack()
        self._announcing = contextlib.AsyncExitStack()
        self._workers: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            if self._tortoise_config is None:
                await bootstrap.migrate(self.settings)
                await stack.enter_async_context(bootstrap.open_database(self.settings))
            else:
                bootstrap.prepare_data_dir(self.settings)
                await bootstrap.migrate_config(self._tortoise_config)
                await stack.enter_async_context(bootstrap.open_tortoise(self._tortoise_config))
            await stack.enter_async_context(bootstrap.share_notifications(self.settings.notifications_url))
            self._policy = AddressPolicy(self.settings.dangerous_allow_networks, self.settings.allow_ports)
            self._inboxes = InboxAddresses(self.settings.address())
            self._secrets = await open_secret_box(self.settings)
            self.webhooks = Webhooks(self._policy, self._inboxes, self._secrets)
            stack.push_async_callback(self._announcing.aclose)
            await self._announce()
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        workers = {worker for worker in self._workers if worker is not asyncio.current_task()}
        for worker in workers:
            if not worker.cancelling():  # a second cancellation would cut its stop short
                worker.cancel()
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            await self._open.aclose()

    async def run_worker(self) -> None:
        """Deliver events until the calling task is cancelled or the block ends.

        Attempts in flight then have 5 s to end.

        Any number of processes may do this on Postgres; on SQLite a second worker raises ConfigurationError.
        """
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        try:
            self._workers.add(task)
            await self._announcing.aclose()  # a worker announces the events that its own process commits
            async with run_worker(self.settings, policy=self._policy, secrets=self._secrets, inboxes=self._inboxes):
                await asyncio.Event().wait()
        finally:
            self._workers.discard(task)
            if not self._workers:
                await self._announce()

    async def _announce(self) -> None:
        await self._announcing.enter_async_context(announce_due_events(self.settings.broker_url))


class Events:
    """The events of an open `Ringback`. Each method takes an event or its id, such as "evt_01h455vb4pex5vsknk084sn02q".

    Lists and filters are Tortoise queries on `Event` and `Attempt`.
    """

    async def get(self, event: Event | str) -> Event | None:
        """Return the event as it is stored now, or None. Raises ValueError for a malformed id."""
        return await Event.get_or_none(id=decode(Prefix.EVENT, _id_of(event)))

    async def attempts(self, event: Event | str) -> list[Attempt]:
        """Return the attempts of an event, first to last. Raises ValueError for a malformed id."""
        return await Attempt.filter(event_id=decode(Prefix.EVENT, _id_of(event))).order_by("number")

    async def wait_until_ended(self, event: Event | str) -> Event:
        """Return the event once it has succeeded, failed or been cancelled. Raises ValueError for an unknown id."""
        listener = notifier.listen(Topic.LOGGED)
        while True:
            stored = await self.get(event)
            if stored is None:
                raise ValueError(f"there is no event {_id_of(event)}")
            if stored.status.ended:
                return stored
            await listener.wait(POLL_SECONDS)

    async def test_fire(
        self, webhook_id: str, action: Action = Action.CREATED, item: Mapping[str, Any] | None = None
    ) -> Event:
        """Record a test event, due at once; without `item` it holds the model's sample. Raises InputRejected."""
        return await events.test_fire(webhook_id, action, item)

    async def redeliver(self, event: Event | str) -> Event:
        """Make the waiting attempt of a retrying event now, or start a new round of an ended one.

        Raises InputRejected.
        """
        return await events.redeliver(_id_of(event))

    async def cancel(self, event: Event | str) -> Event:
        """Cancel a waiting event. Raises InputRejected."""
        return await events.cancel(_id_of(event))


def _id_of(event: Event | str) -> str:
    if isinstance(event, str):
        return event
    return encode(Prefix.EVENT, event.id)
