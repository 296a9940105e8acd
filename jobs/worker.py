"""Builds a worker from its parts, starts them in order, and stops them in the reverse order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import dramatiq
import structlog
from filelock import FileLock, Timeout
from tortoise.exceptions import BaseORMException

from ringback.jobs.actors import declare_actors
from ringback.jobs.announcer import send_announcements
from ringback.jobs.broker import WORKER_TIMEOUT_MS, is_remote, open_broker
from ringback.jobs.claimer import Claimer
from ringback.jobs.deliverer import Deliverer
from ringback.jobs.http.sender import Sender
from ringback.jobs.in_flight import InFlight
from ringback.jobs.lease_keeper import LeaseKeeper
from ringback.jobs.recorder import MAX_TRANSACTIONS, Recorder
from ringback.models.background_tasks import end_tasks
from ringback.models.errors import ConfigurationError
from ringback.models.redaction import Redaction
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.settings import Settings

logger = structlog.get_logger("ringback.worker")

#: Seconds that deliveries in flight have to end when the worker stops; the rest is abandoned.
DRAIN_SECONDS = 5.0
#: Milliseconds that Dramatiq's thread has to stop; all it can hold is a message without content.
THREADS_STOP_MS = 100
#: Seconds that the last claim has to end.
CLAIM_SECONDS = 0.5
#: Seconds that the last results have to be committed.
WRITE_SECONDS = 1.5
#: Seconds that the worker has to end its lease.
LEAVE_SECONDS = 1.0


class RunningWorker:
    """A running worker. After `hurry`, its stop does not wait for deliveries in flight."""

    def __init__(self) -> None:
        self.hurried = asyncio.Event()

    def hurry(self) -> None:
        """Abandon deliveries in flight when the worker stops, instead of waiting for them."""
        self.hurried.set()


@contextlib.asynccontextmanager
async def run_worker(
    settings: Settings, *, policy: AddressPolicy, secrets: SecretBox, inboxes: InboxAddresses
) -> AsyncIterator[RunningWorker]:
    """Deliver events while the block runs, on the running loop and an open database.

    SQLite serves one worker process at a time; a second one raises ConfigurationError. On Postgres any number of
    workers share the events, and deliver those of a dead worker once its lease has expired.
    """
    worker = RunningWorker()
    async with contextlib.AsyncExitStack() as stack:
        if settings.is_embedded:
            stack.enter_context(_lock_data_directory(settings))
        sender = await stack.enter_async_context(Sender(policy))
        redaction = Redaction(settings.redact_patterns)
        transactions = MAX_TRANSACTIONS
        if settings.is_embedded:
            transactions = 1  # SQLite writes one at a time
        recorder = await stack.enter_async_context(_run_recorder(redaction, transactions))
        in_flight = InFlight()
        keeper = LeaseKeeper(recorder, in_flight, lease_seconds=settings.lease_seconds, is_alone=settings.is_embedded)
        await stack.enter_async_context(_hold_lease(keeper))
        deliverer = Deliverer(sender, recorder, in_flight, secrets, inboxes, redaction=redaction)
        stack.push_async_callback(_drain, recorder)
        stack.push_async_callback(deliverer.stop, worker.hurried, DRAIN_SECONDS)
        claimer = Claimer(
            deliverer, recorder, in_flight, keeper,
            slots=settings.worker_concurrency, max_concurrency=settings.max_concurrency_per_webhook,
            can_pass_on=is_remote(settings.broker_url),
        )  # fmt: skip
        await stack.enter_async_context(_run_claimer(claimer))
        await stack.enter_async_context(_consume_messages(settings.broker_url, claimer))
        yield worker


@contextlib.contextmanager
def _lock_data_directory(settings: Settings) -> Iterator[None]:
    lock = FileLock(f"{settings.database_path}.worker.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"Another worker is running on {settings.database_path}. End it, or use another RINGBACK_DATA_DIR."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.asynccontextmanager
async def _run_recorder(redaction: Redaction, transactions: int) -> AsyncIterator[Recorder]:
    recorder = Recorder(redaction, transactions=transactions)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        await end_tasks(task)


@contextlib.asynccontextmanager
async def _hold_lease(keeper: LeaseKeeper) -> AsyncIterator[None]:
    await keeper.start()
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        await end_tasks(task)
        try:
            await asyncio.wait_for(keeper.leave(), LEAVE_SECONDS)
        except (BaseORMException, OSError) as error:
            reason = str(error) or "no answer in time"
            logger.warning("cannot end the lease; it will expire", action="stop", reason=reason)


async def _drain(recorder: Recorder) -> None:
    """Wait until every result is committed, for at most WRITE_SECONDS."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(recorder.drain(), WRITE_SECONDS)


@contextlib.asynccontextmanager
async def _run_claimer(claimer: Claimer) -> AsyncIterator[None]:
    """Run the claimer. At the end, let it start the events it has claimed."""
    task = asyncio.create_task(claimer.run())
    try:
        yield
    finally:
        claimer.stop()
        await asyncio.wait([task], timeout=CLAIM_SECONDS)
        await end_tasks(task)


@contextlib.asynccontextmanager
async def _consume_messages(broker_url: str, claimer: Claimer) -> AsyncIterator[None]:
    """Receive the message that events are due, and send it after commits of this process."""
    loop = asyncio.get_running_loop()

    def announce() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(claimer.expect_message)

    broker = open_broker(broker_url, announce)
    declare_actors(broker, claimer)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=WORKER_TIMEOUT_MS)
    try:
        async with send_announcements(broker, broker_url):
            worker.start()
            try:
                yield
            finally:
                await asyncio.to_thread(worker.stop, THREADS_STOP_MS)
    finally:
        broker.close()
