"""The worker's composition root: sender, recorder, deliverer, broker, actor and dispatcher, started and stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import UUID

import dramatiq
import structlog
from filelock import FileLock, Timeout

from ringback.jobs.broker import (
    REMOTE_THREADS,
    WORKER_TIMEOUT_MS,
    Deliveries,
    is_remote,
    open_broker,
)
from ringback.jobs.delivery import Deliverer
from ringback.jobs.dispatcher import Dispatcher
from ringback.jobs.recorder import Recorder
from ringback.jobs.sender import Sender
from ringback.models import claims
from ringback.models.addresses import AddressPolicy
from ringback.models.errors import ConfigurationError
from ringback.models.inboxes import InboxAddresses
from ringback.models.secrets import SecretBox
from ringback.models.settings import Settings

logger = structlog.get_logger("ringback.worker")

#: How long deliveries under way may take to end when the program stops, in seconds; what is left is abandoned.
DRAIN_SECONDS = 5.0
#: How long Dramatiq's threads are waited for, in milliseconds. They hold nothing but a look at an empty queue.
THREADS_STOP_MS = 100
#: How long the last writes may take, in seconds.
WRITE_SECONDS = 1.5


class Working:
    """A worker at work: `hurry` ends the wait for deliveries under way when it is stopped."""

    def __init__(self) -> None:
        self.hurried = asyncio.Event()

    def hurry(self) -> None:
        """Wait for nothing any more."""
        self.hurried.set()


@contextlib.asynccontextmanager
async def working(
    settings: Settings, *, policy: AddressPolicy, secrets: SecretBox, inboxes: InboxAddresses
) -> AsyncIterator[Working]:
    """Deliver events while the block runs, on the running loop and an open database.

    SQLite serves one worker process at a time; a second one is refused with ConfigurationError. On Postgres any number
    of them share the work, and what a dead one left is found by its leases.
    """
    with _only_worker(settings) if settings.is_embedded else contextlib.nullcontext():
        if settings.is_embedded:
            await _recover()
        async with Sender(policy) as sender, _recording() as recorder:
            state = Working()
            broker = open_broker(settings.broker_url)
            remote = is_remote(settings.broker_url)

            def finished(event_id: UUID) -> None:
                dispatcher.finished(event_id)

            def recorded(webhook_id: UUID) -> None:
                dispatcher.recorded(webhook_id)

            places = settings.worker_concurrency

            async def hand_on(lease: UUID, event_ids: Sequence[UUID]) -> None:
                await deliveries.enqueue([(lease, event_ids)])

            deliverer = Deliverer(
                sender, recorder, secrets, inboxes,
                lease_seconds=settings.lease_seconds, finished=finished, recorded=recorded,
                hand_on=hand_on if remote else None, places=places,
            )  # fmt: skip
            deliveries = Deliveries(broker, deliverer.take, deliverer.has_room)
            dispatcher = Dispatcher(
                deliveries.enqueue,
                recorder,
                places=places,
                alone=not remote,
                is_here=deliverer.is_here,
                bound=settings.max_concurrency_per_webhook,
            )
            worker = dramatiq.Worker(
                broker,
                worker_threads=min(settings.worker_threads, REMOTE_THREADS) if remote else settings.worker_threads,
                worker_timeout=WORKER_TIMEOUT_MS,
            )
            worker.start()
            dispatching = asyncio.create_task(dispatcher.run())
            try:
                yield state
            finally:
                await _stopped(dispatching)
                await asyncio.gather(
                    deliverer.stop(state.hurried, DRAIN_SECONDS), asyncio.to_thread(worker.stop, THREADS_STOP_MS)
                )
                deliveries.close()
                broker.close()


@contextlib.asynccontextmanager
async def _recording() -> AsyncIterator[Recorder]:
    """A recorder at work, which has written everything when the block is left, unless the database is away."""
    recorder = Recorder()
    running = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(recorder.drain(), WRITE_SECONDS)
        await _stopped(running)


async def _recover() -> None:
    """End the leases of the worker that was here before: there is no other."""
    lost = await claims.expire_all()
    if lost:
        logger.info("leases of a stopped worker ended", action="recover", events=lost)


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.contextmanager
def _only_worker(settings: Settings) -> Iterator[None]:
    lock = FileLock(f"{settings.database_path}.worker.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"another worker is running on {settings.database_path}: end it, or use another RINGBACK_DATA_DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()
