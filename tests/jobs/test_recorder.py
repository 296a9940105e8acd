"""The recorder: what is written when attempts end, in which order, and what is not."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tortoise.exceptions import OperationalError
from tortoise.transactions import in_transaction
from yarl import URL

from ringback.jobs import recorder as recording
from ringback.jobs.outcomes import Abandoned, Answer, Blocked, Delivered, RenderFailed
from ringback.jobs.recorder import Recorder, Result, abandoned, write
from ringback.models import clock, interventions
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode
from ringback.models.log import LogEntry
from ringback.models.statements import on_postgres
from ringback.models.states import EventStatus
from ringback.models.wakeups import Topic, wakeups
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.builders import result
from tests.support.outgoing import outgoing
from tests.support.statements import counted

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]

OK = Delivered(Answer(200, (("Content-Type", "text/plain"), ("Set-Cookie", "a=b")), b"thanks \x00\xff", False))


@pytest_asyncio.fixture
async def recorder() -> AsyncIterator[Recorder]:
    made = Recorder()
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


async def later(seconds: float = 0) -> dt.datetime:
    return await clock.now() + dt.timedelta(seconds=seconds)


# ---------------------------------------------------------------------------------------------------- what is written


async def test_a_success_leaves_attempt_state_and_log_rows() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    ended_at = await later()
    request = outgoing("POST", URL("https://hooks.example/?q=1"), (("Authorization", "Bearer s3cr3t"),), "ж".encode())
    sent = (("Host", "hooks.example"), ("Authorization", "Bearer s3cr3t"))
    started_at = ended_at - dt.timedelta(milliseconds=31)
    await write([Result(event.id, lease, OK, started_at, ended_at, 31, request, sent)])

    (attempt,) = await builders.attempts(event)
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.duration_ms) == (1, "DELIVERED", 200, 31)
    assert (attempt.started_at, attempt.webhook_id, attempt.error) == (started_at, event.webhook_id, None)
    assert attempt.request == {
        "method": "POST",
        "url": "https://hooks.example/?q=1",
        "headers": [["Host", "hooks.example"], ["Authorization", "Bearer ••••••••"]],
        "body": "ж",
    }
    assert attempt.response == {
        "headers": [["Content-Type", "text/plain"], ["Set-Cookie", "a=b"]],
        "body": "thanks ��",
        "body_truncated": False,
    }
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.finished_at) == (EventStatus.SUCCEEDED, 1, ended_at)
    assert (stored.next_attempt_at, stored.due_at, stored.lease, stored.lease_begun_at) == (None,) * 4
    first, second = await LogEntry.filter(event_id=event.id).order_by("id")
    assert (first.kind, first.message) == ("ATTEMPT_FINISHED", "Attempt 1 of 3: DELIVERED (200) in 31 ms")
    assert (second.kind, second.message) == ("EVENT_SUCCEEDED", "Succeeded after 1 attempt")
    assert {first.attempt_id, second.attempt_id} == {attempt.id}
    assert (first.webhook_id, first.model, first.at) == (event.webhook_id, "lead", ended_at)


async def test_a_refusal_schedules_the_next_attempt_from_the_end_of_this_one() -> None:
    event = await builders.event(await builders.webhook())
    ended_at = await later(-7)
    await write([result(event, await builders.begun(event), ended_at=ended_at)])
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.max_attempts) == (EventStatus.RETRYING, 1, 3)
    assert stored.next_attempt_at == stored.due_at == ended_at + dt.timedelta(seconds=240)
    assert (stored.lease, stored.lease_begun_at, stored.finished_at) == (None, None, None)
    first, second = await LogEntry.filter(event_id=event.id).order_by("id")
    assert first.message == (
        "Attempt 1 of 3: REJECTED (500) in 20 ms. The endpoint answered 500; only 200 counts as success."
    )
    assert second.kind == "RETRY_SCHEDULED"
    assert second.message.startswith("Attempt 2 of 3 due at 20")


async def test_three_refusals_fail_the_event_and_the_log_tells_it_in_order() -> None:
    event = await builders.event(await builders.webhook())
    for _ in range(3):
        event = await builders.stored(event)
        await write([result(event, await builders.begun(event), ended_at=await later())])
        await Event.filter(id=event.id, due_at__isnull=False).update(due_at=await later())
    assert [a.number for a in await builders.attempts(event)] == [1, 2, 3]
    assert (await builders.stored(event)).status is EventStatus.FAILED
    assert await builders.log_of(event) == [
        "ATTEMPT_FINISHED",
        "RETRY_SCHEDULED",
        "ATTEMPT_FINISHED",
        "RETRY_SCHEDULED",
        "ATTEMPT_FINISHED",
        "EVENT_FAILED",
    ]
    last = await LogEntry.filter(event_id=event.id).order_by("-id").first()
    assert last is not None
    assert last.message == "Failed after 3 attempts"


@pytest.mark.parametrize("outcome", [RenderFailed("The body cannot be rendered"), Blocked("127.0.0.1 is not public")])
async def test_when_nothing_was_sent_there_is_no_request(outcome: Any) -> None:
    event = await builders.event(await builders.webhook())
    await write([result(event, await builders.begun(event), outcome, ended_at=await later(), took_ms=0)])
    (attempt,) = await builders.attempts(event)
    assert (attempt.request, attempt.response, attempt.status_code) == (None, None, None)
    assert (attempt.outcome, attempt.error, attempt.duration_ms) == (outcome.name, outcome.error, 0)


async def test_a_bulk_of_results_is_written_in_one_transaction_with_a_few_statements(database: Any) -> None:
    webhooks = [await builders.webhook() for _ in range(3)]
    events = [await builders.event(webhooks[i % 3]) for i in range(60)]
    lease = await builders.begun(*events)
    now = await later()
    with counted() as statements:
        results = (result(e, lease, OK if i % 2 else builders.REFUSED, ended_at=now) for i, e in enumerate(events))
        await write([r._replace(begun=e) for r, e in zip(results, events, strict=True)])
    kinds = [s.strip().split(" ", 1)[0] for s in statements]
    # On SQLite a write is one step too, of a few statements with 64, 16 and 4 rows.
    on_sqlite = ["SELECT", "INSERT", "WITH", "INSERT"]
    assert kinds == (["SELECT", "COPY", "UPDATE", "COPY"] if on_postgres(Event._meta.db) else on_sqlite)
    assert await Attempt.all().count() == 60
    assert await Event.filter(status=EventStatus.SUCCEEDED).count() == 30
    assert await Event.filter(status=EventStatus.RETRYING).count() == 30
    assert await LogEntry.all().count() == 120


# ------------------------------------------------------------------------------------------------------- whose lease


async def test_the_result_of_a_lost_lease_is_dropped_and_the_others_are_written() -> None:
    webhook = await builders.webhook()
    mine, taken = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.begun(mine, taken)
    await Event.filter(id=taken.id).update(lease=None, lease_begun_at=None, due_at=await later(-1))
    new_owner = await builders.begun(await builders.stored(taken))
    now = await later()
    await write([result(taken, lease, OK, ended_at=now), result(mine, lease, OK, ended_at=now)])
    assert (await builders.stored(mine)).status is EventStatus.SUCCEEDED
    assert await builders.attempts(taken) == []
    assert await builders.log_of(taken) == []
    stored = await builders.stored(taken)
    assert (stored.status, stored.lease, stored.attempt_count) == (EventStatus.PENDING, new_owner, 0)


async def test_what_became_of_an_event_while_its_attempt_was_under_way_counts() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    begun = await builders.stored(event)
    await Event.filter(id=event.id).update(status=EventStatus.CANCELLED, next_attempt_at=None)
    await write([result(event, lease, builders.REFUSED, ended_at=await later())._replace(begun=begun)])
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.next_attempt_at) == (EventStatus.CANCELLED, 1, None)


async def test_of_two_results_for_one_lease_the_first_counts() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    now = await later()
    await write([abandoned(event.id, lease, now, now), result(event, lease, OK, ended_at=now)])
    await write([result(event, lease, OK, ended_at=now)])
    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"]
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_the_result_of_an_event_that_is_gone_is_dropped() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await Event.filter(id=event.id).delete()
    await write([result(event, lease, OK, ended_at=await later())])
    assert await Attempt.all().count() == 0


async def test_an_abandoned_attempt_takes_a_number_and_leaves_the_schedule() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    begun_at = (await builders.stored(event)).lease_begun_at
    assert begun_at is not None
    now = await later()
    await write([abandoned(event.id, lease, begun_at, now)])
    (attempt,) = await builders.attempts(event)
    assert (attempt.number, attempt.outcome, attempt.duration_ms) == (1, "ABANDONED", None)
    assert (attempt.started_at, attempt.error) == (begun_at, Abandoned().error)
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.attempts_before_round) == (EventStatus.RETRYING, 1, 1)
    assert (stored.abandoned_in_a_row, stored.max_attempts, stored.due_at) == (1, 4, now)


# ------------------------------------------------------------------------------------------- what happened meanwhile


@pytest.mark.parametrize("outcome", [OK, builders.REFUSED, Abandoned()])
async def test_an_event_cancelled_in_flight_keeps_its_attempt_and_stays_cancelled(outcome: Any) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    await interventions.cancel(encode(Prefix.EVENT, event.id))
    cancelled_at = (await builders.stored(event)).finished_at
    await write([result(event, lease, outcome, ended_at=await later())])
    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, outcome.name)]
    stored = await builders.stored(event)
    assert (stored.status, stored.finished_at) == (EventStatus.CANCELLED, cancelled_at)
    assert (stored.due_at, stored.lease, stored.next_attempt_at) == (None, None, None)
    assert await builders.log_of(event) == ["EVENT_CANCELLED", "ATTEMPT_FINISHED"]


@pytest.mark.parametrize("fields", [{"is_active": False}, {"deleted_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}])
async def test_no_attempt_follows_when_the_webhook_was_stopped_in_flight(fields: dict[str, Any]) -> None:
    webhook = await builders.webhook()
    refused, delivered = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.begun(refused, delivered)
    await Webhook.filter(id=webhook.id).update(**fields)
    now = await later()
    await write([result(refused, lease, ended_at=now), result(delivered, lease, OK, ended_at=now)])
    stored = await builders.stored(refused)
    assert (stored.status, stored.attempt_count, stored.due_at) == (EventStatus.CANCELLED, 1, None)
    assert (await builders.stored(delivered)).status is EventStatus.SUCCEEDED
    assert await builders.log_of(refused) == ["ATTEMPT_FINISHED", "EVENT_CANCELLED"]


@pytest.mark.on_postgres
async def test_no_attempt_follows_when_the_webhook_is_stopped_while_the_result_waits_for_its_event() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.begun(event)
    refused = result(event, lease, ended_at=await later())._replace(begun=await builders.stored(event))
    stopping, go_on = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        async with in_transaction() as db:
            await Webhook.filter(id=webhook.id).using_db(db).update(is_active=False)
            await interventions.cancel_waiting(db, webhook, "Stopped", await clock.now(db), tests=False)
            stopping.set()
            await go_on.wait()

    stopped = asyncio.create_task(stop())
    await stopping.wait()
    written = asyncio.create_task(write([refused]))
    await asyncio.sleep(0.2)
    assert not written.done()
    go_on.set()
    await asyncio.gather(stopped, written)
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.next_attempt_at) == (EventStatus.CANCELLED, 1, None)
    assert await builders.log_of(event) == ["EVENT_CANCELLED", "ATTEMPT_FINISHED"]


async def test_a_test_event_goes_on_when_its_webhook_is_inactive() -> None:
    webhook = await builders.webhook(is_active=False)
    event = await builders.event(webhook, is_test=True)
    await write([result(event, await builders.begun(event), ended_at=await later())])
    assert (await builders.stored(event)).status is EventStatus.RETRYING


async def test_the_schedule_is_the_webhooks_as_it_is_now() -> None:
    webhook = await builders.webhook()
    event = await builders.event(webhook)
    lease = await builders.begun(event)
    await Webhook.filter(id=webhook.id).update(retry_delays=[1, 2])
    ended_at = await later()
    await write([result(event, lease, ended_at=ended_at)])
    stored = await builders.stored(event)
    assert (stored.max_attempts, stored.next_attempt_at) == (2, ended_at + dt.timedelta(seconds=2))


# ------------------------------------------------------------------------------------------------------ the recorder


async def test_recording_returns_after_the_commit_and_wakes_dispatcher_and_tailers(recorder: Recorder) -> None:
    event = await builders.event(await builders.webhook())
    due, logged = wakeups.listen(Topic.DUE), wakeups.listen(Topic.LOGGED)
    await recorder.record(result(event, await builders.begun(event), OK, ended_at=await later()))
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
    assert await due.wait(1)
    assert await logged.wait(1)
    await asyncio.wait_for(recorder.drain(), 1)


async def test_a_database_that_is_away_is_waited_for(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.begun(event)
    tries = 0

    async def away_twice(results: list[Result]) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OperationalError("database is locked")
        await write(results)

    monkeypatch.setattr(recording, "write", away_twice)
    monkeypatch.setattr(recording, "FIRST_PAUSE_SECONDS", 0.01)
    await asyncio.wait_for(recorder.record(result(event, lease, OK, ended_at=await later())), 5)
    assert tries == 3
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED


async def test_a_result_that_cannot_be_written_holds_up_no_other(recorder: Recorder) -> None:
    webhook = await builders.webhook()
    good, bad = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.begun(good, bad)
    now = await later()
    unwritable = Blocked("\ud800 cannot be encoded")
    await asyncio.wait_for(
        asyncio.gather(
            recorder.record(result(bad, lease, unwritable, ended_at=now)),
            recorder.record(result(good, lease, OK, ended_at=now)),
        ),
        5,
    )
    assert (await builders.stored(good)).status is EventStatus.SUCCEEDED
    stored = await builders.stored(bad)
    assert (stored.status, stored.lease, stored.attempt_count) == (EventStatus.PENDING, lease, 0)


async def test_two_transactions_overlap_and_both_are_drained(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: list[int] = []
    go_on = asyncio.Event()

    async def slowly(results: Sequence[Result]) -> None:
        under_way.append(len(results))
        await go_on.wait()

    monkeypatch.setattr(recording, "write", slowly)
    written: list[int] = []
    event = await builders.event(await builders.webhook())
    for number in range(3):
        recorder.put(result(event, uuid4(), OK, ended_at=await later()), partial(written.append, number))
        await asyncio.sleep(5 * recording.GATHER_SECONDS)
    assert (under_way, written) == ([1, 1], [])
    drained = asyncio.create_task(recorder.drain())
    await asyncio.sleep(0.02)
    assert not drained.done()
    go_on.set()
    await asyncio.wait_for(drained, 5)
    assert sorted(written) == [0, 1, 2]
