"""The recorder: the rows of an attempt, batches of results, and repeated writes."""

import asyncio
import datetime as dt
import re
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError
from yarl import URL

from ringback.jobs import attempt_writer
from ringback.jobs import recorder as recording
from ringback.jobs.attempt_writer import write_attempts
from ringback.jobs.outcomes import Blocked, HttpResponse, Rejected, RenderFailed
from ringback.jobs.recorder import Recorder
from ringback.jobs.result import Result, abandon
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.sql import is_postgres
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus
from ringback.models.event import Attempt, Event
from ringback.models.queue.workers import Orphan
from ringback.models.redaction import MASK, Redaction
from ringback.models.timestamps import format_timestamp
from tests.support import builders
from tests.support.builders import OK, later, result
from tests.support.deliverers import record
from tests.support.eventually import eventually
from tests.support.outgoing import outgoing
from tests.support.patience import PATIENCE_SECONDS
from tests.support.statements import counted

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_a_success_leaves_attempt_state_and_log_rows() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    ended_at = await later()
    request = outgoing("POST", URL("https://hooks.example/?q=1"), (("Authorization", "Bearer s3cr3t"),), "ж".encode())
    started_at = ended_at - dt.timedelta(milliseconds=31)
    of_event = result(event, lease, OK, ended_at=ended_at, took_ms=31)

    await write_attempts([replace(of_event, request=request)])

    (attempt,) = await builders.attempts(event)
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.duration_ms) == (1, "DELIVERED", 200, 31)
    expected: tuple[dt.datetime, UUID, str | None] = (started_at, event.webhook_id, None)
    assert (attempt.started_at, attempt.webhook_id, attempt.error) == expected
    assert attempt.request == {
        "method": "POST",
        "url": "https://hooks.example/?q=1",
        "headers": [
            ["Host", "hooks.example"],
            ["Accept", "*/*"],
            ["Accept-Encoding", "gzip, deflate"],
            ["Authorization", "Bearer ••••••••"],
            ["Content-Length", "2"],
        ],
        "body": "ж",
    }
    assert attempt.response == {
        "headers": [["Content-Type", "text/plain"], ["Set-Cookie", "••••••••"]],
        "body": "thanks ��",
        "headers_truncated": False,
        "body_truncated": False,
    }
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.finished_at) == (EventStatus.SUCCEEDED, 1, ended_at)
    assert (stored.next_attempt_at, stored.worker_id, stored.claimed_at) == (None, None, None)
    first, second = await LogEntry.filter(event_id=event.id).order_by("id")
    assert (first.kind, first.message) == ("ATTEMPT_FINISHED", "Attempt 1 of 3: DELIVERED (200) in 31 ms")
    assert (second.kind, second.message) == ("EVENT_SUCCEEDED", "Succeeded after 1 attempt")
    assert {first.attempt_id, second.attempt_id} == {attempt.id}
    assert (first.webhook_id, first.model, first.at) == (event.webhook_id, "lead", ended_at)


async def test_a_note_of_the_request_is_stored_and_logged() -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    request = replace(outgoing("POST", URL("https://hooks.example/"), (), b"?"), note="It lacks characters.")

    await write_attempts([replace(result(event, lease, OK, ended_at=await later(), took_ms=31), request=request)])

    (attempt,) = await builders.attempts(event)
    assert attempt.request is not None
    assert attempt.request["note"] == "It lacks characters."
    assert attempt.error is None
    entry = await LogEntry.filter(event_id=event.id, kind="ATTEMPT_FINISHED").get()
    assert entry.message == "Attempt 1 of 3: DELIVERED (200) in 31 ms. It lacks characters."


async def test_a_refusal_schedules_the_next_attempt_from_the_end_of_this_one() -> None:
    event = await builders.event(await builders.webhook())
    ended_at = await later(-7)
    await write_attempts([result(event, await builders.claim(event), ended_at=ended_at)])
    stored = await builders.stored(event)
    assert (stored.status, stored.attempt_count, stored.max_attempts) == (EventStatus.RETRYING, 1, 3)
    assert stored.next_attempt_at == ended_at + dt.timedelta(seconds=240)
    assert (stored.worker_id, stored.claimed_at, stored.finished_at) == (None, None, None)
    first, second = await LogEntry.filter(event_id=event.id).order_by("id")
    assert first.message == (
        "Attempt 1 of 3: REJECTED (500) in 20 ms. The endpoint answered 500; only 200 counts as success."
    )
    assert second.kind == "RETRY_SCHEDULED"
    assert second.message.startswith("Attempt 2 of 3 due at 20")


