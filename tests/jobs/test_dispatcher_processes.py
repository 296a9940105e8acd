"""The dispatcher when other processes deliver what it claims, or the broker is away."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest

from ringback.jobs import dispatcher as dispatching
from ringback.jobs import flow
from ringback.jobs.dispatcher import Dispatcher
from ringback.jobs.outcomes import Answer, Delivered
from ringback.jobs.recorder import Recorder, Result, write
from ringback.models import claims, clock
from ringback.models.event import Event
from ringback.models.states import EventStatus
from tests.support import builders
from tests.support.handed import Handed, record_all
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.every_database


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
    """Let attempts that have ended foretell others for longer than any test takes."""
    monkeypatch.setattr(flow, "HORIZON_SECONDS", 10 * PATIENCE_SECONDS)
    monkeypatch.setattr(flow, "LONG_SECONDS", 10 * PATIENCE_SECONDS)


async def claimed_in_rounds(made: Dispatcher, handed: Handed, finished: Sequence[Event]) -> int:
    """Return how many events are claimed in ten looks after these have ended."""
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
