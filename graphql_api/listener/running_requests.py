"""The requests of one HTTP connection that the application runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn._types import HTTPScope

from ringback.graphql_api.listener.http_limits import count_header_bytes


class RunningRequests:
    """The requests that the application has yet to end, also after their client is gone.

    `on_end` is called at the end of the last one.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._count = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self) -> None:
        """Count a request, which `run` will run."""
        self._count += 1

    async def run(self, request: Awaitable[None]) -> None:
        """Run a request in the current task, until it ends or is cancelled."""
        task = asyncio.current_task()
        assert task is not None, "uvicorn runs the application in a task"
        self._tasks.add(task)
        try:
            await request
        except asyncio.CancelledError:
            if task in self._tasks:  # cancelled by another
                raise
        finally:
            self._tasks.discard(task)
            self._count -= 1
            if self._count == 0:
                self._on_end()

    def cancel(self) -> None:
        """Cancel the requests that have begun."""
        tasks = list(self._tasks)
        self._tasks.clear()
        for task in tasks:
            task.cancel()


def count_head_bytes(scope: HTTPScope) -> int:
    """Return the bytes of a request's URL and headers."""
    if "raw_path" not in scope:  # its response is complete
        return 0
    return len(scope["raw_path"]) + len(scope["query_string"]) + count_header_bytes(scope["headers"])
