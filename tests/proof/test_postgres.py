"""The started program on Postgres: one that goes and comes back, and several workers on one database."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support import postgres
from tests.support.deliveries import REQUEST_CALLBACK, TRACK_LEADS, create_webhook
from tests.support.patience import PATIENCE_SECONDS
from tests.support.postgres import Server
from tests.support.program import Program, worker
from tests.support.receiver import ALLOW_LOOPBACK, Receiver

#: How soon the program is ready, and delivers, once the database is back.
AGAIN_SECONDS = 5.0
LEASE_SECONDS = 15


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own, which it may stop."""
    with postgres.own() as started:
        yield started


def environment(server: Server) -> dict[str, str]:
    return {**ALLOW_LOOPBACK, "RINGBACK_DATABASE_URL": server.url}


def request_callback(program: Program, name: str) -> bool:
    """Whether a filled-in form was acknowledged."""
    answer = program.execute(REQUEST_CALLBACK, {"input": {"name": name, "phone": "1"}})
    return "errors" not in answer and answer["data"]["requestCallback"]["errors"] == []


def ready(program: Program) -> tuple[int, bytes]:
    status, _, body = program.request("GET", "/readyz")
    return status, body


def succeeded(server: Server) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(server.url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM ringback_event WHERE status = 'SUCCEEDED'"))
        finally:
            await connection.close()

    return asyncio.run(count())


def test_a_postgres_that_goes_and_comes_back(server: Server, tmp_path: Path) -> None:
    with Receiver(delay_seconds=(0.0, 0.3)) as receiver, Program(tmp_path, env=environment(server)) as program:
        create_webhook(program, receiver.url, retryDelaysSeconds=[0, 1, 1], timeoutSeconds=30)
        program.query(TRACK_LEADS)
        acknowledged = sum(request_callback(program, f"before {number}") for number in range(30))
        assert acknowledged == 30
        server.stop()  # while deliveries are in flight
        assert ready(program) == (503, b"not ready\n")
        # 503 if the token cannot be checked.
        status, refused = program.post(
            {"query": REQUEST_CALLBACK, "variables": {"input": {"name": "meanwhile", "phone": "1"}}}
        )
        assert status in (200, 503)
        assert refused["errors"][0]["extensions"]["code"] == "INTERNAL"
        assert refused["errors"][0]["message"].startswith(
            ("The server's database does not answer. Try again.", "The server cannot check the token now. Try again.")
        )
        assert program.request("GET", "/healthz")[0] == 200
        time.sleep(3)
        server.start()
        program.wait_until(lambda: ready(program)[0] == 200, "the program to be ready", program.allowed(AGAIN_SECONDS))
        before = len(receiver.seen)
        assert request_callback(program, "after")
        program.wait_until(lambda: len(receiver.seen) > before, "a new delivery", program.allowed(AGAIN_SECONDS))
        program.wait_until(lambda: succeeded(server) == 31, "all deliveries")
        assert dict(receiver.seen) == dict.fromkeys(receiver.seen, 1), "no process died, so nothing comes twice"
        assert len(receiver.seen) == 31


def test_several_workers_share_the_work_and_one_dies(server: Server, tmp_path: Path) -> None:
    """Nothing is delivered twice but what the dead one had in its hands; the others deliver what it had claimed."""
    env = environment(server)
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver(delay_seconds=(0.0, 0.05)))
        program = stack.enter_context(Program(tmp_path, "api", env=env))
        create_webhook(program, receiver.url, retryDelaysSeconds=[0, 0, 0])
        program.query(TRACK_LEADS)
        workers = [stack.enter_context(worker(program, env, f"worker-{number}")) for number in range(3)]
        clients = [
            threading.Thread(target=lambda n=n: [request_callback(program, f"{n}.{i}") for i in range(40)])
            for n in range(4)
        ]
        for client in clients:
            client.start()
        receiver.arrived.wait(PATIENCE_SECONDS)
        time.sleep(0.3)
        workers[0].kill()
        for client in clients:
            client.join()
        program.wait_until(
            lambda: len(receiver.answered) == 160, "all events to arrive", LEASE_SECONDS + 2 * PATIENCE_SECONDS
        )
        twice = [event for event, times in receiver.seen.items() if times > 1]
        assert len(twice) <= 60, twice
        assert all(times <= 2 for times in receiver.seen.values())
