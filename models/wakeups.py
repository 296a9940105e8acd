"""Wake-ups: "something was committed", from whoever commits to the dispatcher and the tailers.

A wake-up carries nothing and may be lost; behind each waiting loop stands a poll of at most a second. This one reaches
the loops of its own process.
"""

import asyncio
import contextlib
import weakref
from enum import StrEnum


class Topic(StrEnum):
    """What may have happened."""

    DUE = "due"  # an event may be due sooner than the dispatcher knows
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

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait for a wake-up, at most so long; False when none came."""
        try:
            async with asyncio.timeout(max(timeout_seconds, 0)):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
        return True


class WakeUps:
    """The wake-ups of one process."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, weakref.WeakSet[Listener]] = {topic: weakref.WeakSet() for topic in Topic}

    def listen(self, topic: Topic) -> Listener:
        """A listener for the running loop; it is forgotten when its owner is."""
        listener = Listener()
        self._listeners[topic].add(listener)
        return listener

    def notify(self, topic: Topic) -> None:
        """Wake all that listen to the topic."""
        for listener in list(self._listeners[topic]):
            listener.wake()


#: The wake-ups of this process.
wakeups = WakeUps()
