"""Deliverers on a real database, with an endpoint that the test holds in its hand."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from tortoise.exceptions import OperationalError

from ringback.jobs import delivery
from ringback.jobs.broker import Take
from ringback.jobs.delivery import Deliverer
from ringback.jobs.outcomes import Answer, judge
from ringback.jobs.recorder import Recorder
from ringback.jobs.requests import OutgoingRequest
from ringback.jobs.sender import Sent
from ringback.models import beginning, claims, clock, interventions
from ringback.models.beginning import Delivery
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import Inbox
from ringback.models.inboxes import InboxAddresses
from ringback.models.secrets import SecretBox
from ringback.models.states import EventStatus, OutcomeName
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = pytest.mark.usefixtures("database")


class Endpoint:
    """Stands in for the sender. Answers 200 in 20 ms; `hold` keeps answers back until `release`."""

    def __init__(self) -> None:
        self.requests: list[OutgoingRequest] = []
        self.unguarded: list[bool] = []
        self.status = 200
        self.broken: set[str] = set()
        self.arrived = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def send(
        self, request: OutgoingRequest, *, timeout_seconds: float, accepts: Callable[[int], bool], unguarded: bool
    ) -> Sent:
        self.requests.append(request)
        self.unguarded.append(unguarded)
        self.arrived.set()
        if str(request.url) in self.broken:
            raise KeyError("a bug of our own")
        await self._open.wait()
        return Sent(judge(Answer(self.status), accepts), (*request.headers, ("Host", "hooks.example")), 20)


class Bench:
    """A deliverer with all that it needs, and what it said was finished."""

    def __init__(
        self, recorder: Recorder, lease_seconds: float = 45.0, places: int = 1_000, hand_on: Take | None = None
    ) -> None:
        self.endpoint = Endpoint()
        self.lease_seconds = lease_seconds
        self.finished: list[UUID] = []
        self.deliverer = Deliverer(
            self.endpoint,
            recorder,
            builders.BOX,
            InboxAddresses("http://127.0.0.1:8000"),
            lease_seconds=lease_seconds,
            finished=self.finished.append,
            hand_on=hand_on,
            places=places,
        )

    async def take(self, *events: Event) -> UUID:
        lease = await builders.claimed(*events, seconds=self.lease_seconds)
        await self.deliverer.take(lease, [e.id for e in events])
        return lease

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.deliverer._batches)

    async def stop(self, *, hurry: bool = False, seconds: float = 5.0) -> None:
        hurried = asyncio.Event()
        if hurry:
            hurried.set()
        async with asyncio.timeout(10):
            await self.deliverer.stop(hurried, seconds)


@pytest_asyncio.fixture
async def recorder() -> AsyncIterator[Recorder]:
    made = Recorder()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


@pytest_asyncio.fixture
async def bench(recorder: Recorder) -> AsyncIterator[Bench]:
    made = Bench(recorder)
    yield made
    await made.stop(hurry=True)


def public(event: Event) -> str:
    return encode(Prefix.EVENT, event.id)


# ------------------------------------------------------------------------------------------------------ the main path


async def test_a_batch_is_sent_and_recorded(bench: Bench) -> None:
    webhook = await builders.webhook(body_template="name={{ item.name }}")
    events = [await builders.event(webhook) for _ in range(5)]
    await bench.take(*events)
    await bench.idle()
    assert [r.body for r in bench.endpoint.requests] == ["name=Ада".encode()] * 5
    ids = [dict(r.headers)["PS-WEBHOOK_EVENT-ID"] for r in bench.endpoint.requests]
    assert sorted(ids) == sorted(public(e) for e in events)
    for event in events:
        assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
        assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]
    assert sorted(bench.finished) == sorted(e.id for e in events)


async def test_each_event_is_sent_at_its_moment_and_none_before_it(bench: Bench) -> None:
    webhook = await builders.webhook()
    late, soon = await builders.event(webhook, due_in=0.45), await builders.event(webhook, due_in=0.15)
    await bench.take(late, soon)
    assert bench.endpoint.requests == []
    await bench.idle()
    for event in (late, soon):
        (attempt,) = await builders.attempts(event)
        assert event.next_attempt_at is not None
        assert -0.006 < (attempt.started_at - event.next_attempt_at).total_seconds() < 0.2
    assert [dict(r.headers)["webhook-id"] for r in bench.endpoint.requests] == [public(soon), public(late)]


async def test_an_event_that_waits_for_its_moment_is_not_begun(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=5)
    lease = await bench.take(event)
    stored = await builders.stored(event)
    assert (stored.lease, stored.lease_begun_at) == (lease, None)


async def test_the_next_attempt_follows_the_end_of_this_one_exactly(bench: Bench) -> None:
    bench.endpoint.status = 500
    event = await builders.event(await builders.webhook())
    await bench.take(event)
    await bench.idle()
    (attempt,) = await builders.attempts(event)
    assert attempt.duration_ms == 20
    expected = attempt.started_at + dt.timedelta(milliseconds=20, seconds=240)
    assert (await builders.stored(event)).next_attempt_at == expected


async def test_a_slow_answer_holds_up_no_other_event_of_the_batch(bench: Bench) -> None:
    webhook = await builders.webhook()
    first, second = await builders.event(webhook), await builders.event(webhook, due_in=0.1)
    bench.endpoint.hold()
    await bench.take(first, second)
    async with asyncio.timeout(5):
        while len(bench.endpoint.requests) < 2:
            await asyncio.sleep(0.01)
    assert bench.finished == []
    bench.endpoint.release()
    await bench.idle()


async def test_taking_returns_while_the_attempts_are_under_way(bench: Bench) -> None:
    bench.endpoint.hold()
    event = await builders.event(await builders.webhook())
    async with asyncio.timeout(2):
        await bench.take(event)
        await bench.endpoint.arrived.wait()
    assert await builders.attempts(event) == []
    bench.endpoint.release()
    await bench.idle()


async def test_a_batch_for_which_there_is_no_room_waits(recorder: Recorder) -> None:
    full = Bench(recorder, places=2)
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(4)]
    full.endpoint.hold()
    await full.take(*events[:2])
    await full.endpoint.arrived.wait()
    waiting = asyncio.create_task(full.take(*events[2:]))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    assert len(full.endpoint.requests) == 2
    full.endpoint.release()
    await asyncio.wait_for(waiting, 10)
    await full.idle()
    assert [a.outcome for e in events for a in await builders.attempts(e)] == [OutcomeName.DELIVERED] * 4
    await full.stop()


async def test_no_more_attempts_are_under_way_than_there_are_places(recorder: Recorder) -> None:
    full = Bench(recorder, places=3)
    events = [await builders.event(await builders.webhook()) for _ in range(5)]
    full.endpoint.hold()
    await full.take(*events)
    await asyncio.sleep(0.2)
    assert len(full.endpoint.requests) == 3
    assert [(await builders.stored(e)).lease_begun_at is not None for e in events] == [True] * 3 + [False] * 2
    full.endpoint.release()
    await full.idle()
    assert len(full.endpoint.requests) == 5
    await full.stop()


async def test_a_batch_larger_than_all_room_is_taken_when_nothing_else_is(recorder: Recorder) -> None:
    small = Bench(recorder, places=1)
    events = [await builders.event(await builders.webhook()) for _ in range(3)]
    await small.take(*events)
    await small.idle()
    assert sorted(small.finished) == sorted(e.id for e in events)
    await small.stop()


async def test_a_batch_that_waits_for_room_is_handed_back_at_the_stop(recorder: Recorder) -> None:
    full = Bench(recorder, places=1)
    first, second = [await builders.event(await builders.webhook()) for _ in range(2)]
    full.endpoint.hold()
    await full.take(first)
    waiting = asyncio.create_task(full.take(second))
    await asyncio.sleep(0.05)
    await full.stop(hurry=True)
    await asyncio.wait_for(waiting, 10)
    assert (await builders.stored(second)).lease is None
    assert await builders.attempts(second) == []


async def test_what_finds_no_place_here_is_handed_on(recorder: Recorder) -> None:
    """Part of a batch, and a whole one; whoever has them delivers them by their claim."""
    other = Bench(recorder)
    full = Bench(recorder, places=1, hand_on=other.deliverer.take)
    first, second, third = [await builders.event(await builders.webhook()) for _ in range(3)]
    full.endpoint.hold()
    await full.take(first, second)
    await full.take(third)
    async with asyncio.timeout(10):
        while len(other.finished) < 2:
            await asyncio.sleep(0.01)
    await other.idle()
    assert (full.finished, sorted(other.finished)) == ([], sorted([second.id, third.id]))
    assert not full.deliverer.is_here(second.id)
    full.endpoint.release()
    await full.idle()
    assert [a.outcome for e in (first, second, third) for a in await builders.attempts(e)] == [
        OutcomeName.DELIVERED
    ] * 3
    await full.stop()
    await other.stop()


async def test_what_cannot_be_handed_on_waits(recorder: Recorder) -> None:
    tries = 0

    async def away(lease: UUID, event_ids: Sequence[UUID]) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("the broker is away")

    full = Bench(recorder, places=1, hand_on=away)
    first, second, third = [await builders.event(await builders.webhook()) for _ in range(3)]
    full.endpoint.hold()
    await full.take(first, second)
    waiting = asyncio.create_task(full.take(third))
    await asyncio.sleep(3 * delivery.HAND_ON_SECONDS)
    assert tries >= 2
    assert full.deliverer.is_here(second.id)
    assert not waiting.done()
    full.endpoint.release()
    await asyncio.wait_for(waiting, 10)
    await full.idle()
    assert sorted(full.finished) == sorted([first.id, second.id, third.id])
    await full.stop()


async def test_own_inboxes_are_sent_to_unguarded_after_rendering(bench: Bench) -> None:
    await Inbox.create(token="t0ken", responses=[], created_at=await clock.now())
    webhook = await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ 't0ken' }}")
    foreign = await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ 'other' }}")
    await bench.take(await builders.event(webhook))
    await bench.idle()
    await bench.take(await builders.event(foreign))
    await bench.idle()
    assert bench.endpoint.unguarded == [True, False]


# ------------------------------------------------------------------------------------------------------- lost claims


async def taken_back() -> None:
    """What is claimed at the moment, and not begun, is due again."""
    assert await claims.take_back(await clock.now() + dt.timedelta(seconds=claims.PICKUP_SECONDS)) > 0


async def test_a_stale_worker_sends_nothing(bench: Bench) -> None:
    event = await builders.event(await builders.webhook())
    stale = await builders.claimed(event)
    await taken_back()
    await builders.claimed(await builders.stored(event))
    await bench.deliverer.take(stale, [event.id])
    await bench.idle()
    assert bench.endpoint.requests == []
    assert bench.finished == [event.id]


async def test_a_worker_that_lost_its_claim_while_it_waited_sends_nothing(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.6)
    await bench.take(event)
    await taken_back()
    owner = await builders.claimed(await builders.stored(event))
    await bench.idle()
    assert bench.endpoint.requests == []
    assert (await builders.stored(event)).lease == owner


async def test_the_same_message_twice_is_sent_once(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.5)
    lease = await builders.claimed(event)
    await asyncio.gather(bench.deliverer.take(lease, [event.id]), bench.deliverer.take(lease, [event.id]))
    await bench.idle()
    assert len(bench.endpoint.requests) == 1


async def test_nothing_is_sent_under_a_lease_that_has_lapsed(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = beginning.begin

    async def begin_and_wait(*args: Any) -> list[Delivery]:
        begun = await begin(*args)
        await asyncio.sleep(0.5)
        return begun

    monkeypatch.setattr(beginning, "begin", begin_and_wait)
    bench = Bench(recorder, lease_seconds=0.4)
    monkeypatch.setattr(bench.deliverer, "_lease_seconds", 45.0)  # which is so not renewed
    event = await builders.event(await builders.webhook())
    await bench.take(event)
    await bench.idle()
    assert bench.endpoint.requests == []
    assert await builders.attempts(event) == []
    assert bench.finished == [event.id]
    assert [e.event_id for e in await claims.expired(await clock.now(), 10)] == [event.id]


async def test_a_lease_is_renewed_while_its_attempts_are_under_way(recorder: Recorder) -> None:
    bench = Bench(recorder, lease_seconds=0.6)
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()
    await bench.take(event)
    await bench.endpoint.arrived.wait()
    begun_at = (await builders.stored(event)).lease_begun_at
    assert begun_at is not None
    async with asyncio.timeout(5):
        while (await clock.now() - begun_at).total_seconds() < 1.3:
            await asyncio.sleep(0.05)
            assert await claims.expired(await clock.now(), 10) == []
    bench.endpoint.release()
    await bench.idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


# ------------------------------------------------------------------------------------- changes between claim and send


async def test_an_event_cancelled_while_it_waits_is_not_sent(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=0.6)
    await bench.take(event)
    await interventions.cancel(public(event))
    await bench.idle()
    assert bench.endpoint.requests == []
    stored = await builders.stored(event)
    assert (stored.status, stored.lease, stored.due_at) == (EventStatus.CANCELLED, None, None)
    assert await builders.attempts(event) == []
    assert bench.finished == [event.id]


async def test_a_redelivery_takes_a_claimed_event_over_and_it_is_sent_once(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(), due_in=1, status=EventStatus.RETRYING, attempt_count=1)
    await bench.take(event)
    await interventions.redeliver(public(event))
    await bench.take(await builders.stored(event))
    await bench.idle()
    assert len(bench.endpoint.requests) == 1
    (attempt,) = await builders.attempts(event)
    assert event.next_attempt_at is not None
    assert attempt.number == 2
    assert attempt.started_at < event.next_attempt_at - dt.timedelta(seconds=0.1)


async def test_an_attempt_uses_the_webhook_as_it_is_at_its_moment(bench: Bench) -> None:
    webhook = await builders.webhook(url="https://old.example/")
    event = await builders.event(webhook, due_in=0.6)
    await bench.take(event)
    await Webhook.filter(id=webhook.id).update(url="https://new.example/", updated_at=await clock.now())
    await bench.idle()
    assert [str(r.url) for r in bench.endpoint.requests] == ["https://new.example/"]


# ------------------------------------------------------------------------------------------------------------ failures


async def test_what_cannot_be_rendered_is_an_attempt_and_nothing_is_sent(bench: Bench) -> None:
    event = await builders.event(await builders.webhook(body_template="{{ item.fone }}"))
    await bench.take(event)
    await bench.idle()
    assert bench.endpoint.requests == []
    (attempt,) = await builders.attempts(event)
    assert (attempt.outcome, attempt.duration_ms, attempt.request) == ("RENDER_FAILED", 0, None)
    assert attempt.error is not None
    assert attempt.error.startswith("The body cannot be rendered: ")
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_a_secret_of_another_key_is_an_attempt_that_says_so(bench: Bench) -> None:
    webhook = await builders.webhook()
    sealed = SecretBox("another key").seal("whsec_x")
    await Webhook.filter(id=webhook.id).update(signing_secret=sealed, updated_at=await clock.now())
    event = await builders.event(webhook)
    await bench.take(event)
    await bench.idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["RENDER_FAILED"]


async def test_an_error_of_our_own_takes_no_other_event_along(bench: Bench) -> None:
    good, bad = (
        await builders.event(await builders.webhook()),
        await builders.event(await builders.webhook(url="https://bad.example/")),
    )
    bench.endpoint.broken.add("https://bad.example/")
    await bench.take(good, bad)
    await bench.idle()
    assert (await builders.stored(good)).status is EventStatus.SUCCEEDED
    (attempt,) = await builders.attempts(bad)
    assert attempt.outcome == "ABANDONED"
    assert attempt.error is not None
    assert "Internal error" in attempt.error
    assert "a bug of our own" not in attempt.error


# ------------------------------------------------------------------------------------------------------------ stopping


async def test_stopping_hands_back_what_waits_and_lets_what_is_under_way_end(bench: Bench) -> None:
    webhook = await builders.webhook()
    sent, waiting = await builders.event(webhook), await builders.event(webhook, due_in=5)
    bench.endpoint.hold()
    await bench.take(sent, waiting)
    await bench.endpoint.arrived.wait()
    stopping = asyncio.create_task(bench.stop())
    async with asyncio.timeout(5):
        while (await builders.stored(waiting)).lease is not None:
            await asyncio.sleep(0.01)
    assert not stopping.done()
    bench.endpoint.release()
    await stopping
    assert (await builders.stored(sent)).status is EventStatus.SUCCEEDED
    handed_back = await builders.stored(waiting)
    assert (handed_back.due_at, handed_back.attempt_count) == (waiting.next_attempt_at, 0)
    assert len(bench.endpoint.requests) == 1
    assert sorted(bench.finished) == sorted([sent.id, waiting.id])


@pytest.mark.parametrize("given", [{"hurry": True}, {"seconds": 0.1}])
async def test_what_does_not_end_in_time_is_recorded_as_abandoned(bench: Bench, given: dict[str, Any]) -> None:
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()
    await bench.take(event)
    await bench.endpoint.arrived.wait()
    await bench.stop(**given)
    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    stored = await builders.stored(event)
    assert (stored.status, stored.lease) == (EventStatus.RETRYING, None)


async def test_a_batch_that_comes_after_the_stop_is_handed_back(bench: Bench) -> None:
    await bench.stop()
    event = await builders.event(await builders.webhook())
    await bench.take(event)
    assert (await builders.stored(event)).lease is None
    assert bench.finished == [event.id]
    assert bench.endpoint.requests == []


async def test_a_database_that_fails_before_sending_costs_no_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await builders.event(await builders.webhook(url="http://127.0.0.1:8000/inbox/t0ken"))
    monkeypatch.setattr(delivery, "PAUSE_SECONDS", 0.01)

    async def away(*_: object) -> bool:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(InboxAddresses, "is_own", away)
    await bench.take(event)
    await bench.idle()
    assert bench.endpoint.requests == []
    assert await builders.attempts(event) == []
    stored = await builders.stored(event)
    assert (stored.status, stored.lease, stored.lease_begun_at) == (EventStatus.PENDING, None, None)
    assert stored.due_at == stored.next_attempt_at
    monkeypatch.undo()
    await bench.take(event)
    await bench.idle()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]
