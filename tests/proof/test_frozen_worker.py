"""A worker that is stopped for longer than its lease sends nothing when it continues, on Postgres and Redis."""

import contextlib
import signal
import subprocess
import time
from pathlib import Path

from ringback.models.ids import Prefix, encode
from tests.support.delivered import fetch, wait_until_all_ended
from tests.support.deliveries import REQUEST_CALLBACK, TRACK_LEADS, create_webhook
from tests.support.program import Program
from tests.support.receiver import Receiver
from tests.support.workers import Workers, own_servers

LEASE_SECONDS = 4.0
#: A body that takes long to render, so that claimed events wait in a queue of the worker.
SLOW_BODY = "{% for i in (1..1500) %}{{ item.name | upcase | size }}{% endfor %}"
QUEUED = 150
CLAIMED = "SELECT e.id FROM ringback_event e JOIN ringback_worker w ON w.id = e.worker_id WHERE w.pid = $1"
OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()
"""


def freeze_outside_transactions(process: subprocess.Popen[str], url: str) -> None:
    """Stop a worker while none of its transactions is open: the locks of one would stop the other worker too."""
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if fetch(url, OPEN_TRANSACTIONS)[0][0] == 0:
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("a transaction was open at each try")


def test_a_worker_frozen_beyond_its_lease_sends_nothing_when_it_wakes(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server, env = stack.enter_context(own_servers(tmp_path, LEASE_SECONDS))
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
        claimed = {encode(Prefix.EVENT, row["id"]) for row in fetch(server.url, CLAIMED, frozen.pid)}
        workers.start()
        api.wait_until(lambda: len(receiver.seen) == QUEUED, "the requests of the other worker")
        wait_until_all_ended(api, server.url)
        unsent = [name for name in claimed if receiver.numbers[name] == [2]]
        frozen.send_signal(signal.SIGCONT)

        # The request of one of them may have been in the making.
        withheld = "nothing sent: the lease has expired"
        api.wait_until(lambda: workers.count_lines(withheld) >= len(unsent) - 1, "the withheld requests")
        assert len(unsent) > 1
        assert all(numbers == sorted(numbers) for numbers in receiver.numbers.values()), receiver.numbers
