"""The dispatcher: which events it claims and how it groups them (pure), and when it looks (on a real database)."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.jobs import dispatcher as dispatching
from ringback.jobs import flow
from ringback.jobs import recorder as recording
from ringback.jobs.dispatcher import BATCH_EVENTS, Dispatcher, admitted, batches, in_turn
from ringback.jobs.outcomes import Answer, Delivered
from ringback.jobs.recorder import Recorder, Result, write
from ringback.models import claims, clock, limits, statements
from ringback.models.claims import Due
from ringback.models.event import Event
from ringback.models.limits import AHEAD_SECONDS
from ringback.models.states import EventStatus
from ringback.models.wakeups import Topic, wakeups
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = pytest.mark.every_database

AT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
A, B, C = uuid4(), uuid4(), uuid4()


def due(webhook: UUID, events: int, *, suspect: bool = False) -> list[Due]:
    return [Due(uuid4(), webhook, AT, suspect) for _ in range(events)]


def owners(events: Sequence[Due]) -> list[UUID]:
    return [d.webhook_id for d in events]


# ------------------------------------------------------------------------------------------------------- batches, pure


def test_nothing_makes_no_batch() -> None:
    assert batches([]) == []


def test_small_webhooks_share_a_batch_in_the_order_of_their_webhooks() -> None:
    a, b = due(A, 2), due(B, 1)
    assert batches([a[0], b[0], a[1]]) == [[a[0], a[1], b[0]]]


def test_a_busy_webhook_travels_by_itself() -> None:
    busy, small = due(A, BATCH_EVENTS // 2), due(B, BATCH_EVENTS // 4 - 1)
    assert batches([*small, *busy]) == [busy, small]


def test_no_batch_is_larger_than_its_limit_and_nothing_is_lost() -> None:
    events = due(A, 2 * BATCH_EVENTS) + [d for _ in range(BATCH_EVENTS + 50) for d in due(uuid4(), 1)]
    made = batches(events)
    assert [len(batch) for batch in made] == [BATCH_EVENTS, BATCH_EVENTS, BATCH_EVENTS, 50]
    assert {d.event_id for batch in made for d in batch} == {d.event_id for d in events}
    assert sum(map(len, made)) == len(events)


# -------------------------------------------------------------------------------------------------------- places, pure


def test_alone_a_webhook_gets_half_of_the_places() -> None:
    assert len(admitted(due(A, 100), {}, 100, 100)) == 50


def test_a_second_one_still_finds_room_when_the_first_took_all_it_could() -> None:
    found = admitted(due(A, 100) + due(B, 100), {}, 100, 100)
    assert owners(found) == [A] * 50 + [B] * 25
    assert owners(admitted(due(C, 3), {A: 50, B: 25}, 25, 25)) == [C] * 3


def test_what_is_under_way_counts() -> None:
    assert admitted(due(A, 5), {A: 50}, 50, 50) == []
    assert len(admitted(due(A, 5), {A: 46}, 50, 50)) == 2
    assert admitted(due(A, 5), {}, 0, 0) == []


def test_the_earliest_come_first() -> None:
    events = due(A, 10)
    assert admitted(events, {}, 6, 6) == events[:3]


def test_of_suspects_only_one_is_admitted() -> None:
    suspects, plain = due(A, 3, suspect=True), due(A, 2)
    assert admitted([suspects[0], plain[0], suspects[1], plain[1], suspects[2]], {}, 100, 100) == [suspects[0], *plain]


def test_retries_get_no_more_than_their_share() -> None:
    retries = [Due(uuid4(), A, AT, retry=True) for _ in range(5)]
    firsts = due(B, 3)
    assert admitted([*retries, *firsts], {}, 100, 2) == [*retries[:2], *firsts]
    assert admitted([*retries, *firsts], {}, 100, 0) == firsts


# --------------------------------------------------------------------------------------------------------- turns, pure


def test_first_attempts_and_retries_take_turns() -> None:
    firsts, retries = due(A, 2), due(B, 4)
    one, two, three, four = retries
    assert in_turn(firsts, retries, retries_first=False) == [firsts[0], one, firsts[1], two, three, four]
    assert in_turn(firsts, retries, retries_first=True) == [one, firsts[0], two, firsts[1], three, four]
    assert in_turn(firsts, [], retries_first=True) == firsts
    assert in_turn([], [], retries_first=False) == []


# ------------------------------------------------------------------------------------------------------------ the loop


class Handed:
    """Where the dispatcher's batches go."""

    def __init__(self) -> None:
        self.batches: list[tuple[UUID, list[UUID]]] = []
        self._more = asyncio.Event()

    async def __call__(self, batches: Sequence[tuple[UUID, Sequence[UUID]]]) -> None:
        self.batches += [(lease, list(event_ids)) for lease, event_ids in batches]
        self._more.set()

    @property
    def events(self) -> list[UUID]:
        return [event_id for _, batch in self.batches for event_id in batch]

    async def wait_for(self, events: int) -> None:
        async with asyncio.timeout(10):
            while len(self.events) < events:
                self._more.clear()
                await self._more.wait()


