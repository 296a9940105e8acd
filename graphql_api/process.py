"""What each process of the program needs besides its work: event loop, stop signals, open files, garbage collection."""

import asyncio
import gc
import resource
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

#: Arguments of `gc.set_threshold`: collect after 50,000 new objects, and each older generation after 10 collections
#: of the younger one. With Python's own thresholds, collection took a third of the time of publishing log entries
#: and a fifth of that of delivering.
GC_THRESHOLDS = (50_000, 10, 10)
#: Seconds without a statement after which Postgres rolls a transaction back. A machine that loses its power or network
#: would otherwise keep rows locked until the server notices, which takes more than two hours with Linux's TCP
#: keepalive.
IDLE_TRANSACTION_SECONDS = 30
#: Open files that the process asks for, at most.
MAX_OPEN_FILES = 65_536


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a main coroutine, on uvloop."""
    _raise_open_files_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


class StopSignals:
    """The stop signals. The first SIGINT or SIGTERM requests a stop; a later SIGINT (Ctrl+C) hurries it.

    A later SIGTERM changes nothing, so an impatient supervisor, or one that signals a whole group, loses no delivery.
    """

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._hurry: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)

    async def wait(self) -> None:
        """Wait until a stop is requested."""
        await self._requested.wait()

    def request(self) -> None:
        """Request a stop."""
        self._requested.set()

    def on_repeated_interrupt(self, hurry: Callable[[], None]) -> None:
        """Call `hurry` at each SIGINT after a stop was requested."""
        self._hurry.append(hurry)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._requested.is_set() and number is signal.SIGINT:
            for hurry in self._hurry:
                hurry()
        self._requested.set()


def tune_garbage_collection() -> None:
    """Exempt all objects made at the start, whose collection would block requests for 0.1 s, and collect more rarely.

    Thousands of subscribers and attempts in flight keep many objects for a while, which are not garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _raise_open_files_limit() -> None:
    """Raise the soft limit of open files up to the hard one: the usual 1,024 is less than deliveries may need."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
