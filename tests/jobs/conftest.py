"""Fixtures for the tests of jobs: a sender, a running recorder, parts of a worker, and a stopped clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis

from ringback.jobs import claimer as claiming
from ringback.jobs.http import pool
from ringback.jobs.http.sender import Sender
from ringback.jobs.recorder import Recorder
from ringback.models.database import clock
from tests.support.deliverers import Bench
from tests.support.http_server import NO_AUTHORITIES
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import LOOPBACK
from tests.support.servers import RedisServer, redis_server
from tests.support.stopped import StoppedClock


@pytest.fixture(scope="module")
def redis_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_of_module: RedisServer) -> RedisServer:
    """Return an empty Redis."""
    with Redis.from_url(redis_of_module.url) as client:
        client.flushall()
    return redis_of_module


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[Sender]:
    """Return a sender that may reach all of loopback and trusts no certificate."""
    async with Sender(LOOPBACK, tls=NO_AUTHORITIES) as opened:
        yield opened


@pytest.fixture
def _long_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep idle connections for longer than any test takes."""
    monkeypatch.setattr(pool, "KEEP_ALIVE_SECONDS", 10 * PATIENCE_SECONDS)


@pytest_asyncio.fixture
async def recorder(database: object) -> AsyncIterator[Recorder]:
    """Return a running recorder on the test's database."""
    recorder = Recorder()
    running = asyncio.create_task(recorder.run())
    yield recorder
    running.cancel()


@pytest.fixture
def _no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let claimers wait for longer than any test takes, unless they are woken or an event becomes due."""
    for name in ("POLL_SECONDS", "FULL_SECONDS"):
        monkeypatch.setattr(claiming, name, 10 * PATIENCE_SECONDS)


@pytest_asyncio.fixture
async def make_bench(recorder: Recorder) -> AsyncIterator[Callable[..., Awaitable[Bench]]]:
    """Return a factory of registered workers without a broker, which are stopped after the test."""
    benches: list[Bench] = []

    async def make(**options: Any) -> Bench:
        bench = Bench(recorder, **options)
        await bench.register()
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        await bench.stop(hurry=True)


@pytest_asyncio.fixture
async def bench(make_bench: Callable[..., Awaitable[Bench]]) -> Bench:
    """Return a registered worker without a broker."""
    return await make_bench()


@pytest_asyncio.fixture
async def stopped(database: object, monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    """Return the database's clock, which moves only when the test moves it."""
    made = StoppedClock(await clock.now())
    monkeypatch.setattr(clock, "read_clock", made)
    return made