@pytest_asyncio.fixture
async def recorder(database: object) -> AsyncIterator[Recorder]:
    made = Recorder()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


@pytest_asyncio.fixture
async def handed() -> Handed:
    return Handed()


@pytest_asyncio.fixture
async def dispatcher(handed: Handed, recorder: Recorder) -> AsyncIterator[Dispatcher]:
    """A dispatcher that has found nothing yet and sleeps."""
    made = Dispatcher(handed, recorder, places=8)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0.05)
    yield made
    running.cancel()


@pytest.fixture
def _no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "POLL_SECONDS", 60.0)
    monkeypatch.setattr(dispatching, "LOST_SECONDS", 0.0)


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_a_wake_up_is_followed_at_once(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert handed.events == [event.id]
    assert (await builders.stored(event)).lease == handed.batches[0][0]


@pytest.mark.usefixtures("dispatcher")
async def test_without_a_wake_up_an_event_is_found_within_a_second(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    started = await clock.now()
    await handed.wait_for(1)
    assert handed.events == [event.id]
    assert (await clock.now() - started).total_seconds() < 1.5


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_it_looks_again_shortly_before_the_next_moment(handed: Handed) -> None:
    event = await builders.event(await builders.webhook(), due_in=1.0)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert event.next_attempt_at is not None
    left = (event.next_attempt_at - await clock.now()).total_seconds()
    assert AHEAD_SECONDS - 0.3 < left <= AHEAD_SECONDS


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_a_later_event_is_left_in_the_database(handed: Handed) -> None:
    later = await builders.event(await builders.webhook(), due_in=300)
    now = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert handed.events == [now.id]
    assert (await builders.stored(later)).lease is None


@pytest.mark.usefixtures("_no_poll")
async def test_a_webhook_that_finishes_nothing_leaves_room_for_others(dispatcher: Dispatcher, handed: Handed) -> None:
    hanging, healthy = await builders.webhook(), await builders.webhook()
    first = [await builders.event(hanging, due_in=-10) for _ in range(20)]
    wakeups.notify(Topic.DUE)
    await handed.wait_for(4)
    event = await builders.event(healthy)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(5)
    assert handed.events == [*[e.id for e in first[:4]], event.id]
    dispatcher.finished(first[0].id)
    dispatcher.finished(event.id)
    await handed.wait_for(6)
    assert handed.events[5] == first[4].id


@pytest.mark.usefixtures("_no_poll")
async def test_while_all_is_held_it_sleeps(
    dispatcher: Dispatcher, handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await builders.webhook()
    for _ in range(20):
        await builders.event(webhook, due_in=-10)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(4)
    await asyncio.sleep(0.05)
    rounds = 0
    whole = dispatcher._round

    async def counted() -> float:
        nonlocal rounds
        rounds += 1
        return await whole()

    monkeypatch.setattr(dispatcher, "_round", counted)
    await asyncio.sleep(0.3)
    assert rounds <= 1
    assert len(handed.events) == 4


@pytest.mark.usefixtures("_no_poll")
async def test_suspects_are_handed_on_one_by_one(dispatcher: Dispatcher, handed: Handed) -> None:
    webhook = await builders.webhook()
    suspects = [await builders.event(webhook, due_in=-i, abandoned_in_a_row=2) for i in (3, 2, 1)]
    plain = await builders.event(webhook)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(2)
    assert set(handed.events) == {suspects[0].id, plain.id}
    for number, event in enumerate(suspects[:2]):
        dispatcher.finished(event.id)
        await handed.wait_for(3 + number)
        assert handed.events[-1] == suspects[number + 1].id


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_what_a_dead_worker_left_is_recorded_as_abandoned_and_handed_on(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    dead = await builders.begun(event)
    await Event.filter(id=event.id).update(due_at=await clock.now())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "ABANDONED")]
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count) == (EventStatus.RETRYING, 1)
    assert stored.lease == handed.batches[0][0] != dead
    await write([builders.result(event, dead, Delivered(Answer(200)), ended_at=await clock.now())])
    assert (await builders.stored(event)).status is EventStatus.RETRYING


@pytest.mark.usefixtures("_no_poll", "dispatcher")
async def test_a_message_that_was_lost_is_sent_again(handed: Handed) -> None:
    event = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(1)
    await Event.filter(id=event.id).update(due_at=await clock.now())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(2)
    assert handed.events == [event.id, event.id]
    assert handed.batches[0][0] != handed.batches[1][0]
    assert await builders.attempts(event) == []


@pytest.mark.usefixtures("recorder")
async def test_a_failing_database_is_waited_for(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "PAUSE_SECONDS", 0.01)
    made = Dispatcher(handed, recorder)
    whole, failures = made._round, [OSError("disk"), KeyError("anything")]

    async def failing() -> float:
        if failures:
            raise failures.pop()
        return await whole()

    monkeypatch.setattr(made, "_round", failing)
    event = await builders.event(await builders.webhook())
    running = asyncio.create_task(made.run())
    await handed.wait_for(1)
    running.cancel()
    assert handed.events == [event.id]


# ------------------------------------------------------------------------------- when other processes deliver them too


async def test_a_broker_that_is_away_has_its_batches_due_again_at_once(recorder: Recorder) -> None:
    event = await builders.event(await builders.webhook())

    async def away(batches: Sequence[tuple[UUID, Sequence[UUID]]]) -> None:
        raise ConnectionError("the broker is away")

    made = Dispatcher(away, recorder)
    with pytest.raises(ConnectionError):
        await made._round()
    stored = await builders.stored(event)
    assert (stored.lease, stored.due_at) == (None, stored.next_attempt_at)
    handed = Handed()
    made._enqueue = handed
    await made._round()
    assert handed.events == [event.id]


async def test_what_was_begun_before_the_broker_went_away_goes_on(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "BATCH_EVENTS", 2)
    events = [await builders.event(await builders.webhook()) for _ in range(4)]

    async def halfway(batches: Sequence[tuple[UUID, Sequence[UUID]]]) -> None:
        (lease, ids), *_ = batches
        assert await builders.begin(lease, ids) == set(ids)
        handed.batches.append((lease, list(ids)))
        raise ConnectionError("the broker is away")

    made = Dispatcher(halfway, recorder)
    with pytest.raises(ConnectionError):
        await made._round()
    ((lease, begun),) = handed.batches
    stored = {e.id: await builders.stored(e) for e in events}
    assert {key for key, event in stored.items() if event.lease == lease} == set(begun)
    assert {key for key, event in stored.items() if event.lease is None} == stored.keys() - set(begun)
    await record_all(handed, begun)
    assert (await builders.stored(events[0])).status is EventStatus.SUCCEEDED


async def test_places_that_others_have_freed_are_found_out(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "ASK_SECONDS", 0.0)
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(4)]
    made = Dispatcher(handed, recorder, places=4, alone=False)
    await made._round()
    assert handed.events == [e.id for e in events[:2]], "one webhook alone gets half of the places"
    assert await made._round() < 0.1, "it is asked again soon"
    assert len(handed.events) == 2
    # Another process delivers them, and says nothing here.
    lease = handed.batches[0][0]
    now = await clock.now()
    delivered = Delivered(Answer(200, (), b""))
    await write([Result(e.id, lease, delivered, started_at=now, ended_at=now, duration_ms=1) for e in events[:2]])
    await made._round()
    assert handed.events == [e.id for e in events]


