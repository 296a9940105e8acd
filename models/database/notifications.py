"""Notifications from commits to the loops that wait for them, within one process.

A notification carries no data and may be lost: each waiting loop also polls at least once a second. A relay, such as
models.database.redis_notifications, forwards notifications to other processes. Due events reach other processes as a
Dramatiq message instead (ringback.jobs.announcer).
"""

import asyncio
import contextlib
import datetime as dt
import weakref
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from ringback.models.background_tasks import wait_for

#: Events due later than this need no notification, because each worker's own poll and timer finds them.
DUE_SOON = dt.timedelta(seconds=1)


class Topic(StrEnum):
    """The kinds of notifications."""

    DUE = "due"  # an event is due within DUE_SOON
    LOGGED = "logged"  # the delivery log has new entries
    RECEIVED = "received"  # an inbox has received a request


class Listener:
    """A waiting loop. Notifications that arrive between two waits count as one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Wake the loop. May be called from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a notification. Return False if none arrives before the timeout."""
        try:
            return await wait_for(self._event, timeout_seconds)
        finally:
            self._event.clear()


class Notifier:
    """The listeners and relays of one process."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, weakref.WeakSet[Listener]] = {topic: weakref.WeakSet() for topic in Topic}
        self._relays: list[Callable[[Topic], None]] = []

    def listen(self, topic: Topic) -> Listener:
        """Return a new listener for the running loop. Keep a reference to it: only weak ones are held here."""
        listener = Listener()
        self._listeners[topic].add(listener)
        return listener

    def notify(self, topic: Topic) -> None:
        """Wake all listeners of the topic, in this process and, through the relays, in others."""
        self.wake(topic)
        for relay in self._relays:
            relay(topic)

    def notify_if_due_soon(self, due_times: Iterable[dt.datetime], now: dt.datetime) -> None:
        """Notify of due events if one of these times is within DUE_SOON."""
        soon = now + DUE_SOON
        if any(due_time <= soon for due_time in due_times):
            self.notify(Topic.DUE)

    def wake(self, topic: Topic) -> None:
        """Wake all listeners of the topic in this process."""
        for listener in list(self._listeners[topic]):
            listener.wake()

    @contextlib.contextmanager
    def relay_to(self, relay: Callable[[Topic], None]) -> Iterator[None]:
        """Call `relay` for each notification while the block runs. It must not block, and any thread may call it."""
        self._relays.append(relay)
        try:
            yield
        finally:
            self._relays.remove(relay)


#: The notifier of this process.
notifier = Notifier()
