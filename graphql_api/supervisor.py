"""The supervisor of several worker processes: `ringback worker --processes N`.

Each process is a complete worker with its own event loop and database connections. It has its own session, so a signal
to the group reaches it only once, through the supervisor. A process that dies is restarted. A configuration error in
one (exit code 1) ends all. A process whose supervisor is gone stops too, since its standard input ends.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import structlog

from ringback.models.errors import ConfigurationError

logger = structlog.get_logger("ringback.worker")

#: Seconds until the first restart of a process that died. They double with each further restart.
FIRST_PAUSE_SECONDS = 1.0
#: Seconds until a restart, at most.
LAST_PAUSE_SECONDS = 30.0
#: Seconds of running after which a process counts as healthy, and its restarts start over with the first pause.
SETTLED_SECONDS = 60.0
#: Seconds that processes get to stop before they are killed.
STOP_SECONDS = 9.0
#: The exit code for an error that the operator has to fix.
CONFIGURATION_EXIT_CODE = 1


class ProcessSupervisor:
    """A supervisor that starts processes with a command line, restarts them, and stops them."""

    def __init__(self, count: int, *arguments: str) -> None:
        self._count = count
        self._arguments = arguments
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep all processes running until `stop`. Raises ConfigurationError if one reports a configuration error."""
        keepers = [asyncio.create_task(self._keep_running(number + 1)) for number in range(self._count)]
        try:
            await asyncio.gather(*keepers)
        finally:
            self.stop(signal.SIGTERM)
            await asyncio.gather(*keepers, return_exceptions=True)

    def stop(self, number: signal.Signals) -> None:
        """Send a signal to all processes and restart none of them."""
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep_running(self, number: int) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == CONFIGURATION_EXIT_CODE:
                raise ConfigurationError(f"Worker process {number} cannot run. Fix the error that it printed above.")
            if loop.time() - started > SETTLED_SECONDS:
                pause_seconds = FIRST_PAUSE_SECONDS
            logger.error(
                "a worker process died", action="supervise", number=number, code=code, again_in_seconds=pause_seconds
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_seconds)
            pause_seconds = min(pause_seconds * 2, LAST_PAUSE_SECONDS)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ringback.graphql_api", *self._arguments,
            stdin=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        if self._stopping.is_set():  # `stop` came before the process was in the set
            process.send_signal(signal.SIGTERM)
        try:
            ended = asyncio.create_task(process.wait())
            await asyncio.wait([ended, asyncio.create_task(self._stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(ended), STOP_SECONDS)
            logger.error("a worker process did not stop in time; killing it", action="stop", pid=process.pid)
            process.kill()
            return await ended
        finally:
            self._running.discard(process)


def call_when_input_ends(stop: Callable[[], None]) -> None:
    """Call `stop` at the end of standard input, a pipe from `ProcessSupervisor`."""
    loop = asyncio.get_running_loop()
    pipe = sys.stdin.fileno()

    def on_readable() -> None:
        if not os.read(pipe, 1024):
            loop.remove_reader(pipe)
            stop()

    loop.add_reader(pipe, on_readable)