@pytest.fixture
def _flowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended tells of what will for as long as a test takes."""
    monkeypatch.setattr(flow, "HORIZON_SECONDS", 60.0)
    monkeypatch.setattr(flow, "LONG_SECONDS", 60.0)


async def claimed_in_rounds(made: Dispatcher, handed: Handed, finished: Sequence[Event]) -> int:
    """How much is claimed when these have ended, until it is enough."""
    before = len(handed.events)
    for event in finished:
        made.finished(event.id)
    for _ in range(10):
        await made._round()
    return len(handed.events) - before


@pytest.mark.usefixtures("_flowing")
async def test_places_are_claimed_for_that_will_soon_be_free(handed: Handed, recorder: Recorder) -> None:
    made = Dispatcher(handed, recorder, places=8, alone=False, is_here=lambda event_id: True)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=number - 60) for number in range(40)]
    assert await claimed_in_rounds(made, handed, []) == 4, "one webhook alone gets half of the places"
    assert await claimed_in_rounds(made, handed, events[:2]) == 4, "two that are free, and two that soon will be"
    assert await claimed_in_rounds(made, handed, events[2:6]) == 7
    assert await claimed_in_rounds(made, handed, events[6:14]) == 12 - 1, "in all half as many again as places"
    assert handed.events == [e.id for e in events[:26]]


@pytest.mark.usefixtures("_flowing")
async def test_alone_nothing_is_claimed_ahead(handed: Handed, recorder: Recorder) -> None:
    made = Dispatcher(handed, recorder, places=8)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=number - 60) for number in range(20)]
    assert await claimed_in_rounds(made, handed, []) == 4
    assert await claimed_in_rounds(made, handed, events[:4]) == 4


@pytest.mark.usefixtures("_flowing")
async def test_no_retries_are_claimed_ahead_of_their_share(handed: Handed, recorder: Recorder) -> None:
    made = Dispatcher(handed, recorder, places=8, alone=False, is_here=lambda event_id: True)
    for _ in range(20):
        await builders.event(await builders.webhook(), status=EventStatus.RETRYING, attempt_count=1)
    assert await claimed_in_rounds(made, handed, []) == 6
    ended = [await Event.get(id=event_id) for event_id in handed.events[:3]]
    assert await claimed_in_rounds(made, handed, ended) == 3


@pytest.mark.usefixtures("database")
async def test_it_asks_nothing_about_what_is_here(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "ASK_SECONDS", 0.0)
    asked: list[UUID] = []
    still_leased = claims.still_leased

    async def noting(leases: Mapping[UUID, UUID]) -> set[UUID]:
        asked.extend(leases)
        return await still_leased(leases)

    monkeypatch.setattr(claims, "still_leased", noting)
    here, elsewhere = [await builders.event(await builders.webhook()) for _ in range(2)]
    made = Dispatcher(handed, recorder, alone=False, is_here=lambda event_id: event_id == here.id)
    for _ in range(3):
        await made._round()
    assert set(handed.events) == {here.id, elsewhere.id}
    assert asked == [elsewhere.id] * 2


@pytest.mark.usefixtures("database")
async def test_alone_it_asks_nothing(handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(*_: object) -> set[UUID]:
        raise AssertionError("asked")

    monkeypatch.setattr(claims, "still_leased", asked)
    await builders.event(await builders.webhook())
    made = Dispatcher(handed, recorder)
    for _ in range(2):
        await made._round()
    assert len(handed.events) == 1


# ------------------------------------------------------------------------------------------------- limits of a webhook


async def record_all(handed: Handed, event_ids: Sequence[UUID]) -> None:
    """Deliver these, wherever that was, and record it."""
    leases = {event_id: lease for lease, batch in handed.batches for event_id in batch}
    now = await clock.now()
    delivered = Delivered(Answer(200, (), b""))
    await write([Result(e, leases[e], delivered, started_at=now, ended_at=now, duration_ms=1) for e in event_ids])


@pytest.mark.usefixtures("_no_poll")
async def test_what_is_recorded_frees_room_under_the_bound(handed: Handed, recorder: Recorder) -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    events = [await builders.event(webhook, due_in=n / 100 - 10) for n in range(5)]
    running = asyncio.create_task(Dispatcher(handed, recorder, bound=2).run())
    await handed.wait_for(2)
    assert handed.events == [e.id for e in events[:2]]
    one = await builders.event(other)
    wakeups.notify(Topic.DUE)
    await handed.wait_for(3)
    assert handed.events[2:] == [one.id], "a webhook at its bound holds up nobody else"
    await record_all(handed, handed.events[:1])
    await handed.wait_for(4)
    await asyncio.sleep(0.05)
    assert handed.events[3:] == [events[2].id]
    running.cancel()


@pytest.mark.usefixtures("database")
async def test_who_is_told_that_an_attempt_ended_need_not_read_the_limits(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = limits.read

    async def within_a_claim(
        webhook_ids: Collection[UUID], bound: int, ended: Mapping[UUID, UUID], db: BaseDBAsyncClient | None = None
    ) -> dict[UUID, limits.Limits]:
        assert db is not None
        return await read(webhook_ids, bound, ended, db)

    monkeypatch.setattr(limits, "read", within_a_claim)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=n / 100 - 10) for n in range(3)]
    made = Dispatcher(handed, recorder, bound=1)
    for _ in range(2):
        await made._round()
    assert handed.events == [events[0].id]
    await record_all(handed, handed.events[:1])
    await made._round()
    assert len(handed.events) == 1, "nobody told it"
    made.recorded(webhook.id)
    await made._round()
    assert len(handed.events) == 2
    await record_all(handed, handed.events[1:2])
    made.finished(handed.events[1])
    await made._round()
    assert handed.events == [e.id for e in events]


@pytest.mark.usefixtures("database")
async def test_what_has_ended_here_frees_room_before_it_is_on_record(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def held_up(results: Sequence[Result]) -> None:
        await never.wait()

    monkeypatch.setattr(recording, "write", held_up)
    webhook = await builders.webhook()
    events = [await builders.event(webhook, due_in=n / 100 - 10) for n in range(3)]
    made = Dispatcher(handed, recorder, bound=1)
    await made._round()
    ((lease, (first,)),) = handed.batches
    now = await clock.now()
    delivered = Delivered(Answer(200, (), b""))
    recorder.put(Result(first, lease, delivered, started_at=now, ended_at=now, duration_ms=1), lambda: None)
    made.finished(first)
    for _ in range(2):
        await made._round()
    assert handed.events == [e.id for e in events[:2]]


@pytest.mark.usefixtures("_no_poll")
async def test_under_a_flood_of_retries_first_attempts_go_out_as_soon_as_there_is_room(
    handed: Handed, recorder: Recorder
) -> None:
    flooded, other = await builders.webhook(), await builders.webhook()
    retry = {"status": EventStatus.RETRYING, "attempt_count": 1}
    retries = [(await builders.event(flooded, due_in=n / 100 - 60, **retry)).id for n in range(20)]
    running = asyncio.create_task(Dispatcher(handed, recorder, bound=4).run())
    await handed.wait_for(4)
    first, of_other = (await builders.event(flooded)).id, (await builders.event(other)).id
    wakeups.notify(Topic.DUE)
    await handed.wait_for(5)
    assert handed.events == [*retries[:4], of_other]
    await record_all(handed, retries[:2])
    await handed.wait_for(7)
    assert set(handed.events[5:]) == {first, retries[4]}
    running.cancel()


@pytest.mark.usefixtures("_no_poll")
async def test_retries_leave_a_quarter_of_the_places(handed: Handed, recorder: Recorder) -> None:
    retry = {"status": EventStatus.RETRYING, "attempt_count": 1}
    for n in range(12):
        await builders.event(await builders.webhook(), due_in=n / 100 - 60, **retry)
    running = asyncio.create_task(Dispatcher(handed, recorder, places=8).run())
    await handed.wait_for(6)
    event = await builders.event(await builders.webhook())
    wakeups.notify(Topic.DUE)
    await handed.wait_for(7)
    await asyncio.sleep(0.05)
    assert handed.events[6:] == [event.id]
    running.cancel()


async def test_while_limits_hold_all_it_sleeps_and_looks_when_the_rate_has_half_of_its_look_ahead_free(
    handed: Handed, recorder: Recorder
) -> None:
    webhook = await builders.webhook(rate_limit_per_second=10)
    for _ in range(20):
        await builders.event(webhook, due_in=-60)
    made = Dispatcher(handed, recorder)
    assert await made._round() == 0
    assert len(handed.events) == 6, "one now, and five within the half second that it looks ahead"
    wait = await made._round()
    assert 0.01 <= wait <= 0.35
    assert len(handed.events) == 6
    await asyncio.sleep(wait)
    assert await made._round() == 0
    assert len(handed.events) >= 8


@pytest.mark.on_postgres
async def test_a_webhook_that_another_process_claims_for_is_looked_at_again_soon(
    handed: Handed, recorder: Recorder
) -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    made = Dispatcher(handed, recorder)
    locked, looked = asyncio.Event(), asyncio.Event()

    async def another() -> None:
        async with in_transaction() as db:
            await statements.lock(db, Webhook, id=webhook.id)
            locked.set()
            await looked.wait()

    claiming = asyncio.create_task(another())
    async with asyncio.timeout(5):
        await locked.wait()
        assert await made._round() == dispatching.CONTENTION_SECONDS
    assert handed.events == []
    looked.set()
    await claiming
    assert await made._round() == 0
    assert handed.events == [event.id]


async def test_what_others_have_under_way_is_asked_for_often(handed: Handed, recorder: Recorder) -> None:
    webhook = await builders.webhook(max_concurrency=1)
    elsewhere = await builders.event(webhook)
    await builders.begun(elsewhere)
    await builders.event(webhook)
    made = Dispatcher(handed, recorder, alone=False)
    assert await made._round() == dispatching.CONTENTION_SECONDS
    assert 0 < await made._round() < dispatching.FULL_SECONDS
    assert handed.events == []


@pytest.mark.usefixtures("_no_poll", "recorder")
async def test_backlogs_that_limits_hold_back_hide_nobody(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them fills a look, and more of them are free again than there are looks."""
    monkeypatch.setattr(dispatching, "CLAIM_EVENTS", 10)
    paced = [await builders.webhook(rate_limit_per_second=4) for _ in range(12)]
    for webhook in paced:
        for _ in range(15):
            await builders.event(webhook, due_in=-60)
    event = await builders.event(await builders.webhook())
    made = Dispatcher(handed, recorder)
    for _ in range(12):
        await made._round()
    assert event.id in handed.events


