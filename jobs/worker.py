"""The worker's composition root: sender, recorder, deliverer, broker, actor and dispatcher, started and stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import UUID

import dramatiq
import structlog
from filelock import FileLock, Timeout
from ringback.jobs.broker import WORKER_TIMEOUT_MS, deliver_actor, in_process_broker
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

#: How long deliveries under way may take to end when the program stops, in seconds; their leases find the rest.
DRAIN_SECONDS = 8.0


@contextlib.asynccontextmanager
async def working(
    settings: Settings, *, policy: AddressPolicy, secrets: SecretBox, inboxes: InboxAddresses
) -> AsyncIterator[None]:
    """Deliver events while the block runs, on the running loop and an open database.

    SQLite serves one worker process at a time; a second one is refused with ConfigurationError.
    """
    with _only_worker(settings):
        lost = await claims.expire_all()
        if lost:
            logger.info("leases of a stopped worker ended", action="recover", events=lost)
        recorder = Recorder()
        async with Sender(policy) as sender:
            deliverer = Deliverer(sender, recorder, secrets, inboxes, settings.lease_seconds)
            async with _running(deliverer, recorder, settings.worker_threads):
                yield


@contextlib.asynccontextmanager
async def _running(deliverer: Deliverer, recorder: Recorder, threads: int) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    async def deliver(lease: UUID, event_ids: Sequence[UUID]) -> None:
        task = asyncio.current_task()
        assert task is not None, "an actor runs as a task"
        under_way.add(task)
        try:
            await deliverer.deliver(lease, event_ids)
        except Exception:
            logger.exception("a batch failed; its lease will bring it back", action="deliver", lease=str(lease))
        finally:
            under_way.discard(task)
            dispatcher.finished(len(event_ids))

    broker = in_process_broker(loop)
    dispatcher = Dispatcher(deliver_actor(broker, deliver), recorder)
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=WORKER_TIMEOUT_MS)
    worker.start()
    recording = asyncio.create_task(recorder.run())
    dispatching = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        await _stopped(dispatching)
        if under_way:
            await asyncio.wait(under_way, timeout=DRAIN_SECONDS)
        for task in list(under_way):
            task.cancel()
        await asyncio.to_thread(worker.stop, int(DRAIN_SECONDS * 1000))
        broker.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(recorder.drain(), DRAIN_SECONDS)
        await _stopped(recording)


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
