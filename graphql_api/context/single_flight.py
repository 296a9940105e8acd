"""Single flight: concurrent calls with one key share one run of the work, and its result is cached for a short time.

With 2,000 subscribers to the live log that select the same fields, each log entry is executed once. When 2,000 clients
reconnect after a restart, each page of missed entries is read once. The cache is limited in size and in time, so that
results stay current.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cachetools import TTLCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Shared runs of work by key. At most `max_size` results are cached, each for `seconds` from the start of its run.

    A failed run raises in all callers that wait for it and is not cached. Nor is a result that `cache_if` rejects.
    """

    def __init__(self, max_size: int, seconds: float, *, cache_if: Callable[[V], bool] | None = None) -> None:
        self._runs: TTLCache[K, asyncio.Future[V]] = TTLCache(max_size, seconds)
        self._cache_if = cache_if

    def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> "asyncio.Future[V]":
        """Return the cached or running work of this key, or start it. Await the future with `wait_for_result`."""
        future = self._runs.get(key)
        if future is None:
            future = self._runs[key] = asyncio.ensure_future(work())
            future.add_done_callback(lambda done: self._on_done(key, done))
        return future

    def __contains__(self, key: K) -> bool:
        """Return whether the work of a key runs or its result is cached."""
        return key in self._runs

    def forget(self) -> None:
        """Clear the cache. Work that runs goes on, but later calls do not join it."""
        self._runs.clear()

    def _on_done(self, key: K, done: "asyncio.Future[V]") -> None:
        if not self._is_cacheable(done) and self._runs.get(key) is done:
            del self._runs[key]

    def _is_cacheable(self, done: "asyncio.Future[V]") -> bool:
        if done.cancelled() or done.exception() is not None:
            return False
        return self._cache_if is None or self._cache_if(done.result())


async def wait_for_result(future: "asyncio.Future[V]") -> V:
    """Return the result of shared work. Cancelling one caller does not cancel the work."""
    if future.done():
        return future.result()
    return await asyncio.shield(future)


@dataclass(frozen=True, slots=True)
class EventBatch(Generic[K]):
    """Items that a subscription's source yields together, in order, so that their rows are loaded together.

    Subscribers may share items; equal items are executed once. `to_object` converts an item to its schema object.
    """

    items: Sequence[K]
    to_object: Callable[[K], Any]