@pytest.mark.on_postgres
@pytest.mark.usefixtures("_no_poll", "recorder")
async def test_a_webhook_that_somebody_has_locked_hides_nobody(
    handed: Handed, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "CLAIM_EVENTS", 10)
    locked = await builders.webhook()
    for _ in range(15):
        await builders.event(locked, due_in=-60)
    event = await builders.event(await builders.webhook())
    made = Dispatcher(handed, recorder)
    holds, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with in_transaction() as db:
            await statements.lock(db, Webhook, id=locked.id)
            holds.set()
            await done.wait()

    holding = asyncio.create_task(hold())
    await holds.wait()
    for _ in range(3):
        await made._round()
    assert handed.events == [event.id]
    done.set()
    await holding
    for _ in range(3):
        await made._round()
    assert len(handed.events) == 16


@pytest.mark.usefixtures("_no_poll")
async def test_a_limit_that_is_lifted_is_found_out_without_a_wake_up(handed: Handed, recorder: Recorder) -> None:
    slow, bound = await builders.webhook(rate_limit_per_second=0.01), await builders.webhook(max_concurrency=1)
    for webhook in (slow, bound):
        for _ in range(3):
            await builders.event(webhook, due_in=-60)
    running = asyncio.create_task(Dispatcher(handed, recorder).run())
    await handed.wait_for(2)
    await asyncio.sleep(0.1)
    assert len(handed.events) == 2
    await Webhook.filter(id__in=[slow.id, bound.id]).update(rate_limit_per_second=None, max_concurrency=None)
    lifted = time.monotonic()
    await handed.wait_for(6)
    assert time.monotonic() - lifted < 1
    running.cancel()


@pytest.mark.usefixtures("_no_poll")
async def test_what_a_dead_worker_had_begun_frees_its_room_when_its_lease_ends(
    handed: Handed, recorder: Recorder
) -> None:
    webhook = await builders.webhook(max_concurrency=2)
    lost = [await builders.event(webhook, due_in=-60) for _ in range(2)]
    await builders.begun(*lost)
    waiting = [await builders.event(webhook, due_in=-30) for _ in range(2)]
    running = asyncio.create_task(Dispatcher(handed, recorder).run())
    await asyncio.sleep(0.1)
    assert handed.events == []
    await Event.filter(id__in=[e.id for e in lost]).update(due_at=await clock.now())
    await handed.wait_for(2)
    assert waiting[0].id in handed.events, "it and a retry of what was lost take turns"
    await asyncio.sleep(0.1)
    assert len(handed.events) == 2
    assert [a.outcome for e in lost for a in await builders.attempts(e)] == ["ABANDONED"] * 2
    running.cancel()
