"""Fixtures for the tests of jobs: a sender, a recorder at work, and clocks that do not run by themselves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from ringback.jobs import connections
from ringback.jobs import dispatcher as dispatching
from ringback.jobs.recorder import Recorder
from ringback.jobs.sender import Sender
from ringback.models import clock
from tests.support.deliverers import Bench
from tests.support.handed import Handed
from tests.support.http_server import NO_AUTHORITIES
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import LOOPBACK
from tests.support.stopped import StoppedClock


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender that may reach all of loopback and trusts no certificate."""
    async with Sender(LOOPBACK, tls=NO_AUTHORITIES) as opened:
        yield opened


@pytest.fixture
def _kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep idle connections for longer than any test takes."""
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 10 * PATIENCE_SECONDS)


@pytest_asyncio.fixture
async def recorder(database: object) -> AsyncIterator[Recorder]:
    """A recorder at work on the test's database."""
    made = Recorder()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


@pytest_asyncio.fixture
async def handed() -> Handed:
    """The receiver of a dispatcher's batches."""
    return Handed()


@pytest.fixture
def _no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let dispatchers sleep for longer than any test takes, unless they are woken or know of a moment."""
    monkeypatch.setattr(dispatching, "POLL_SECONDS", 10 * PATIENCE_SECONDS)
    monkeypatch.setattr(dispatching, "LOST_SECONDS", 0.0)


@pytest_asyncio.fixture
async def benches(recorder: Recorder) -> AsyncIterator[Callable[..., Bench]]:
    """A way to make deliverers, each with all that it needs; all of them are stopped in the end."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(recorder, **options))
        return made[-1]

    yield make
    for one in made:
        await one.stop(hurry=True)


@pytest_asyncio.fixture
async def bench(benches: Callable[..., Bench]) -> Bench:
    """A deliverer with all that it needs."""
    return benches()


@pytest_asyncio.fixture
async def stopped(database: object, monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    """The database's clock, which goes on only when the test says so."""
    made = StoppedClock(await clock.now())
    monkeypatch.setattr(clock, "running", made)
    return made
