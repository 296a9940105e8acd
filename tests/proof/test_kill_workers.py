"""`kill -9`, SIGSTOP and SIGTERM of workers and API processes on Postgres, under steady load: nothing is lost or stuck.

Eight kills by default; `RINGBACK_TEST_KILLS=100` is the full run. Its report is printed at the end (pytest -s).
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ringback.models.ids import Prefix, encode
from tests.support import postgres
from tests.support.delivered import check_deliveries, fetch, wait_until_all_ended
from tests.support.deliveries import REQUEST_CALLBACK, TRACK_LEADS, create_webhook
from tests.support.load import Load
from tests.support.program import Program, worker_environment
from tests.support.receiver import ALLOW_LOOPBACK, Receiver
from tests.support.servers import amqp_url, redis_server

pytestmark = pytest.mark.alone

KILLS = int(os.environ.get("RINGBACK_TEST_KILLS", "8"))
#: The least kills with RabbitMQ of a full run are a fifth of those with Redis.
KILLS_OF = {"redis": KILLS, "rabbitmq": max(KILLS // 5, 2)}
SEED = int(os.environ.get("RINGBACK_TEST_SEED", "0")) or time.time_ns() % 1_000_000
LEASE_SECONDS = 4.0
#: Seconds between two blows, at random.
PAUSE_SECONDS = (0.2, 1.0)
WEBHOOKS, WORKERS = 4, 2
#: A body that takes long to render, so that claimed events wait in a queue of the worker.
SLOW_BODY = "{% for i in (1..1500) %}{{ item.name | upcase | size }}{% endfor %}"
QUEUED = 150
_MINE = "SELECT e.id FROM ringback_event e JOIN ringback_worker w ON w.id = e.worker_id WHERE w.pid = $1"
_OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()
"""
_CLAIMED_AGAIN = """
SELECT id FROM ringback_event WHERE id = ANY($1::uuid[]) AND attempt_count = 1 AND worker_id IS NOT NULL
"""


class Workers:
    """Worker processes, of which each that ends is started again."""

    def __init__(self, api: Program, env: Mapping[str, str], count: int) -> None:
        self._environment = worker_environment(api, env)
        self._log_path = api.folder / "workers.log"
        self._log = self._log_path.open("a")
        self._api = api
        self.processes: list[subprocess.Popen[str]] = []
        for _ in range(count):
            self.start()

    def start(self) -> None:
        """Start one more."""
        command = [sys.executable, "-m", "ringback.graphql_api", "worker"]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert process.stdout is not None
        self.processes.append(process)
        assert "is delivering" in process.stdout.readline(), self.log()

    def end(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        """End one by a signal. SIGTERM must end it with code 0, within 10 s."""
        self.processes.remove(process)
        process.send_signal(number)
        code = process.wait(self._api.allowed(10))
        assert process.stdout is not None
        process.stdout.close()
        assert number is signal.SIGKILL or code == 0, self.log()

    def freeze(self, process: subprocess.Popen[str], seconds: float) -> None:
        """Stop one for so long."""
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the end of what they wrote to standard error."""
        return self._log_path.read_text()[-5_000:]

    def count_lines(self, text: str) -> int:
        """Return the number of log lines with this text."""
        return sum(text in line for line in self._log_path.read_text().splitlines())

    def close(self) -> None:
        """End all of them."""
        for process in list(self.processes):
            process.send_signal(signal.SIGCONT)
            self.end(process, signal.SIGTERM)
        self._log.close()


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
        server = stack.enter_context(postgres.own())
        redis = stack.enter_context(redis_server(tmp_path))
        env = {
            **ALLOW_LOOPBACK,
            "RINGBACK_DATABASE_URL": server.url,
            "RINGBACK_BROKER_URL": redis.url,
            "RINGBACK_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        }
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


def freeze_outside_transactions(process: subprocess.Popen[str], url: str) -> None:
    """Stop a worker while none of its transactions is open: the locks of one would stop the other worker too."""
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if fetch(url, _OPEN_TRANSACTIONS)[0][0] == 0:
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("a transaction was open at each try")


def test_a_worker_frozen_beyond_its_lease_sends_nothing_when_it_wakes(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.own())
        redis = stack.enter_context(redis_server(tmp_path))
        env = {
            **ALLOW_LOOPBACK,
            "RINGBACK_DATABASE_URL": server.url,
            "RINGBACK_BROKER_URL": redis.url,
            "RINGBACK_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        }
        receiver = stack.enter_context(Receiver())
        api = stack.enter_context(Program(tmp_path / "api", "api", env))
        api.query(TRACK_LEADS)
        create_webhook(api, receiver.url, retryDelaysSeconds=[0, 1, 1], bodyTemplate=SLOW_BODY)
        for number in range(QUEUED):
            api.query(REQUEST_CALLBACK, {"input": {"name": f"Lead {number}", "phone": "+79990000000"}})

        workers = Workers(api, env, 1)
        stack.callback(workers.close)
        (frozen,) = workers.processes
        api.wait_until(lambda: receiver.seen, "the first request")
        freeze_outside_transactions(frozen, server.url)
        claimed = {encode(Prefix.EVENT, row["id"]) for row in fetch(server.url, _MINE, frozen.pid)}
        workers.start()
        api.wait_until(lambda: len(receiver.seen) == QUEUED, "the requests of the other worker")
        wait_until_all_ended(api, server.url)
        unsent = [name for name in claimed if receiver.numbers[name] == [2]]
        frozen.send_signal(signal.SIGCONT)

        # One of them may have been about to be written.
        api.wait_until(lambda: workers.count_lines("nothing sent: the lease has expired") >= len(unsent) - 1, "its end")
        assert len(unsent) > 1
        assert all(numbers == sorted(numbers) for numbers in receiver.numbers.values()), receiver.numbers
