"""An api and a worker process that share a database and a broker elsewhere: Redis, or RabbitMQ with Redis beside it."""

import contextlib
import time
from pathlib import Path

import pytest

from tests.support.deliveries import create_inbox, create_webhook, test_fire, wait_until_ended
from tests.support.program import Program, worker
from tests.support.servers import amqp_url, redis_server


def fired(program: Program, webhook: str) -> dict[str, object]:
    return wait_until_ended(program, test_fire(program, webhook))


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_deliveries_between_processes(tmp_path: Path, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path))
        env = {"RINGBACK_BROKER_URL": redis.url}
        if kind == "rabbitmq":
            broker = stack.enter_context(amqp_url(tmp_path))
            env = {"RINGBACK_BROKER_URL": broker, "RINGBACK_REDIS_URL": redis.url}
        program = stack.enter_context(Program(tmp_path / "api", "api", env))
        stack.enter_context(worker(program, env))
        webhook = create_webhook(program, create_inbox(program))
        for _ in range(5):
            event = fired(program, webhook)
            assert event["status"] == "SUCCEEDED"


def test_a_redis_that_goes_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        env = {"RINGBACK_BROKER_URL": redis.url}
        with Program(tmp_path / "api", "api", env) as program, worker(program, env):
            webhook = create_webhook(program, create_inbox(program))
            assert fired(program, webhook)["status"] == "SUCCEEDED"
            redis.stop()
            waiting = [test_fire(program, webhook) for _ in range(3)]
            time.sleep(2)
            redis.start()
            back = time.monotonic()
            assert [wait_until_ended(program, event)["status"] for event in waiting] == ["SUCCEEDED"] * 3
            assert time.monotonic() - back < program.allowed(6), "not only when their claims are given up"
            assert fired(program, webhook)["status"] == "SUCCEEDED"
