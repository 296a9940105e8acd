"""Wake-ups: "something was committed", from whoever commits to the loops that wait for it.

A wake-up carries nothing and may be lost; behind each waiting loop stands a poll of at most a second. These reach the
loops of their own process, and those of others through a relay such as models.database.redis_notifications. That events
are due goes to the workers as a Dramatiq message instead (ringback.jobs.announcer).
"""

import asyncio
import contextlib
import datetime as dt
import weakref
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

#: What is due later than this is found by each worker's own poll and timer, without a wake-up.
DUE_SOON = dt.timedelta(seconds=1)


class Topic(StrEnum):
    """What may have happened."""

    DUE = "due"  # an event is due within DUE_SOON
    LOGGED = "logged"  # the log grew
    RECEIVED = "received"  # an inbox got a request


class Listener:
    """One waiting loop; wake-ups that come while it works are kept, as one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Wake the loop, from whatever thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a wake-up, at most so long; returns False if none came."""
        try:
            async with asyncio.timeout(timeout_seconds and max(timeout_seconds, 0)):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
        return True


class Notifier:
    """The wake-ups of one process."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, weakref.WeakSet[Listener]] = {topic: weakref.WeakSet() for topic in Topic}
        self._relays: list[Callable[[Topic], None]] = []

    def listen(self, topic: Topic) -> Listener:
        """A listener for the running loop; it is forgotten when its owner is."""
        listener = Listener()
        self._listeners[topic].add(listener)
        return listener

    def notify(self, topic: Topic) -> None:
        """Wake all that listen to the topic, here and, through the relays, elsewhere."""
        self.wake(topic)
        for relay in self._relays:
            relay(topic)

    def notify_if_due_soon(self, moments: Iterable[dt.datetime], now: dt.datetime) -> None:
        """Notify that events are due if one of these moments is within DUE_SOON."""
        soon = now + DUE_SOON
        if any(moment <= soon for moment in moments):
            self.notify(Topic.DUE)

    def wake(self, topic: Topic) -> None:
        """Wake all that listen to the topic in this process."""
        for listener in list(self._listeners[topic]):
            listener.wake()

    @contextlib.contextmanager
    def relayed(self, relay: Callable[[Topic], None]) -> Iterator[None]:
        """Tell `relay` of each wake-up while the block runs; it must return at once, whatever thread calls it."""
        self._relays.append(relay)
        try:
            yield
        finally:
            self._relays.remove(relay)


#: The wake-ups of this process.
notifier = Notifier()
