"""The parts of a worker without a broker, and a fake endpoint that the test controls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from ringback.jobs.claimer import Claimer
from ringback.jobs.deliverer import Deliverer
from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.http.sender import Sender, SendResult, SendWithheld
from ringback.jobs.in_flight import InFlight
from ringback.jobs.lease_keeper import LeaseKeeper
from ringback.jobs.outcomes import HttpResponse, judge
from ringback.jobs.recorder import Recorder
from ringback.jobs.result import Result
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, decode, encode
from ringback.models.queue.claims import Delivery
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.webhook import Webhook
from tests.support import builders, unsaved
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS


class Endpoint(Sender):
    """A fake sender that reports 200 after `duration_ms`. `hold` delays all responses until `release`."""

    def __init__(self) -> None:
        self.requests: list[OutgoingRequest] = []
        self.unguarded: list[bool] = []
        self.status = 200
        self.duration_ms = 20
        #: URLs for which `send` raises an unexpected error.
        self.broken: set[str] = set()
        #: Called once there is a connection, before the request is sent.
        self.on_connected: Callable[[], None] = lambda: None
        #: Number of requests without a response, and the most there have been.
        self.unanswered = self.most_unanswered = 0
        self._is_holding = False
        self._held: dict[UUID, asyncio.Event] = {}

    @property
    def event_ids(self) -> list[UUID]:
        """The events of the requests, in order."""
        return [decode(Prefix.EVENT, dict(request.headers)["webhook-id"]) for request in self.requests]

    def hold(self) -> None:
        """Respond to no request from now on."""
        self._is_holding = True

    def release(self, *events: Event) -> None:
        """Respond to the requests of these events; without any, to all requests from now on."""
        for event in events:
            self._held.pop(event.id).set()
        if not events:
            self._is_holding = False
            for held in self._held.values():
                held.set()
            self._held.clear()

    async def wait_for_requests(self, times: int = 1) -> None:
        """Wait until there have been this many requests."""
        await eventually(lambda: len(self.requests) >= times)

    async def send(
        self,
        request: OutgoingRequest,
        *,
        timeout_seconds: float,
        accepts: Callable[[int], bool],
        unguarded: bool = False,
        is_withdrawn: Callable[[], bool] = lambda: False,
    ) -> SendResult:
        self.on_connected()
        if is_withdrawn():
            raise SendWithheld
        self.requests.append(request)
        self.unguarded.append(unguarded)
        self.unanswered += 1
        self.most_unanswered = max(self.most_unanswered, self.unanswered)
        try:
            if request.template.target.text in self.broken:
                raise KeyError("an internal error")
            if self._is_holding:
                await self._held.setdefault(self.event_ids[-1], asyncio.Event()).wait()
        finally:
            self.unanswered -= 1
        return SendResult(judge(HttpResponse(self.status), accepts), request, self.duration_ms)


class Bench:
    """A worker's parts on a real database and a fake endpoint; `await bench.register()` before use."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        slots: int = 8,
        max_concurrency: int = 50,
        lease_seconds: float = builders.LEASE_SECONDS,
        is_alone: bool = True,
        can_pass_on: bool = True,
    ) -> None:
        self.endpoint = Endpoint()
        self.recorder = recorder
        self.in_flight = InFlight()
        self._record_for_others = recorder.on_recorded
        recorder.on_recorded = self._on_recorded
        self.keeper = LeaseKeeper(recorder, self.in_flight, lease_seconds=lease_seconds, is_alone=is_alone)
        self.deliverer = Deliverer(
            self.endpoint, recorder, self.in_flight, builders.BOX, InboxAddresses("http://127.0.0.1:8000")
        )
        self.claimer = Claimer(
            self.deliverer,
            recorder,
            self.in_flight,
            self.keeper,
            slots=slots,
            max_concurrency=max_concurrency,
            can_pass_on=can_pass_on,
        )
        #: Seconds that the claimer wanted to wait after each claim.
        self.waits: list[float] = []
        self._record_waits()

    async def register(self) -> None:
        """Insert the worker's row."""
        await self.keeper.start()

    async def accept_message(self) -> bool:
        """Let the claimer handle a message; returns whether the message has been used up."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.claimer.accept_message()

    async def start(self, *events: Event) -> None:
        """Claim the events, due or not, and start their attempts."""
        await builders.claim(*events, lease=self.keeper.lease)
        deliveries = [await _delivery(event) for event in events]
        for delivery in deliveries:
            self.in_flight.start(delivery.event)
        await self.deliverer.start(self.keeper.lease, deliveries)

    @asynccontextmanager
    async def run_claimer(self) -> AsyncIterator[None]:
        """Run the claimer while the block runs. The block starts after the first claim."""
        running = asyncio.create_task(self.claimer.run())
        try:
            await self.wait_for_claims()
            yield
        finally:
            self.claimer.stop()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await running

    @asynccontextmanager
    async def keep_lease(self) -> AsyncIterator[None]:
        """Keep the lease while the block runs."""
        running = asyncio.create_task(self.keeper.run())
        try:
            yield
        finally:
            running.cancel()

    async def wait_for_claims(self, times: int = 1) -> None:
        """Wait until the claimer has claimed this many times more."""
        before = len(self.waits)
        await eventually(lambda: len(self.waits) >= before + times)

    async def wait_until_idle(self) -> None:
        """Wait until no attempt is in flight and every result is recorded."""
        await eventually(lambda: not len(self.in_flight))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.recorder.drain()

    async def stop(self, *, hurry: bool = False, seconds: float = 10 * PATIENCE_SECONDS) -> None:
        """Stop the deliverer; raises TimeoutError if it waits for all of these seconds."""
        hurried = asyncio.Event()
        if hurry:
            hurried.set()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.deliverer.stop(hurried, seconds)
                await self.recorder.drain()
        finally:
            self.endpoint.release()

    def _on_recorded(self, result: Result) -> None:
        """Report a result to each bench that shares the recorder."""
        self._record_for_others(result)
        self.in_flight.on_recorded(result)

    def _record_waits(self) -> None:
        claim_once = self.claimer._claim_once

        async def record_wait() -> float:
            seconds = await claim_once()
            self.waits.append(seconds)
            return seconds

        self.claimer._claim_once = record_wait  # type: ignore[method-assign]  # to see each claim


async def record(recorder: Recorder, result: Result) -> None:
    """Queue a result, and wait until it is committed."""
    recorder.put(result)
    await recorder.drain()


def public_id(event: Event) -> str:
    """Return an event's id in the form that receivers see."""
    return encode(Prefix.EVENT, event.id)


async def _delivery(event: Event) -> Delivery:
    change = await Change.get_or_none(id=event.change_id)
    webhook = await Webhook.get(id=event.webhook_id)
    claimed_change = None if change is None else unsaved.change(change.item, change.changed_fields)
    return Delivery(builders.as_claimed(event), claimed_change, webhook.updated_at)
