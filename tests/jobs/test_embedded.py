"""Ringback embedded in a program: opened once, delivering while its worker runs, closed without a trace."""

import asyncio
from pathlib import Path

import pytest

from ringback.jobs import Ringback
from ringback.models import Action, ConfigurationError, Event, WebhookSpec, load_settings
from ringback.models.enums import EventStatus
from ringback.models.ids import Prefix, encode
from ringback.models.lead import Lead
from ringback.models.worker import Worker
from tests.support.patience import PATIENCE_SECONDS
from tests.support.receiver import Receiver


def embedded(folder: Path) -> Ringback:
    return Ringback(load_settings(data_dir=folder, dangerous_allow_networks="127.0.0.1"))


async def create_lead_webhook(ringback: Ringback, url: str) -> str:
    spec = WebhookSpec("lead", (Action.CREATED,), url, send_json=True, retry_delays_seconds=(0,))
    webhook, _ = await ringback.webhooks.create(spec)
    return encode(Prefix.WEBHOOK, webhook.id)


async def test_a_commit_is_delivered_while_the_worker_runs(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with asyncio.timeout(PATIENCE_SECONDS), embedded(tmp_path) as ringback:
            await create_lead_webhook(ringback, receiver.url)
            worker = asyncio.create_task(ringback.run_worker())
            await Lead.create(name="Ann", phone="1")

            event = await ringback.events.wait_until_ended(await Event.get())

            assert event.status is EventStatus.SUCCEEDED
            assert [attempt.status_code for attempt in await ringback.events.attempts(event)] == [200]
            assert dict(receiver.answered) == {encode(Prefix.EVENT, event.id): 1}
        assert worker.cancelled()


async def test_an_event_is_redelivered_cancelled_and_test_fired(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with asyncio.timeout(PATIENCE_SECONDS), embedded(tmp_path) as ringback:
            webhook_id = await create_lead_webhook(ringback, receiver.url)
            waiting = await ringback.events.test_fire(webhook_id, item={"name": "Ann"})
            assert (await ringback.events.cancel(waiting)).status is EventStatus.CANCELLED
            assert (await ringback.events.redeliver(waiting)).status is EventStatus.PENDING
            worker = asyncio.create_task(ringback.run_worker())

            event = await ringback.events.wait_until_ended(encode(Prefix.EVENT, waiting.id))

            assert event.status is EventStatus.SUCCEEDED
            worker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await worker


async def test_a_second_worker_on_sqlite_is_refused(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), embedded(tmp_path) as ringback:
        worker = asyncio.create_task(ringback.run_worker())
        while not await Worker.exists():
            await asyncio.sleep(0.01)
        with pytest.raises(ConfigurationError, match=r"^Another worker is running on "):
            await ringback.run_worker()
        assert not worker.done()


async def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    async with embedded(tmp_path) as ringback:
        await create_lead_webhook(ringback, "https://hooks.example/")
    (tmp_path / "secret.key").write_text("another key, but long")

    with pytest.raises(ConfigurationError, match=r"encrypted with another key than the one in .*secret\.key\."):
        async with embedded(tmp_path):
            pass


async def test_an_unknown_event(tmp_path: Path) -> None:
    async with embedded(tmp_path) as ringback:
        assert await ringback.events.get("evt_01h455vb4pex5vsknk084sn02q") is None
        with pytest.raises(ValueError, match=r"^there is no event evt_01h455vb4pex5vsknk084sn02q$"):
            await ringback.events.wait_until_ended("evt_01h455vb4pex5vsknk084sn02q")


async def test_a_worker_that_is_already_stopping_ends_in_order(tmp_path: Path) -> None:
    with Receiver(delay_seconds=(1.0, 1.0)) as receiver:
        async with asyncio.timeout(PATIENCE_SECONDS), embedded(tmp_path) as ringback:
            await create_lead_webhook(ringback, receiver.url)
            worker = asyncio.create_task(ringback.run_worker())
            await Lead.create(name="Ann", phone="1")
            await asyncio.to_thread(receiver.arrived.wait)

            worker.cancel()
            await asyncio.sleep(0.3)
        async with embedded(tmp_path) as ringback:
            event = await Event.get()
            assert event.status is EventStatus.SUCCEEDED
            assert [attempt.status_code for attempt in await ringback.events.attempts(event)] == [200]
