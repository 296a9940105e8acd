"""The announcer: which commits send the message that events are due, and how many messages may wait."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from redis import Redis
from structlog.testing import capture_logs
from tortoise.transactions import in_transaction

from ringback.jobs import announcer
from ringback.jobs.actors import ACTOR, QUEUE
from ringback.jobs.announcer import announce_due_events, send_announcements
from ringback.jobs.attempt_writer import write_attempts
from ringback.jobs.broker import open_broker
from ringback.jobs.message_senders import open_sender
from ringback.models.database.notifications import Topic, notifier
from ringback.models.enums import Action
from ringback.models.ids import Prefix, encode
from ringback.models.lead import Lead
from ringback.models.services import events
from ringback.models.settings import Settings
from tests.support import builders
from tests.support.deliveries import create_webhook, test_fire
from tests.support.eventually import eventually
from tests.support.program import Program
from tests.support.servers import RedisServer, amqp_url, redis_server

#: The key of Dramatiq's list of waiting messages on Redis.
REDIS_LIST = f"ringback:{QUEUE}"


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with amqp_url(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each kind of server."""
    server = request.getfixturevalue(request.param)
    return server.url if isinstance(server, RedisServer) else str(server)


def new_broker() -> StubBroker:
    """Return a broker in memory with the queue that a worker of this process would declare."""
    broker = StubBroker(middleware=[])
    broker.declare_queue(QUEUE)
    return broker


def waiting_messages(broker: StubBroker) -> int:
    return int(broker.queues[QUEUE].qsize())


async def messages_on(url: str) -> int:
    """Return how many messages wait on a server."""
    broker = open_broker(url)
    sender = open_sender(broker, url)
    try:
        return await sender.count(QUEUE)
    finally:
        await sender.close()
        broker.close()


@pytest.mark.usefixtures("database")
async def test_a_commit_with_an_event_due_now_sends_one_message() -> None:
    broker = new_broker()
    await builders.webhook(retry_delays=[0])

    async with send_announcements(broker, ""):
        await Lead.create(name="Ада", phone="+7 900")
        await eventually(lambda: waiting_messages(broker) == 1)
        await asyncio.sleep(0.05)

    assert waiting_messages(broker) == 1
    message = dramatiq.Message.decode(broker.queues[QUEUE].get_nowait())
    assert (message.actor_name, message.args, message.kwargs) == (ACTOR, (), {})


@pytest.mark.usefixtures("database")
async def test_a_commit_with_an_event_due_later_sends_no_message() -> None:
    broker = new_broker()
    await builders.webhook(retry_delays=[5])

    async with send_announcements(broker, ""):
        await Lead.create(name="Ада", phone="+7 900")
        await asyncio.sleep(0.1)

    assert waiting_messages(broker) == 0


@pytest.mark.usefixtures("database")
async def test_a_rollback_sends_no_message() -> None:
    broker = new_broker()
    await builders.webhook(retry_delays=[0])

    async with send_announcements(broker, ""):
        with pytest.raises(ZeroDivisionError):
            async with in_transaction():
                await Lead.create(name="Ада", phone="+7 900")
                raise ZeroDivisionError
        await asyncio.sleep(0.1)

    assert waiting_messages(broker) == 0


@pytest.mark.usefixtures("database")
async def test_a_test_fire_and_a_redelivery_send_a_message_each() -> None:
    broker = new_broker()
    webhook = await builders.webhook()

    async with send_announcements(broker, ""):
        event = await events.test_fire(encode(Prefix.WEBHOOK, webhook.id), Action.CREATED, None)
        await eventually(lambda: waiting_messages(broker) == 1)
        lease = await builders.claim(event)
        await write_attempts([builders.result(event, lease, ended_at=await builders.later())])
        await events.redeliver(encode(Prefix.EVENT, event.id))
        await eventually(lambda: waiting_messages(broker) == 2)


async def test_commits_that_come_together_send_one_message() -> None:
    broker = new_broker()

    async with send_announcements(broker, ""):
        for _ in range(1_000):
            notifier.notify(Topic.DUE)
        await eventually(lambda: waiting_messages(broker) == 1)
        await asyncio.sleep(0.05)

    assert waiting_messages(broker) == 1


