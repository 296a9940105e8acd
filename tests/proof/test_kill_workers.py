"""`kill -9`, SIGSTOP and SIGTERM of workers and API processes on Postgres, under steady load: nothing is lost or stuck.

Eight kills by default; `RINGBACK_TEST_KILLS=100` is the full run. Its report is printed at the end (pytest -s).
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.delivered import check_deliveries, fetch, wait_until_all_ended
from tests.support.deliveries import TRACK_LEADS, create_webhook
from tests.support.load import Load
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK, Receiver
from tests.support.servers import amqp_url, redis_server
from tests.support.workers import Workers, own_servers

pytestmark = pytest.mark.alone

KILLS = int(os.environ.get("RINGBACK_TEST_KILLS", "8"))
#: The least kills with RabbitMQ of a full run are a fifth of those with Redis.
KILLS_OF = {"redis": KILLS, "rabbitmq": max(KILLS // 5, 2)}
SEED = int(os.environ.get("RINGBACK_TEST_SEED", "0")) or time.time_ns() % 1_000_000
LEASE_SECONDS = 4.0
#: Seconds between two blows, at random.
PAUSE_SECONDS = (0.2, 1.0)
WEBHOOKS, WORKERS = 4, 2
_MINE = "SELECT e.id FROM ringback_event e JOIN ringback_worker w ON w.id = e.worker_id WHERE w.pid = $1"
_CLAIMED_AGAIN = """
SELECT id FROM ringback_event WHERE id = ANY($1::uuid[]) AND attempt_count = 1 AND worker_id IS NOT NULL
"""


def busy_worker(workers: Workers, url: str) -> subprocess.Popen[str] | None:
    """Return a worker that has at least three events in flight."""
    busy = (process for process in workers.processes if len(fetch(url, _MINE, process.pid)) >= 3)
    return next(busy, None)


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_nothing_is_lost_however_often_workers_die(broker: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    kills = KILLS_OF[broker]
    blows = ["kill worker"] * (kills - kills // 2) + ["kill api"] * (kills // 2)
    blows += ["freeze", "terminate"] * max(kills // 20, 1)
    chance.shuffle(blows)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.own())
        env = {
            **ALLOW_LOOPBACK,
            "RINGBACK_DATABASE_URL": server.url,
            "RINGBACK_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
            "RINGBACK_LOG_LEVEL": "WARNING",
        }
        redis = stack.enter_context(redis_server(tmp_path))
        env["RINGBACK_BROKER_URL"] = redis.url
        if broker == "rabbitmq":
            env |= {"RINGBACK_REDIS_URL": redis.url, "RINGBACK_BROKER_URL": stack.enter_context(amqp_url(tmp_path))}
        receiver = stack.enter_context(Receiver(delay_seconds=(-0.04, 0.3), refuse=0.15, refusals=2))
        api = stack.enter_context(Program(tmp_path / "api", "api", env))
        api.query(TRACK_LEADS)
        for _ in range(WEBHOOKS):
            create_webhook(
                api, receiver.url, actions=["CREATED", "UPDATED"], retryDelaysSeconds=[0, 1, 1], sendJson=True
            )
        workers = Workers(api, env, WORKERS)
        stack.callback(workers.close)
        load = Load(api, SEED)
        load.start(clients=4)
        stack.callback(load.stop)

        for blow in blows:
            time.sleep(chance.uniform(*PAUSE_SECONDS))
            process = chance.choice(workers.processes)
            if blow == "freeze":
                workers.freeze(process, LEASE_SECONDS + 2.5)
            elif blow == "kill api":
                api.kill()
                api.start()
            else:
                workers.end(process, signal.SIGKILL if blow == "kill worker" else signal.SIGTERM)
                workers.start()
        load.stop()
        wait_until_all_ended(api, server.url)

        outcomes = check_deliveries(server.url, receiver, load, WEBHOOKS)
        twice = sum(seen - receiver.refused[name] > 1 for name, seen in receiver.seen.items())
        print(f"\n{broker}: {kills} kills, seed {SEED}; attempts: {dict(outcomes)}; accepted twice: {twice}")


def test_the_events_of_a_killed_worker_are_claimed_within_a_lease_and_two_seconds(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server, env = stack.enter_context(own_servers(tmp_path, LEASE_SECONDS))
        receiver = stack.enter_context(Receiver())
        api = stack.enter_context(Program(tmp_path / "api", "api", env))
        api.query(TRACK_LEADS)
        create_webhook(
            api,
            receiver.url,
            actions=["CREATED", "UPDATED"],
            timeoutSeconds=30,
            retryDelaysSeconds=[0, 1, 1],
            sendJson=True,
        )
        workers = Workers(api, env, WORKERS)
        stack.callback(workers.close)
        time.sleep(LEASE_SECONDS + 1)  # both have renewed their leases for a whole one
        receiver.answers.clear()
        load = Load(api, SEED)
        load.start(clients=4)
        stack.callback(load.stop)
        victim = api.wait_until(lambda: busy_worker(workers, server.url), "three events of one worker")
        load.stop()
        api.wait_until(lambda: len(receiver.seen) == len(load.created) + len(load.updated), "all requests")
        names = [row["id"] for row in fetch(server.url, _MINE, victim.pid)]

        workers.end(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        api.wait_until(lambda: len(fetch(server.url, _CLAIMED_AGAIN, names)) == len(names), "the claims")
        seconds = time.monotonic() - killed_at

        receiver.answers.set()
        wait_until_all_ended(api, server.url)
        check_deliveries(server.url, receiver, load, 1)
        print(f"\nclaimed again after {seconds:.1f} s with a lease of {LEASE_SECONDS:g} s")
        assert seconds <= LEASE_SECONDS + api.allowed(2)
