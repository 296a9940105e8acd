"""Keeps this worker's lease, declares dead workers dead, and has their attempts recorded as ABANDONED."""

import asyncio

import structlog

from ringback.jobs.in_flight import InFlight
from ringback.jobs.recorder import Recorder
from ringback.jobs.result import abandon
from ringback.models.database import clock
from ringback.models.queue import workers
from ringback.models.queue.workers import WorkerLease, uptime

logger = structlog.get_logger("ringback.worker")

#: Seconds between two looks for dead workers and orphans, and orphans of one look.
LOOK_SECONDS, MAX_ORPHANS = 1.0, 1_000
#: A lease is renewed whenever this part of it has passed.
RENEWALS_PER_LEASE = 3


class LeaseKeeper:
    """Holds the lease of this worker; `run` it as a task after `start`.

    It declares others dead only after a whole lease of uninterrupted renewals of its own, so an outage of the database,
    in which every lease expires, is nobody's death.
    """

    def __init__(self, recorder: Recorder, in_flight: InFlight, *, lease_seconds: float, is_alone: bool) -> None:
        self._recorder = recorder
        self._in_flight = in_flight
        self._lease_seconds = lease_seconds
        self._is_alone = is_alone
        self._renewed_at = self._steady_since = 0.0
        self.lease: WorkerLease
        #: Whether there are other workers, which may take what this one has no slots for.
        self.has_peers = False

    async def start(self) -> None:
        """Register this worker."""
        self.lease = await workers.register_worker(self._lease_seconds)
        self._renewed_at = self._steady_since = uptime()
        self.has_peers = await workers.has_peers(self.lease)

    async def run(self) -> None:
        """Keep the lease until cancelled; a database that is away is waited for."""
        while True:
            try:
                async with asyncio.timeout(self._lease_seconds / RENEWALS_PER_LEASE):
                    await self._look()
            except Exception as error:
                self._steady_since = uptime()
                logger.warning(
                    "cannot keep the lease; trying again",
                    action="renew",
                    reason=str(error) or "no answer in time",
                    again_in_seconds=LOOK_SECONDS,
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def leave(self) -> None:
        """End the lease of this worker; what was sent and could not be recorded is an orphan from then on."""
        await workers.release_all_but(self.lease, self._recorder.unrecorded)
        await workers.leave(self.lease)

    async def _look(self) -> None:
        if not self._is_alone:
            if uptime() - self._renewed_at >= self._lease_seconds / RENEWALS_PER_LEASE or self.lease.is_expired():
                await self._renew()
            if uptime() - self._steady_since >= self._lease_seconds:
                dead = await workers.declare_dead()
                if dead:
                    logger.warning("workers declared dead", action="recover", workers=dead)
        await self._abandon_orphans()

    async def _renew(self) -> None:
        if self.lease.is_expired():
            self._steady_since = uptime()
        if not await workers.renew(self.lease, self._lease_seconds):
            logger.warning(
                "declared dead by another worker; going on under a new id",
                action="renew",
                worker_id=str(self.lease.worker_id),
            )
            self.lease.ends_at = 0.0
            self.lease = await workers.register_worker(self._lease_seconds)
            self._steady_since = uptime()
        self._renewed_at = uptime()
        self.has_peers = await workers.has_peers(self.lease)
        self._in_flight.wake.set()

    async def _abandon_orphans(self) -> None:
        """Record the attempts that dead workers left, except those whose late results are still to come here."""
        orphans = await workers.find_orphans(MAX_ORPHANS)
        now = await clock.now()
        known = self._in_flight.event_ids | self._recorder.unrecorded
        left = [orphan for orphan in orphans if orphan.event_id not in known]
        if left:
            logger.info("attempts of dead workers abandoned", action="recover", attempts=len(left))
        for orphan in left:
            self._recorder.put(abandon(orphan, now), lambda: None)