@pytest.mark.parametrize(
    ("delay", "asked", "seconds", "note"),
    [(240, "600", 600, " (Retry-After)"), (240, "60", 240, ""), (0, "0", 0, "")],
)
async def test_the_log_says_that_retry_after_decided(delay: int, asked: str, seconds: int, note: str) -> None:
    event = await builders.event(await builders.webhook(retry_delays=[0, delay]))
    ended_at = await later()
    refused = Rejected(HttpResponse(503, (("Retry-After", asked),)), "no")

    await write_attempts([result(event, await builders.claim(event), refused, ended_at=ended_at)])

    entry = await LogEntry.get(event_id=event.id, kind="RETRY_SCHEDULED")
    due_at = format_timestamp(ended_at + dt.timedelta(seconds=seconds))
    assert entry.message == f"Attempt 2 of 2 due at {due_at}{note}"


async def test_three_refusals_fail_the_event_and_the_log_has_them_in_order() -> None:
    event = await builders.event(await builders.webhook())
    for _ in range(3):
        event = await builders.stored(event)
        await write_attempts([result(event, await builders.claim(event), ended_at=await later())])
        await Event.filter(id=event.id, next_attempt_at__isnull=False).update(next_attempt_at=await later())
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


async def test_secrets_in_an_error_are_redacted_in_the_attempt_and_in_the_log() -> None:
    event = await builders.event(await builders.webhook())
    outcome = RenderFailed("The URL 'https://x.example/?sig=s3cr3t' cannot be used.")

    await write_attempts([result(event, await builders.claim(event), outcome, ended_at=await later(), took_ms=0)])

    (attempt,) = await builders.attempts(event)
    assert attempt.error == f"The URL 'https://x.example/?sig={MASK}' cannot be used."
    entry = await LogEntry.filter(event_id=event.id, kind="ATTEMPT_FINISHED").get()
    assert entry.message == f"Attempt 1 of 3: RENDER_FAILED in 0 ms. {attempt.error}"


@pytest.mark.parametrize("outcome", [RenderFailed("The body cannot be rendered"), Blocked("127.0.0.1 is not public")])
async def test_when_nothing_was_sent_there_is_no_request(outcome: Any) -> None:
    event = await builders.event(await builders.webhook())
    await write_attempts([result(event, await builders.claim(event), outcome, ended_at=await later(), took_ms=0)])
    (attempt,) = await builders.attempts(event)
    assert (attempt.request, attempt.response, attempt.status_code) == (None, None, None)
    assert (attempt.outcome, attempt.error, attempt.duration_ms) == (outcome.name, outcome.error, 0)


async def test_many_results_are_written_by_few_statements(database: Any) -> None:
    webhooks = [await builders.webhook() for _ in range(3)]
    events = [await builders.event(webhooks[i % 3]) for i in range(60)]
    lease = await builders.claim(*events)
    now = await later()
    with counted() as statements:
        await write_attempts(
            [result(e, lease, OK if i % 2 else builders.REFUSED, ended_at=now) for i, e in enumerate(events)]
        )
    kinds = [s.strip().split(" ", 1)[0] for s in statements]
    insert = "COPY" if is_postgres(Event._meta.db) else "INSERT"
    deliveries = ["WITH", "COPY", "COPY"] if is_postgres(Event._meta.db) else []
    assert kinds == [*deliveries, "SELECT", "UPDATE", insert, insert]
    assert await Attempt.all().count() == 60
    assert await Event.filter(status=EventStatus.SUCCEEDED).count() == 30
    assert await Event.filter(status=EventStatus.RETRYING).count() == 30
    assert await LogEntry.all().count() == 120


