"""The worker's composition root: everything that delivers, started in order and stopped in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import dramatiq
import structlog
from filelock import FileLock, Timeout
from tortoise.exceptions import BaseORMException

from ringback.jobs.actors import declare_actors
from ringback.jobs.announcer import announcing
from ringback.jobs.broker import WORKER_TIMEOUT_MS, is_remote, open_broker
from ringback.jobs.claimer import Claimer
from ringback.jobs.deliverer import Deliverer
from ringback.jobs.http.sender import Sender
from ringback.jobs.in_flight import InFlight
from ringback.jobs.lease_keeper import LeaseKeeper
from ringback.jobs.recorder import Recorder
from ringback.models.background_tasks import end_tasks
from ringback.models.errors import ConfigurationError
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.settings import Settings

logger = structlog.get_logger("ringback.worker")

#: Seconds that deliveries in flight may take to end when the program stops; what is left is abandoned.
DRAIN_SECONDS = 5.0
#: Milliseconds that Dramatiq's thread is waited for; it holds nothing but a message without content.
THREADS_STOP_MS = 100
#: Seconds that a last claim, the last writes, and ending the lease may take.
CLAIM_SECONDS, WRITE_SECONDS, LEAVE_SECONDS = 0.5, 1.5, 1.0


class RunningWorker:
    """A worker at work: `hurry` ends the wait for deliveries in flight when it is stopped."""

    def __init__(self) -> None:
        self.hurried = asyncio.Event()

    def hurry(self) -> None:
        """Wait for nothing any more."""
        self.hurried.set()


@contextlib.asynccontextmanager
async def run_worker(
    settings: Settings, *, policy: AddressPolicy, secrets: SecretBox, inboxes: InboxAddresses
) -> AsyncIterator[RunningWorker]:
    """Deliver events while the block runs, on the running loop and an open database.

    SQLite serves one worker process at a time; a second one is refused with ConfigurationError. On Postgres any number
    of them share the work, and what a dead one left is found when its lease has expired.
    """
    state = RunningWorker()
    async with contextlib.AsyncExitStack() as stack:
        if settings.is_embedded:
            stack.enter_context(_only_worker(settings))
        sender = await stack.enter_async_context(Sender(policy))
        recorder = await stack.enter_async_context(_recording())
        in_flight = InFlight()
        keeper = LeaseKeeper(recorder, in_flight, lease_seconds=settings.lease_seconds, is_alone=settings.is_embedded)
        await stack.enter_async_context(_leased(keeper))
        deliverer = Deliverer(sender, recorder, in_flight, secrets, inboxes)
        stack.push_async_callback(_drained, recorder)
        stack.push_async_callback(deliverer.stop, state.hurried, DRAIN_SECONDS)
        claimer = Claimer(
            deliverer, recorder, in_flight, keeper,
            slots=settings.worker_concurrency, max_concurrency=settings.max_concurrency_per_webhook,
            can_pass_on=is_remote(settings.broker_url),
        )  # fmt: skip
        await stack.enter_async_context(_claiming(claimer))
        await stack.enter_async_context(_listening(settings.broker_url, claimer))
        yield state


@contextlib.asynccontextmanager
async def _recording() -> AsyncIterator[Recorder]:
    """Yield a recorder at work."""
    recorder = Recorder()
    running = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        await end_tasks(running)


async def _drained(recorder: Recorder) -> None:
    """Wait until everything is recorded, unless the database is away."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(recorder.drain(), WRITE_SECONDS)


@contextlib.asynccontextmanager
async def _leased(keeper: LeaseKeeper) -> AsyncIterator[None]:
    """Hold the worker's lease."""
    await keeper.start()
    running = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        await end_tasks(running)
        try:
            await asyncio.wait_for(keeper.leave(), LEAVE_SECONDS)
        except (BaseORMException, OSError) as error:
            logger.warning("cannot end the lease; it expires", action="stop", reason=str(error) or "no answer in time")


@contextlib.asynccontextmanager
async def _claiming(claimer: Claimer) -> AsyncIterator[None]:
    """Run the claimer; what it has claimed is started before it ends."""
    running = asyncio.create_task(claimer.run())
    try:
        yield
    finally:
        claimer.stop()
        await asyncio.wait([running], timeout=CLAIM_SECONDS)
        await end_tasks(running)


@contextlib.asynccontextmanager
async def _listening(broker_url: str, claimer: Claimer) -> AsyncIterator[None]:
    """Consume the message that events are due, and send it after commits of this process."""
    loop = asyncio.get_running_loop()

    def announce() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(claimer.expect_message)

    broker = open_broker(broker_url, announce)
    declare_actors(broker, claimer)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=WORKER_TIMEOUT_MS)
    try:
        async with announcing(broker, broker_url):
            worker.start()
            try:
                yield
            finally:
                await asyncio.to_thread(worker.stop, THREADS_STOP_MS)
    finally:
        broker.close()


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
