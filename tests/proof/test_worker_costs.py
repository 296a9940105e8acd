"""What a worker costs on Postgres and Redis: updates of rows per event, and its CPU while it has nothing to do."""

import contextlib
import time
from pathlib import Path

from bench.load import cpu_seconds
from tests.support import postgres
from tests.support.delivered import fetch, wait_until_all_ended
from tests.support.deliveries import REQUEST_CALLBACK, TRACK_LEADS, create_webhook
from tests.support.program import Program, worker
from tests.support.receiver import ALLOW_LOOPBACK, Receiver
from tests.support.servers import redis_server

LEADS, WEBHOOKS = 50, 4
IDLE_SECONDS = 8.0
MAX_SHARE_OF_A_CORE = 0.05
UPDATES = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'ringback_event'"


def test_a_delivered_event_is_updated_twice_and_an_idle_worker_takes_little_cpu(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.own())
        redis = stack.enter_context(redis_server(tmp_path))
        env = {**ALLOW_LOOPBACK, "RINGBACK_DATABASE_URL": server.url, "RINGBACK_BROKER_URL": redis.url}
        receiver = stack.enter_context(Receiver())
        api = stack.enter_context(Program(tmp_path / "api", "api", env))
        process = stack.enter_context(worker(api, env))
        api.query(TRACK_LEADS)
        for _ in range(WEBHOOKS):
            create_webhook(api, receiver.url, retryDelaysSeconds=[0], sendJson=True)
        for number in range(LEADS):
            api.query(REQUEST_CALLBACK, {"input": {"name": f"Lead {number}", "phone": "+79990000000"}})
        wait_until_all_ended(api, server.url)

        before = cpu_seconds(process.pid)
        time.sleep(IDLE_SECONDS)
        after = cpu_seconds(process.pid)
        assert len(receiver.seen) == LEADS * WEBHOOKS
        # Postgres counts those of a session ten seconds after its last statement, or earlier.
        api.wait_until(lambda: fetch(server.url, UPDATES)[0][0] >= 2 * LEADS * WEBHOOKS, "two updates of each event")
        updates = fetch(server.url, UPDATES)[0][0]

    print(f"\n{updates} updates of {LEADS * WEBHOOKS} delivered events")
    assert updates == 2 * LEADS * WEBHOOKS
    if before is not None and after is not None:
        share = (after - before) / IDLE_SECONDS
        print(f"the idle worker used {share:.1%} of a core")
        assert share < MAX_SHARE_OF_A_CORE