async def test_messages_of_a_process_are_at_least_5_ms_apart() -> None:
    broker = new_broker()
    loop = asyncio.get_running_loop()

    async with send_announcements(broker, ""):
        started = loop.time()
        while loop.time() < started + 0.3:
            notifier.notify(Topic.DUE)
            await asyncio.sleep(0)
        seconds = loop.time() - started

    assert 0 < waiting_messages(broker) <= seconds / 0.005 + 1


async def test_after_the_block_no_message_is_sent() -> None:
    broker = new_broker()
    async with send_announcements(broker, ""):
        pass

    notifier.notify(Topic.DUE)
    await asyncio.sleep(0.05)

    assert waiting_messages(broker) == 0


async def test_an_in_process_broker_sends_no_announcement() -> None:
    async with announce_due_events(""):
        notifier.notify(Topic.DUE)
        await asyncio.sleep(0.05)


async def notify_often(times: int) -> None:
    for _ in range(times):
        notifier.notify(Topic.DUE)
        await asyncio.sleep(0.002)


async def test_while_no_worker_runs_at_most_100_messages_wait(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "TOGETHER_SECONDS", 0.0)
    monkeypatch.setattr(announcer, "FULL_SECONDS", 0.001)

    async with announce_due_events(url):
        await notify_often(400)
        await asyncio.sleep(0.1)

    assert 20 <= await messages_on(url) <= 100


async def test_of_several_processes_without_workers_at_most_100_messages_wait(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "TOGETHER_SECONDS", 0.0)
    monkeypatch.setattr(announcer, "FULL_SECONDS", 0.001)

    async def announce() -> None:
        async with announce_due_events(redis.url):
            await notify_often(100)
            await asyncio.sleep(0.1)

    await asyncio.gather(*(announce() for _ in range(8)))

    assert await messages_on(redis.url) <= 100


async def test_of_short_processes_without_workers_at_most_100_messages_wait(redis: RedisServer) -> None:
    with Redis.from_url(redis.url) as client:
        for _ in range(120):
            before = client.llen(REDIS_LIST)
            async with announce_due_events(redis.url):
                notifier.notify(Topic.DUE)
                for _ in range(10):
                    await asyncio.sleep(0.005)
                    if client.llen(REDIS_LIST) > before:
                        break

        assert client.llen(REDIS_LIST) <= 100


@pytest.mark.usefixtures("database")
async def test_a_library_users_process_sends_a_message_to_workers_elsewhere(redis: RedisServer) -> None:
    await builders.webhook(retry_delays=[0])

    with Redis.from_url(redis.url) as client:
        async with announce_due_events(redis.url):
            await asyncio.sleep(0.1)
            assert client.llen(REDIS_LIST) == 0
            await Lead.create(name="Ада", phone="+7 900")
            await eventually(lambda: client.llen(REDIS_LIST) == 1)


@pytest.mark.on_postgres
async def test_the_api_program_sends_a_message_after_a_commit(
    database: Settings, redis: RedisServer, tmp_path: Path
) -> None:
    env = {"RINGBACK_DATABASE_URL": database.database_url, "RINGBACK_BROKER_URL": redis.url}

    with Redis.from_url(redis.url) as client, Program(tmp_path / "api", "api", env) as program:
        webhook_id = create_webhook(program, "https://hooks.example/")
        assert client.llen(REDIS_LIST) == 0
        test_fire(program, webhook_id, name="Ада")
        await eventually(lambda: client.llen(REDIS_LIST) == 1)


async def test_an_unavailable_broker_costs_messages_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "PAUSE_SECONDS", 0.01)
    with redis_server(tmp_path) as server:
        async with announce_due_events(server.url):
            notifier.notify(Topic.DUE)
            await asyncio.sleep(0.1)
            server.stop()
            with capture_logs() as logs:
                await notify_often(50)
            server.start()
            assert {entry["event"] for entry in logs} == {
                "cannot reach the broker of RINGBACK_BROKER_URL; polls will find due events"
            }

            with Redis.from_url(server.url) as client:
                assert client.llen(REDIS_LIST) == 0
                notifier.notify(Topic.DUE)
                await eventually(lambda: client.llen(REDIS_LIST) >= 1)
