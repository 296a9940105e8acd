"""The deliverer: attempts of claimed events at their times, failures before and while sending, and the stop."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from tortoise.exceptions import OperationalError

from ringback.jobs import deliverer, in_flight
from ringback.models.database import clock
from ringback.models.enums import EventStatus
from ringback.models.event import Event
from ringback.models.inbox import Inbox
from ringback.models.queue import workers
from ringback.models.queue.webhook_cache import WebhookCache
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.services import events as event_service
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.deliverers import Bench, public_id
from tests.support.eventually import eventually_found
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("database")

#: Seconds; longer than any test takes.
FOREVER = 10 * PATIENCE_SECONDS


async def is_released(event: Event) -> bool:
    return (await builders.stored(event)).worker_id is None


async def assert_released(event: Event) -> None:
    """Check that an event is due as before, and that no attempt of it was recorded."""
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.claimed_at) == (EventStatus.PENDING, None, None)
    assert (stored.next_attempt_at, stored.attempt_count) == (event.next_attempt_at, 0)
    assert await builders.attempts(event) == []


async def test_claimed_events_are_rendered_signed_sent_and_recorded(bench: Bench) -> None:
    webhook = await builders.webhook(body_template="name={{ item.name }}")
    events = [await builders.event(webhook) for _ in range(60)]

    await bench.start(*events)
    await bench.wait_until_idle()

    assert [request.body for request in bench.endpoint.requests] == ["name=Ада".encode()] * 60
    for request in bench.endpoint.requests:
        headers = dict(request.headers)
        assert headers["PS-WEBHOOK_EVENT-ID"] == headers["webhook-id"]
        assert headers["webhook-signature"].startswith("v1,")
    assert sorted(bench.endpoint.event_ids) == sorted(event.id for event in events)
    for event in events:
        assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
        assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]


async def test_an_attempt_starts_at_its_time_and_not_before(bench: Bench) -> None:
    webhook = await builders.webhook()
    late, soon = await builders.event(webhook, due_in=0.45), await builders.event(webhook, due_in=0.15)

    await bench.start(late, soon)
    sent_at_once = list(bench.endpoint.requests)
    await bench.wait_until_idle()

    assert sent_at_once == []
    assert bench.endpoint.event_ids == [soon.id, late.id]
    for event in (soon, late):
        (attempt,) = await builders.attempts(event)
        assert event.next_attempt_at is not None
        assert attempt.started_at - event.next_attempt_at > dt.timedelta(milliseconds=-6)


async def test_the_next_attempt_is_counted_from_the_end_of_this_one(bench: Bench) -> None:
    bench.endpoint.status = 500
    event = await builders.event(await builders.webhook())

    await bench.start(event)
    await bench.wait_until_idle()

    (attempt,) = await builders.attempts(event)
    assert attempt.duration_ms == 20
    expected = attempt.started_at + dt.timedelta(milliseconds=20, seconds=240)
    assert (await builders.stored(event)).next_attempt_at == expected


async def test_a_slow_answer_delays_no_other_event(bench: Bench) -> None:
    webhook = await builders.webhook()
    slow, quick = await builders.event(webhook), await builders.event(webhook)
    bench.endpoint.hold()

    async with asyncio.timeout(PATIENCE_SECONDS):
        await bench.start(slow, quick)
    await bench.endpoint.wait_for_requests(2)
    bench.endpoint.release(quick)
    await eventually_found(lambda: is_released(quick))

    assert await builders.attempts(slow) == []
    assert [a.outcome for a in await builders.attempts(quick)] == ["DELIVERED"]


async def test_own_inboxes_are_sent_to_without_the_address_guard(bench: Bench) -> None:
    await Inbox.create(token="t0ken", responses=[], created_at=await clock.now())
    own = await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ 't0ken' }}")
    unknown = await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ 'other' }}")

    await bench.start(await builders.event(own))
    await bench.wait_until_idle()
    await bench.start(await builders.event(unknown))
    await bench.wait_until_idle()

    assert bench.endpoint.unguarded == [True, False]


async def test_an_attempt_uses_the_webhook_as_it_is_when_claimed(bench: Bench) -> None:
    webhook = await builders.webhook(url="https://old.example/")
    first, second = await builders.event(webhook), await builders.event(webhook)

    await bench.start(first)
    await bench.wait_until_idle()
    await Webhook.filter(id=webhook.id).update(url="https://new.example/", updated_at=await clock.now())
    await bench.start(second)
    await bench.wait_until_idle()

    assert [request.template.target.text for request in bench.endpoint.requests] == [
        "https://old.example/",
        "https://new.example/",
    ]


@pytest.mark.parametrize(("duration_ms", "is_prompt"), [(20, True), (999, True), (1_000, False), (30_000, False)])
async def test_the_last_attempt_decides_whether_a_webhook_is_prompt(
    bench: Bench, duration_ms: int, is_prompt: bool
) -> None:
    webhook = await builders.webhook()
    bench.in_flight.set_prompt(webhook.id, not is_prompt)
    bench.endpoint.status = 500
    bench.endpoint.duration_ms = duration_ms

    await bench.start(await builders.event(webhook))
    await bench.wait_until_idle()

    assert (webhook.id in bench.in_flight.prompt) == is_prompt


async def test_a_webhook_to_which_nothing_was_sent_is_not_prompt(bench: Bench) -> None:
    webhook = await builders.webhook(body_template="{{ item.fone }}")
    bench.in_flight.set_prompt(webhook.id, True)

    await bench.start(await builders.event(webhook))
    await bench.wait_until_idle()

    assert webhook.id not in bench.in_flight.prompt


async def test_large_bodies_wait_for_memory_and_small_ones_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "MAX_LARGE_BYTES", 20_000)
    long = await builders.webhook(body_template="{% for i in (1..20) %}" + "x" * 1_000 + "{% endfor %}")
    large = [await builders.event(long) for _ in range(3)]
    small = await builders.event(await builders.webhook(body_template="{{ item.name }}"))
    bench.endpoint.hold()

    await bench.start(*large, small)
    await bench.endpoint.wait_for_requests(2)
    await asyncio.sleep(0.05)
    assert small.id in bench.endpoint.event_ids

    by_id = {event.id: event for event in large}
    for number in (1, 2):
        sent = [by_id[event_id] for event_id in bench.endpoint.event_ids if event_id in by_id]
        assert len(sent) == number
        bench.endpoint.release(sent[-1])
        await bench.endpoint.wait_for_requests(2 + number)
        await asyncio.sleep(0.05)
    assert set(bench.endpoint.event_ids) == {small.id, *by_id}
    bench.endpoint.release()
    await bench.wait_until_idle()

    assert {len(request.body or b"") for request in bench.endpoint.requests} == {20_000, len("Ада".encode())}
    assert bench.in_flight.room_for_bodies(is_prompt=False) == 20_000


async def test_a_stop_releases_events_that_wait_for_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "MAX_LARGE_BYTES", 20_000)
    long = await builders.webhook(body_template="{% for i in (1..20) %}" + "x" * 1_000 + "{% endfor %}")
    sent, waiting = await builders.event(long), await builders.event(long)
    bench.endpoint.hold()
    await bench.start(sent, waiting)
    await bench.endpoint.wait_for_requests(1)

    await bench.stop(hurry=True)

    await assert_released(waiting)
    assert bench.in_flight.room_for_bodies(is_prompt=False) == 20_000


async def test_a_failed_rendering_is_an_attempt_without_a_request(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(body_template="{{ item.fone }}"))

    await bench.start(event)
    await bench.wait_until_idle()

    assert bench.endpoint.requests == []
    (attempt,) = await builders.attempts(event)
    assert (attempt.outcome, attempt.duration_ms, attempt.request) == ("RENDER_FAILED", 0, None)
    assert attempt.error is not None
    assert attempt.error.startswith("The body cannot be rendered: ")
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_a_secret_sealed_with_another_key_is_an_attempt(bench: Bench) -> None:
    webhook = await builders.webhook()
    sealed = SecretBox("another key").seal("whsec_x")
    await Webhook.filter(id=webhook.id).update(signing_secret=sealed, updated_at=await clock.now())
    event = await builders.event(webhook)

    await bench.start(event)
    await bench.wait_until_idle()

    assert bench.endpoint.requests == []
    assert [a.outcome for a in await builders.attempts(event)] == ["RENDER_FAILED"]


async def test_an_internal_error_abandons_one_attempt_and_no_other(bench: Bench) -> None:
    good = await builders.event(await builders.webhook())
    bad = await builders.event(await builders.webhook(url="https://bad.example/"))
    bench.endpoint.broken.add("https://bad.example/")

    await bench.start(bad, good)
    await bench.wait_until_idle()

    assert (await builders.stored(good)).status is EventStatus.SUCCEEDED
    (attempt,) = await builders.attempts(bad)
    assert attempt.outcome == "ABANDONED"
    assert attempt.error is not None
    assert attempt.error.startswith("Internal error ")
    assert "an internal error" not in attempt.error


async def test_a_database_away_in_preparation_releases_the_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    event = await builders.event(await builders.webhook(url="http://127.0.0.1:8000/inbox/t0ken"))
    monkeypatch.setattr(deliverer, "PAUSE_SECONDS", 0.01)

    async def away(*_: object) -> bool:
        raise OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(InboxAddresses, "is_own", away)
        await bench.start(event)
        await bench.wait_until_idle()
    assert bench.endpoint.requests == []
    await assert_released(event)

    await bench.start(event)
    await bench.wait_until_idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


async def test_a_database_away_at_the_start_releases_all_events(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [await builders.event(await builders.webhook()) for _ in range(3)]

    async def away(*_: object) -> dict[UUID, Webhook]:
        raise OperationalError("the database does not answer")

    monkeypatch.setattr(WebhookCache, "of", away)
    with pytest.raises(OperationalError):
        await bench.start(*events)

    assert (len(bench.in_flight), bench.endpoint.requests) == (0, [])
    for event in events:
        await assert_released(event)


async def test_a_release_that_fails_is_reported_for_a_later_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    event = await builders.event(await builders.webhook())
    bench.keeper.lease.ends_at = 0.0

    async def away(*_: object) -> None:
        raise OperationalError("the database does not answer")

    monkeypatch.setattr(workers, "release", away)
    await bench.start(event)
    await bench.wait_until_idle()

    assert bench.in_flight.may_have_strays
    assert (await builders.stored(event)).worker_id == bench.keeper.lease.worker_id


async def test_a_lease_expired_before_the_start_sends_nothing(bench: Bench) -> None:
    event = await builders.event(await builders.webhook())
    bench.keeper.lease.ends_at = 0.0

    await bench.start(event)
    await bench.wait_until_idle()

    assert bench.endpoint.requests == []
    await assert_released(event)


async def test_a_lease_expired_while_connecting_sends_nothing(bench: Bench) -> None:
    event = await builders.event(await builders.webhook())

    def expire() -> None:
        bench.keeper.lease.ends_at = 0.0

    bench.endpoint.on_connected = expire
    await bench.start(event)
    await bench.wait_until_idle()

    assert bench.endpoint.requests == []
    await assert_released(event)


async def test_a_render_failure_under_an_expired_lease_is_no_attempt(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(body_template="{{ item.fone }}"))
    bench.keeper.lease.ends_at = 0.0

    await bench.start(event)
    await bench.wait_until_idle()

    await assert_released(event)


async def test_an_event_cancelled_before_its_start_keeps_its_end(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=FOREVER)
    await bench.start(event)

    await event_service.cancel(public_id(event))
    await bench.stop()

    assert bench.endpoint.requests == []
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.next_attempt_at) == (EventStatus.CANCELLED, None, None)
    assert await builders.attempts(event) == []


async def test_a_stop_releases_waiting_events_and_awaits_sent_requests(bench: Bench) -> None:
    webhook = await builders.webhook()
    sent, waiting = await builders.event(webhook), await builders.event(webhook, due_in=FOREVER)
    bench.endpoint.hold()
    await bench.start(sent, waiting)
    await bench.endpoint.wait_for_requests()

    stopping = asyncio.create_task(bench.stop())
    await eventually_found(lambda: is_released(waiting))
    assert not stopping.done()
    bench.endpoint.release()
    await stopping

    assert bench.endpoint.event_ids == [sent.id]
    assert (await builders.stored(sent)).status is EventStatus.SUCCEEDED
    await assert_released(waiting)
    assert len(bench.in_flight) == 0


@pytest.mark.parametrize("given", [{"hurry": True}, {"seconds": 0.1}])
async def test_attempts_still_running_after_the_stop_are_abandoned(bench: Bench, given: dict[str, Any]) -> None:
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()
    await bench.start(event)
    await bench.endpoint.wait_for_requests()

    await bench.stop(**given)

    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id) == (EventStatus.RETRYING, None)


async def test_events_that_come_after_the_stop_are_released(bench: Bench) -> None:
    await bench.stop()
    event = await builders.event(await builders.webhook(), due_in=0.04)

    await bench.start(event)
    await bench.wait_until_idle()

    assert bench.endpoint.requests == []
    await assert_released(event)


async def test_two_workers_deliver_their_own_claims_only(make_bench: Callable[..., Awaitable[Bench]]) -> None:
    first, second = await make_bench(), await make_bench()
    event = await builders.event(await builders.webhook())
    first.endpoint.hold()
    await first.start(event)
    await first.endpoint.wait_for_requests()

    await workers.release(second.keeper.lease, [event.id])

    assert (await builders.stored(event)).worker_id == first.keeper.lease.worker_id
    first.endpoint.release()
    await first.wait_until_idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]
