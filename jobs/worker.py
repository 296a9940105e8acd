"""Builds a worker from its parts, starts them in order, and stops them in the reverse order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError

import dramatiq
import structlog
from filelock import FileLock, Timeout
from tortoise.exceptions import BaseORMException

from ringback.jobs.actors import declare_actors
from ringback.jobs.announcer import send_announcements
from ringback.jobs.broker import WORKER_TIMEOUT_MS, open_broker
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


@contextlib.asynccontextmanager
async def run_worker(
    settings: Settings, *, policy: AddressPolicy, secrets: SecretBox, inboxes: InboxAddresses
) -> AsyncIterator[asyncio.Event]:
    """Deliver events while the block runs, on the running loop and an open database.

    The end of the block waits for deliveries in flight. Set the yielded event to abandon them instead.

    SQLite serves one worker process at a time; a second one raises ConfigurationError. On Postgres any number of
    workers share the events, and deliver those of a dead worker once its lease has expired.
    """
    hurried = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        if settings.is_embedded:
            _lock_data_directory(settings, stack)
        sender = await stack.enter_async_context(Sender(policy))
        redaction = Redaction(settings.redact_patterns)
        transactions = MAX_TRANSACTIONS
        if settings.is_embedded:
            transactions = 1  # SQLite writes one at a time
        in_flight = InFlight()
        recorder = Recorder(redaction, on_recorded=in_flight.on_recorded, transactions=transactions)
        stack.push_async_callback(end_tasks, asyncio.create_task(recorder.run()))
        keeper = LeaseKeeper(recorder, in_flight, lease_seconds=settings.lease_seconds, is_alone=settings.is_embedded)
        await keeper.start()
        stack.push_async_callback(_leave, keeper)
        stack.push_async_callback(end_tasks, asyncio.create_task(keeper.run()))
        deliverer = Deliverer(sender, recorder, in_flight, secrets, inboxes, redaction=redaction)
        stack.push_async_callback(_drain, recorder)
        stack.push_async_callback(deliverer.stop, hurried, DRAIN_SECONDS)
        claimer = Claimer(
            deliverer, recorder, in_flight, keeper,
            slots=settings.worker_concurrency, max_concurrency=settings.max_concurrency_per_webhook,
            can_pass_on=bool(settings.broker_url),
        )  # fmt: skip
        stack.push_async_callback(_stop_claimer, claimer, asyncio.create_task(claimer.run()))
        await stack.enter_async_context(_consume_messages(settings.broker_url, claimer))
        yield hurried


def _lock_data_directory(settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    try:
        stack.enter_context(FileLock(f"{settings.database_path}.worker.lock", timeout=0, mode=0o600))
    except Timeout as error:
        raise ConfigurationError(
            f"Another worker is running on {settings.database_path}. End it, or use another RINGBACK_DATA_DIR."
        ) from error


async def _leave(keeper: LeaseKeeper) -> None:
    try:
        await asyncio.wait_for(keeper.leave(), LEAVE_SECONDS)
    except (BaseORMException, OSError) as error:
        reason = str(error) or "no answer in time"
        logger.warning("cannot end the lease; it will expire", action="stop", reason=reason)


async def _drain(recorder: Recorder) -> None:
    """Wait until every result is committed, for at most WRITE_SECONDS."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(recorder.drain(), WRITE_SECONDS)


async def _stop_claimer(claimer: Claimer, task: asyncio.Task[None]) -> None:
    """Let the claimer start the events it has claimed."""
    claimer.stop()
    await asyncio.wait([task], timeout=CLAIM_SECONDS)
    await end_tasks(task)


@contextlib.asynccontextmanager
async def _consume_messages(broker_url: str, claimer: Claimer) -> AsyncIterator[None]:
    """Receive the message that events are due, and send it after commits of this process."""
    loop = asyncio.get_running_loop()

    def announce() -> None:
        with contextlib.suppress(CancelledError, RuntimeError):  # the loop is closed
            asyncio.run_coroutine_threadsafe(claimer.expect_message(), loop).result()

    broker = open_broker(broker_url, announce)
    declare_actors(broker, claimer.accept_message)
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
