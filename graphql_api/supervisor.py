"""Several worker processes under one: `ringback worker --processes N`.

Each is a whole worker with a loop and database connections of its own, in a session of its own, so that a signal to the
group comes once: through here. One that dies is started again. One that says the operator must mend something (exit
code 1) ends them all. Each ends by itself when this process is gone, since its standard input ends then.
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

#: How long a process that died is left dead, in seconds: the first time, and at most.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 30.0
#: A process that lived so long, in seconds, did not die of its start.
SETTLED_SECONDS = 60.0
#: How long processes may take to end before they are killed, in seconds.
STOP_SECONDS = 9.0
#: The exit code of a program that the operator must mend.
MUST_BE_FIXED = 1


class ProcessSupervisor:
    """Starts processes with a command line, keeps them running, and stops them."""

    def __init__(self, count: int, *arguments: str) -> None:
        self._count = count
        self._arguments = arguments
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep them running until `stop`; raises ConfigurationError when one must be mended by the operator."""
        keepers = [asyncio.create_task(self._keep(number + 1)) for number in range(self._count)]
        try:
            await asyncio.gather(*keepers)
        finally:
            self.stop(signal.SIGTERM)
            await asyncio.gather(*keepers, return_exceptions=True)

    def stop(self, number: signal.Signals) -> None:
        """Pass a signal on to all of them; they are not started again."""
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == MUST_BE_FIXED:
                raise ConfigurationError(f"worker process {number} cannot run; its line above says why")
            pause = FIRST_PAUSE_SECONDS if loop.time() - started > SETTLED_SECONDS else pause
            logger.error("a worker process ended", action="supervise", number=number, code=code, again_in_seconds=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ringback.graphql_api", *self._arguments,
            stdin=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        if self._stopping.is_set():  # while it was started
            process.send_signal(signal.SIGTERM)
        try:
            ended = asyncio.create_task(process.wait())
            await asyncio.wait([ended, asyncio.create_task(self._stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(ended), STOP_SECONDS)
            logger.error("a worker process did not end in time; killing it", action="stop", pid=process.pid)
            process.kill()
            return await ended
        finally:
            self._running.discard(process)


def call_when_input_ends(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input, a pipe from `ProcessSupervisor`, comes to its end."""
    loop = asyncio.get_running_loop()
    pipe = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(pipe, 1024):
            loop.remove_reader(pipe)
            stop()

    loop.add_reader(pipe, readable)