async def test_recording_returns_after_the_commit_and_notifies_the_tailers(recorder: Recorder) -> None:
    event = await builders.event(await builders.webhook())
    due, logged = notifier.listen(Topic.DUE), notifier.listen(Topic.LOGGED)

    await record(recorder, result(event, await builders.claim(event), OK, ended_at=await later()))

    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
    assert await logged.wait(PATIENCE_SECONDS)
    assert not await due.wait(0.05), "nothing is due"
    await asyncio.wait_for(recorder.drain(), PATIENCE_SECONDS)


@pytest.mark.parametrize(("delay", "is_announced"), [(0, True), (240, False)])
async def test_a_retry_is_announced_if_it_is_due_within_a_second(
    recorder: Recorder, delay: int, is_announced: bool
) -> None:
    event = await builders.event(await builders.webhook(retry_delays=[5, delay]))
    due = notifier.listen(Topic.DUE)

    await record(recorder, result(event, await builders.claim(event), ended_at=await later()))

    assert await due.wait(PATIENCE_SECONDS if is_announced else 0.1) is is_announced


@pytest.fixture
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a failed write at once."""
    monkeypatch.setattr(recording, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(recording, "LAST_PAUSE_SECONDS", 0.001)


class FailingWrite:
    """A fake `write_attempts` that raises `error` a number of times, then writes."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.failures_left = times

    async def __call__(self, results: list[Result], redaction: Redaction) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise self.error
        await write_attempts(results, redaction)


