"""Sharing: work that several wait for is done once, and what came out is kept for a moment.

Two thousand people who follow the log with the same selection cost one execution for each entry, and two thousand
clients that come back after a restart read the same page of it once. What is kept is bounded in number and in time:
who asks later wants to know how things are then.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cachetools import TTLCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Work by what it depends on; at most `most` outcomes are kept, each for `seconds` from when its work began.

    A failure is told to those that wait for it, and forgotten; so is an outcome that is not worth keeping.
    """

    def __init__(self, most: int, seconds: float, *, worth_keeping: Callable[[V], bool] = lambda outcome: True) -> None:
        self._kept: TTLCache[K, asyncio.Future[V]] = TTLCache(most, seconds)
        self._worth_keeping = worth_keeping

    def ask(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> "asyncio.Future[V]":
        """The work of this key, which begins now unless it has a moment ago; wait for it with `outcome`."""
        future = self._kept.get(key)
        if future is None:
            future = self._kept[key] = asyncio.ensure_future(work())
            future.add_done_callback(lambda done: self._ended(key, done))
        return future

    def forget(self) -> None:
        """Keep nothing of what was asked for until now."""
        self._kept.clear()

    def _ended(self, key: K, done: "asyncio.Future[V]") -> None:
        failed = done.cancelled() or done.exception() is not None
        if (failed or not self._worth_keeping(done.result())) and self._kept.get(key) is done:
            del self._kept[key]


async def outcome(future: "asyncio.Future[V]") -> V:
    """What came out of shared work; who is cancelled while it waits does not take the work along."""
    return future.result() if future.done() else await asyncio.shield(future)


@dataclass(frozen=True, slots=True)
class EventBatch(Generic[K]):
    """Things that happened, as the source of a subscription tells them: all that it has now, in order.

    They are told in one go, so that what they need is loaded together. Others may be told of the same things: each is
    known by its identity or value. `show` makes the object of the schema whose fields are asked for.
    """

    happened: Sequence[K]
    show: Callable[[K], Any]
