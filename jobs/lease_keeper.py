"""Renews this worker's lease, declares dead workers dead, and has their attempts recorded as ABANDONED."""

import asyncio

import structlog

from ringback.jobs.in_flight import InFlight
from ringback.jobs.recorder import Recorder
from ringback.jobs.result import abandon
from ringback.models.database import clock
from ringback.models.queue import workers
from ringback.models.queue.workers import WorkerLease

logger = structlog.get_logger("ringback.worker")

#: Seconds between two searches for dead workers and orphans.
LOOK_SECONDS = 1.0
#: Maximum number of orphans that one search abandons.
MAX_ORPHANS = 1_000
#: Renewals within one lease.
RENEWALS_PER_LEASE = 3


class LeaseKeeper:
    """The lease of this worker; `run` it as a task after `start`.

    It declares others dead only after a whole lease of uninterrupted renewals of its own. So an outage of the database,
    in which every lease expires, kills no worker.
    """

    def __init__(self, recorder: Recorder, in_flight: InFlight, *, lease_seconds: float, is_alone: bool) -> None:
        self._recorder = recorder
        self._in_flight = in_flight
        self._lease_seconds = lease_seconds
        self._is_alone = is_alone
        self._renewed_at = self._steady_since = 0.0
        self.lease: WorkerLease
        #: Whether there are other workers, which can claim what this one has no slots for.
        self.has_peers = False

    async def start(self) -> None:
        """Register this worker."""
        self.lease = await workers.register_worker(self._lease_seconds)
        self._renewed_at = self._steady_since = clock.read_uptime()
        self.has_peers = await workers.has_peers(self.lease)

    async def run(self) -> None:
        """Keep the lease until cancelled. Errors are logged, and the renewal is repeated."""
        while True:
            try:
                async with asyncio.timeout(self._lease_seconds / RENEWALS_PER_LEASE):
                    await self._look()
            except Exception as error:
                self._steady_since = clock.read_uptime()
                logger.warning(
                    "cannot renew the lease or look for orphans; trying again",
                    action="renew",
                    reason=str(error) or "no answer in time",
                    again_in_seconds=LOOK_SECONDS,
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def leave(self) -> None:
        """End the lease. Events whose requests may have been sent without a recorded result become orphans."""
        await workers.release_all_but(self.lease, self._recorder.unrecorded | self._in_flight.event_ids)
        await workers.leave(self.lease)

    async def _look(self) -> None:
        if not self._is_alone:
            await self._renew_if_due()
            await self._declare_dead_if_steady()
        await self._abandon_orphans()

    async def _renew_if_due(self) -> None:
        is_due = clock.read_uptime() - self._renewed_at >= self._lease_seconds / RENEWALS_PER_LEASE
        is_expired = self.lease.is_expired()
        if not is_due and not is_expired:
            return
        if is_expired:
            self._steady_since = clock.read_uptime()
        if not await workers.renew(self.lease, self._lease_seconds):
            await self._register_again()
        self._renewed_at = clock.read_uptime()
        self.has_peers = await workers.has_peers(self.lease)
        self._in_flight.wake.set()

    async def _register_again(self) -> None:
        """Continue under a new id after another worker has declared this one dead."""
        logger.warning(
            "declared dead by another worker; continuing under a new id",
            action="renew",
            worker_id=str(self.lease.worker_id),
        )
        self.lease.ends_at = 0.0
        self.lease = await workers.register_worker(self._lease_seconds)
        self._steady_since = clock.read_uptime()

    async def _declare_dead_if_steady(self) -> None:
        if clock.read_uptime() - self._steady_since < self._lease_seconds:
            return
        dead = await workers.declare_dead()
        if dead:
            logger.warning("workers declared dead", action="recover", workers=dead)

    async def _abandon_orphans(self) -> None:
        """Abandon the attempts of dead workers, except those whose late results this process will still record."""
        orphans = await workers.find_orphans(MAX_ORPHANS)
        now = await clock.now()
        expected = self._in_flight.event_ids | self._recorder.unrecorded
        abandoned = [orphan for orphan in orphans if orphan.event_id not in expected]
        if abandoned:
            logger.info("attempts of dead workers abandoned", action="recover", attempts=len(abandoned))
        for orphan in abandoned:
            self._recorder.put(abandon(orphan, now))