@pytest.mark.usefixtures("_quick_pauses")
@pytest.mark.parametrize(
    "error",
    [
        OperationalError("database is locked"),
        TransactionManagementError("the transaction has ended"),
        DBConnectionError("connection refused"),
        ConnectionResetError("by the server"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_write_is_tried_until_the_database_answers(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    failing = FailingWrite(error, times=6)
    monkeypatch.setattr(recording, "write_attempts", failing)

    await asyncio.wait_for(record(recorder, result(event, lease, OK, ended_at=await later())), PATIENCE_SECONDS)

    assert failing.failures_left == 0
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


@pytest.mark.usefixtures("_quick_pauses")
@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("the connection was released"),
        ValueError("a message"),
        RuntimeError("the transport closed"),
    ],
)
async def test_an_unknown_driver_error_while_the_database_is_away_loses_nothing(
    error: Exception, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    failing = FailingWrite(error, times=6)

    async def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(recording, "write_attempts", failing)
    monkeypatch.setattr(recording, "fetch_rows", fail)
    await asyncio.wait_for(record(recorder, result(event, lease, OK, ended_at=await later())), PATIENCE_SECONDS)

    assert failing.failures_left == 0
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


@pytest.mark.usefixtures("_quick_pauses")
async def test_a_few_unknown_errors_while_the_database_answers_lose_nothing(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    failing = FailingWrite(asyncpg.InterfaceError("the connection was released"), times=recording.MAX_UNEXPLAINED - 1)

    monkeypatch.setattr(recording, "write_attempts", failing)
    await asyncio.wait_for(record(recorder, result(event, lease, OK, ended_at=await later())), PATIENCE_SECONDS)

    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


@pytest.mark.usefixtures("_quick_pauses")
async def test_an_error_that_one_result_causes_is_isolated_after_a_few_tries(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await builders.webhook()
    good, bad = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.claim(good, bad)
    now = await later()

    async def failing(results: list[Result], redaction: Redaction) -> None:
        if any(queued.event_id == bad.id and queued.outcome is OK for queued in results):
            raise KeyError("an internal error")
        await write_attempts(results, redaction)

    monkeypatch.setattr(recording, "write_attempts", failing)
    both = [record(recorder, result(event, lease, OK, ended_at=now)) for event in (bad, good)]
    await asyncio.wait_for(asyncio.gather(*both), PATIENCE_SECONDS)

    assert [a.outcome for a in await builders.attempts(good)] == ["DELIVERED"]
    assert [a.outcome for a in await builders.attempts(bad)] == ["ABANDONED"]


async def test_a_value_that_cannot_be_stored_abandons_one_attempt_only(recorder: Recorder) -> None:
    webhook = await builders.webhook()
    good, bad = await builders.event(webhook), await builders.event(webhook)
    lease = await builders.claim(good, bad)
    now = await later()
    unstorable = Blocked("\ud800 cannot be encoded")

    results = [result(bad, lease, unstorable, ended_at=now), result(good, lease, OK, ended_at=now)]
    both = asyncio.gather(*(record(recorder, each) for each in results))
    await asyncio.wait_for(both, PATIENCE_SECONDS)

    assert (await builders.stored(good)).status is EventStatus.SUCCEEDED
    (attempt,) = await builders.attempts(bad)
    assert (attempt.number, attempt.outcome, attempt.request, attempt.response) == (1, "ABANDONED", None, None)
    assert attempt.error is not None
    assert re.fullmatch(
        r"Internal error [0-9a-f]{12}: the result could not be stored; the endpoint may have received the request\.",
        attempt.error,
    )
    stored = await builders.stored(bad)
    assert (stored.status, stored.worker_id, stored.attempt_count) == (EventStatus.RETRYING, None, 1)
    assert recorder.unrecorded == set()


async def test_an_event_is_unrecorded_until_all_its_results_are_written(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    now = await later()
    may_write = asyncio.Event()

    async def write_late(results: list[Result], redaction: Redaction) -> None:
        await may_write.wait()
        await write_attempts(results, redaction)

    monkeypatch.setattr(recording, "write_attempts", write_late)
    recorder.put(result(event, lease, OK, ended_at=now))
    recorder.put(abandon(Orphan(event.id, lease.worker_id, 0, now), now))
    assert recorder.unrecorded == {event.id}
    may_write.set()
    await asyncio.wait_for(recorder.drain(), PATIENCE_SECONDS)

    assert recorder.unrecorded == set()
    assert [a.outcome for a in await builders.attempts(event)] == ["DELIVERED"]


async def test_a_batch_whose_second_transaction_fails_is_recorded_once(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results = attempt_writer._write_results
    errors = [OperationalError("the database is away")]

    async def fail_once(results: list[Result], redaction: Redaction) -> None:
        if errors:
            raise errors.pop()
        await write_results(results, redaction)

    recorded: list[Result] = []
    monkeypatch.setattr(attempt_writer, "_write_results", fail_once)
    recorder.on_recorded = recorded.append
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(4)]
    lease = await builders.claim(*events)
    now = await later()
    put = [result(e, lease, OK if i % 2 else builders.REFUSED, ended_at=now) for i, e in enumerate(events)]
    with capture_logs() as logs:
        for each in put:
            recorder.put(each)
        await asyncio.wait_for(recorder.drain(), PATIENCE_SECONDS)

    assert recorded == put
    assert [len(await builders.attempts(event)) for event in events] == [1] * 4
    assert await Event.filter(status=EventStatus.SUCCEEDED).count() == 2
    finished = Counter(line["event"] for line in logs)
    assert finished == {"attempt finished": 4, "cannot record attempts; trying again": 1}


async def test_results_that_come_while_all_transactions_are_open_are_written_together_next(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    put: list[Result] = []
    recorded: list[Result] = []
    go_on = asyncio.Event()

    async def write_late(results: list[Result], redaction: Redaction) -> None:
        writes.append(len(results))
        await go_on.wait()

    async def wait_for_writes(count: int) -> None:
        await eventually(lambda: len(writes) == count)

    async def put_one() -> None:
        put.append(result(event, lease, OK, ended_at=await later()))
        recorder.put(put[-1])

    monkeypatch.setattr(recording, "write_attempts", write_late)
    recorder.on_recorded = recorded.append
    event = await builders.event(await builders.webhook())
    lease = await builders.claim(event)
    open_writes = [1] * recording.MAX_TRANSACTIONS
    for number in range(recording.MAX_TRANSACTIONS):
        await put_one()
        await wait_for_writes(number + 1)
    await put_one()
    await put_one()
    drained = asyncio.create_task(recorder.drain())
    await asyncio.sleep(5 * recording.GATHER_SECONDS)
    assert (writes, recorded, len(recorder), drained.done()) == (open_writes, [], len(open_writes) + 2, False)

    go_on.set()
    await asyncio.wait_for(drained, PATIENCE_SECONDS)

    assert writes == [*open_writes, 2]
    assert recorded == put
    assert len(recorder) == 0
