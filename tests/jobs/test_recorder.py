"""The recorder: the rows that it writes when attempts end, and the order in which it writes them."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from tortoise.exceptions import OperationalError
from yarl import URL

from ringback.jobs import recorder as recording
from ringback.jobs.outcomes import Blocked, RenderFailed
from ringback.jobs.recorder import Recorder, Result, write
from ringback.models.event import Attempt, Event
from ringback.models.log import LogEntry
from ringback.models.statements import on_postgres
from ringback.models.states import EventStatus
from ringback.models.wakeups import Topic, wakeups
from tests.support import builders
from tests.support.builders import OK, later, result
from tests.support.eventually import eventually
from tests.support.outgoing import outgoing
from tests.support.patience import PATIENCE_SECONDS
from tests.support.statements import counted

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


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
    expected: tuple[dt.datetime, UUID, str | None] = (started_at, event.webhook_id, None)
    assert (attempt.started_at, attempt.webhook_id, attempt.error) == expected
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
        await write([r._replace(begun=builders.as_begun(e)) for r, e in zip(results, events, strict=True)])
    kinds = [s.strip().split(" ", 1)[0] for s in statements]
    insert = "COPY" if on_postgres(Event._meta.db) else "INSERT"
    assert kinds == ["SELECT", insert, "UPDATE", insert]
    assert await Attempt.all().count() == 60
    assert await Event.filter(status=EventStatus.SUCCEEDED).count() == 30
    assert await Event.filter(status=EventStatus.RETRYING).count() == 30
    assert await LogEntry.all().count() == 120


async def test_recording_returns_after_the_commit_and_wakes_dispatcher_and_tailers(recorder: Recorder) -> None:
    event = await builders.event(await builders.webhook())
    due, logged = wakeups.listen(Topic.DUE), wakeups.listen(Topic.LOGGED)
    await recorder.record(result(event, await builders.begun(event), OK, ended_at=await later()))
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
    assert await due.wait(PATIENCE_SECONDS)
    assert await logged.wait(PATIENCE_SECONDS)
    await asyncio.wait_for(recorder.drain(), PATIENCE_SECONDS)


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
    await asyncio.wait_for(recorder.record(result(event, lease, OK, ended_at=await later())), PATIENCE_SECONDS)
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
        PATIENCE_SECONDS,
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
        await eventually(lambda: len(under_way) == min(number + 1, recording.WRITERS))  # noqa: B023
    await asyncio.sleep(5 * recording.GATHER_SECONDS)
    assert (under_way, written) == ([1, 1], [])
    drained = asyncio.create_task(recorder.drain())
    await asyncio.sleep(0.02)
    assert not drained.done()
    go_on.set()
    await asyncio.wait_for(drained, PATIENCE_SECONDS)
    assert sorted(written) == [0, 1, 2]
