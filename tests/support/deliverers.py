"""Deliverers with an endpoint that the test holds in its hand."""

import asyncio
import datetime as dt
from collections.abc import Callable
from uuid import UUID

from ringback.jobs.broker import Take
from ringback.jobs.delivery import Deliverer
from ringback.jobs.outcomes import Answer, judge
from ringback.jobs.recorder import Recorder
from ringback.jobs.requests import OutgoingRequest
from ringback.jobs.sender import Sent
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.inboxes import InboxAddresses
from tests.support import builders
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS


class Endpoint:
    """Stands in for the sender. Answers 200 in 20 ms; `hold` keeps answers back until `release`."""

    def __init__(self) -> None:
        self.requests: list[OutgoingRequest] = []
        self.unguarded: list[bool] = []
        self.status = 200
        self.broken: set[str] = set()
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def asked(self, times: int = 1) -> None:
        """Wait until so many requests have come."""
        await eventually(lambda: len(self.requests) >= times)

    async def send(
        self, request: OutgoingRequest, *, timeout_seconds: float, accepts: Callable[[int], bool], unguarded: bool
    ) -> Sent:
        self.requests.append(request)
        self.unguarded.append(unguarded)
        if str(request.url) in self.broken:
            raise KeyError("a bug of our own")
        await self._open.wait()
        return Sent(judge(Answer(self.status), accepts), (*request.headers, ("Host", "hooks.example")), 20)


class Bench:
    """A deliverer with all that it needs, and the events that it said were finished."""

    def __init__(
        self, recorder: Recorder, lease_seconds: float = 45.0, places: int = 1_000, hand_on: Take | None = None
    ) -> None:
        self.endpoint = Endpoint()
        self.lease_seconds = lease_seconds
        self.finished: list[UUID] = []
        self.deliverer = Deliverer(
            self.endpoint,
            recorder,
            builders.BOX,
            InboxAddresses("http://127.0.0.1:8000"),
            lease_seconds=lease_seconds,
            finished=self.finished.append,
            hand_on=hand_on,
            places=places,
        )
        self._moments: list[dt.datetime] = []
        reaches = self.deliverer._reaches

        async def noting(moment: dt.datetime) -> bool:
            self._moments.append(moment)
            return await reaches(moment)

        self.deliverer._reaches = noting  # type: ignore[method-assign]  # to know what it waits for

    async def take(self, *events: Event) -> UUID:
        """Claim the events as one batch and have it picked up; returns the lease."""
        lease = await builders.claimed(*events, seconds=self.lease_seconds)
        await self.deliverer.take(lease, [e.id for e in events])
        return lease

    async def waiting_for(self, event: Event) -> None:
        """Wait until the deliverer has found that an event's moment is still to come."""
        await eventually(lambda: event.next_attempt_at in self._moments)

    async def idle(self) -> None:
        """Wait until nothing is running."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*self.deliverer._batches)

    async def stop(self, *, hurry: bool = False, seconds: float = 10 * PATIENCE_SECONDS) -> None:
        """Stop the deliverer; raise TimeoutError when it waits for all of those seconds."""
        hurried = asyncio.Event()
        if hurry:
            hurried.set()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.deliverer.stop(hurried, seconds)
        except TimeoutError:
            self.endpoint.release()  # or the test's loop would wait for it for ever
            await self.idle()
            raise


def public(event: Event) -> str:
    """Return an event's id as receivers see it."""
    return encode(Prefix.EVENT, event.id)
