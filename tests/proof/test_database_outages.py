"""A Postgres that ends sessions, or goes and comes back, under load: no process dies, so nothing is delivered twice.

`RINGBACK_TEST_OUTAGES=5,5,5,30,30,30` gives the seconds of each outage for a full run, with the default lease.
"""

import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.delivered import check_deliveries, fetch, wait_until_all_ended
from tests.support.deliveries import TRACK_LEADS, create_webhook
from tests.support.load import Load
from tests.support.postgres import Server
from tests.support.program import Program, worker
from tests.support.receiver import Receiver
from tests.support.workers import own_servers

pytestmark = pytest.mark.alone

#: Seconds of each outage, and of a lease. Without a setting, the second outage is more than twice the lease.
OUTAGES = [float(seconds) for seconds in os.environ.get("RINGBACK_TEST_OUTAGES", "2,7").split(",")]
LEASE_SECONDS = 15.0 if "RINGBACK_TEST_OUTAGES" in os.environ else 3.0
#: Events under terminated sessions, at least, and seconds between two terminations.
EVENTS, TERMINATE_SECONDS = int(os.environ.get("RINGBACK_TEST_TERMINATED_EVENTS", "1000")), 0.1
WEBHOOKS = 4
#: What a caller is told while the database is away, and no other error.
AWAY = re.compile("The server's database does not answer|The server cannot check the token now")
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM (
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND xact_start IS NOT NULL ORDER BY random() LIMIT 1
) session
"""


class Scene:
    """An api process and two workers on a Postgres and a Redis, with an endpoint that takes its time."""

    def __init__(self, server: Server, api: Program, receiver: Receiver) -> None:
        self.server = server
        self.api = api
        self.receiver = receiver
        self.load = Load(api, seed=1)

    def check(self) -> None:
        """Check that every event was delivered once and that no error hid that the database was away."""
        wait_until_all_ended(self.api, self.server.url)
        outcomes = check_deliveries(self.server.url, self.receiver, self.load, WEBHOOKS)
        told = [text for text in self.load.failures if AWAY.search(text)]
        hidden = [text for text in self.load.failures if text.startswith("AssertionError") and not AWAY.search(text)]
        print(f"\nattempts: {dict(outcomes)}; callers told that the database is away: {len(told)}")
        assert set(outcomes) <= {"DELIVERED", "REJECTED"}, "no worker died"
        assert hidden == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        server, env = stack.enter_context(own_servers(tmp_path, LEASE_SECONDS))
        receiver = stack.enter_context(Receiver(delay_seconds=(0.0, 0.3), refuse=0.15, refusals=2))
        api = stack.enter_context(Program(tmp_path / "api", "api", env))
        api.query(TRACK_LEADS)
        for _ in range(WEBHOOKS):
            create_webhook(
                api, receiver.url, actions=["CREATED", "UPDATED"], retryDelaysSeconds=[0, 1, 1], sendJson=True
            )
        for number in range(2):
            stack.enter_context(worker(api, env, f"worker-{number}"))
        scene = Scene(server, api, receiver)
        scene.load.start(clients=6)
        stack.callback(scene.load.stop)
        yield scene


def test_sessions_that_are_terminated_make_no_duplicates(scene: Scene) -> None:
    over = threading.Event()
    terminated = 0
    while sum(len(made) for made in (scene.load.created, scene.load.updated)) * WEBHOOKS < EVENTS:
        terminated += len(fetch(scene.server.url, _TERMINATE))
        over.wait(TERMINATE_SECONDS)
    scene.load.stop()

    scene.check()
    print(f"{terminated} sessions terminated")
    assert terminated >= 10


def test_a_database_that_goes_and_comes_back_makes_no_duplicates(scene: Scene) -> None:
    chance = random.Random(1)
    for seconds in OUTAGES:
        time.sleep(chance.uniform(2, 4))
        scene.server.stop()
        time.sleep(seconds)
        scene.server.start()
    time.sleep(2)
    scene.load.stop()

    scene.check()
