"""Dispatchers at work, the batches that they hand on, and the end of those."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from ringback.jobs.dispatcher import Dispatcher
from ringback.jobs.outcomes import Answer, Delivered
from ringback.jobs.recorder import Result, write
from ringback.models import clock
from tests.support.patience import PATIENCE_SECONDS


class Handed:
    """Takes a dispatcher's batches, each with its lease."""

    def __init__(self) -> None:
        self.batches: list[tuple[UUID, list[UUID]]] = []
        self._more = asyncio.Event()

    async def __call__(self, batches: Sequence[tuple[UUID, Sequence[UUID]]]) -> None:
        self.batches += [(lease, list(event_ids)) for lease, event_ids in batches]
        self._more.set()

    @property
    def events(self) -> list[UUID]:
        return [event_id for _, batch in self.batches for event_id in batch]

    async def wait_for(self, events: int) -> None:
        """Wait until so many events have been handed on."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.events) < events:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def at_work(dispatcher: Dispatcher) -> AsyncIterator[list[float]]:
    """Run a dispatcher while the block runs, which begins when the dispatcher has looked once.

    Yields the seconds for which the dispatcher wanted to sleep after each look.
    """
    waits: list[float] = []
    looked = asyncio.Event()
    look = dispatcher._round

    async def noting() -> float:
        waits.append(await look())
        looked.set()
        return waits[-1]

    dispatcher._round = noting  # type: ignore[method-assign]  # the loop asks for it each time
    running = asyncio.create_task(dispatcher.run())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await looked.wait()
        yield waits
    finally:
        running.cancel()


async def record_all(handed: Handed, event_ids: Sequence[UUID]) -> None:
    """Record events that were handed on as delivered, as another process would."""
    leases = {event_id: lease for lease, batch in handed.batches for event_id in batch}
    now = await clock.now()
    delivered = Delivered(Answer(200, (), b""))
    await write([Result(e, leases[e], delivered, started_at=now, ended_at=now, duration_ms=1) for e in event_ids])
