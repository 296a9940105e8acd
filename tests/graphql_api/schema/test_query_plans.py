"""No statement of the claimer, the recorder, the live log or the API scans a large table of a filled database."""

import asyncio
import datetime as dt
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from tortoise.transactions import in_transaction

from ringback.graphql_api.context.dataloaders import Loaders, last_attempt_of_webhook
from ringback.graphql_api.fields.enums import EventStatus, OutcomeName
from ringback.graphql_api.fields.relay import read_merged_page
from ringback.graphql_api.schema.event_filters import AttemptFilter, EventFilter
from ringback.jobs import attempt_writer
from ringback.models import bootstrap as db
from ringback.models import delivery_log, settings
from ringback.models.database import clock
from ringback.models.database import keyset as newest
from ringback.models.database.sql import is_postgres
from ringback.models.delivery_log import LogEntry, LogFilter, Position
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key
from ringback.models.queue import workers
from ringback.models.queue.claims import claim, find_next_due
from ringback.models.queue.grants import FIRST_WEBHOOK, ClaimRequest, WebhookLimit
from ringback.models.queue.webhook_limits import LockedWebhook, read_limits, save_slots
from ringback.models.queue.workers import WorkerLease, find_orphans, register_worker
from ringback.models.settings import Settings
from ringback.models.tracking import outbox
from ringback.models.webhook import Webhook
from tests.support import builders, postgres
from tests.support.filled_database import EVENTS, Filled, moment, open_and_fill
from tests.support.inserting import insert
from tests.support.query_plans import check, plan, spied

pytestmark = [pytest.mark.every_database, pytest.mark.measures_cpu]


@pytest.fixture(scope="module")
def filled_sqlite(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("filled") / "data"
    shutil.copytree(migrated, folder)
    return Filled(str(folder), asyncio.run(open_and_fill(settings.load_settings(data_dir=folder))))


@pytest.fixture(scope="module")
def filled_postgres(migrated_postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    url = asyncio.run(postgres.create(migrated_postgres, migrated_postgres))
    with postgres.other_statements():
        chosen = settings.load_settings(data_dir=tmp_path_factory.mktemp("filled"), database_url=url)
        webhook_ids = asyncio.run(open_and_fill(chosen))
    yield Filled(url, webhook_ids)
    asyncio.run(postgres.drop(migrated_postgres, url))


@pytest.fixture
def filled(database_kind: str, request: pytest.FixtureRequest) -> Filled:
    filled_database: Filled = request.getfixturevalue(f"filled_{database_kind}")
    return filled_database


@pytest_asyncio.fixture
async def webhooks(database_kind: str, chosen: Settings, filled: Filled) -> AsyncIterator[list[Webhook]]:
    """Return the webhooks of a filled database of the test's own."""
    async with AsyncExitStack() as stack:
        if database_kind == "sqlite":
            shutil.copytree(filled.template, chosen.data_dir)
        else:
            url = await stack.enter_async_context(postgres.copied_once(filled.template))
            chosen = settings.load_settings(data_dir=chosen.data_dir, database_url=url)
        await stack.enter_async_context(db.open_database(chosen))
        webhooks_by_id = {webhook.id: webhook for webhook in await Webhook.all()}
        yield [webhooks_by_id[webhook_id] for webhook_id in filled.webhook_ids]


def _ids(webhooks: list[Webhook]) -> list[Any]:
    return [encode(Prefix.WEBHOOK, webhook.id) for webhook in webhooks]


async def test_lists_of_events(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = _ids(webhooks)
    early = {"created_after": moment(100), "created_before": moment(3_000)}
    filters: list[dict[str, Any]] = [
        {},
        {"webhook_ids": [first]},
        {"webhook_ids": [second]},
        {"statuses": [EventStatus.CANCELLED]},
        {"statuses": [EventStatus.FAILED]},
        {"statuses": [EventStatus.SUCCEEDED]},
        {"models": ["rare"]},
        {"models": ["lead"]},
        {"object_id": "7"},
        {"object_id": "nothing"},
        early,
        {"created_before": moment(30)},
        {"created_after": moment(EVENTS - 10)},
        # Both the webhook and the status have many events.
        {"webhook_ids": [first], "statuses": [EventStatus.FAILED]},
        {"webhook_ids": [first], "statuses": [EventStatus.CANCELLED]},
        {"webhook_ids": [first], "statuses": [EventStatus.FAILED], **early},
        {"webhook_ids": [second], "statuses": [EventStatus.SUCCEEDED], **early},
        {"webhook_ids": [first], **early},
    ]
    for given in filters:
        await check(monkeypatch, str(given), partial(read_page, EventFilter(**given)))


async def test_lists_of_events_by_what_no_index_has(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "MAX_COUNTED_ROWS", 50)
    monkeypatch.setattr(newest, "SCAN_STEP_ROWS", (50, 200))
    first, second, *others = _ids(webhooks)
    unknown = [encode(Prefix.WEBHOOK, new_key()) for _ in range(200)]
    rare, often = [EventStatus.CANCELLED, EventStatus.PENDING], [EventStatus.SUCCEEDED, EventStatus.FAILED]
    conditions: dict[str, list[Any]] = {
        "webhook_ids": [[first], [second, *others[:3]], unknown, [first, *unknown]],
        "models": [["lead", "rare"], ["rare"]],
        "actions": [["DELETED"]],
        "statuses": [rare, often],
        "created_before": [moment(EVENTS - 3_000)],
        "is_test": [True, False],
    }
    for given in combine(conditions):
        await check(monkeypatch, str(given), partial(read_page, EventFilter(**given)))


async def test_lists_of_attempts(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = _ids(webhooks)
    early = {"started_after": moment(100), "started_before": moment(3_000)}
    oldest = await Event.all().order_by("id").first()
    assert oldest is not None
    event = encode(Prefix.EVENT, oldest.id)
    filters: list[dict[str, Any]] = [
        {},
        {"webhook_ids": [first]},
        {"outcomes": [OutcomeName.TIMED_OUT]},
        {"outcomes": [OutcomeName.DELIVERED]},
        {"status_code": 503},
        {"status_code": 200},
        {"event_ids": [event]},
        early,
        {"webhook_ids": [first], "outcomes": [OutcomeName.TIMED_OUT]},
        {"webhook_ids": [first], "outcomes": [OutcomeName.TIMED_OUT], **early},
        {"webhook_ids": [second], **early},
        {"webhook_ids": [first], "status_code": 503},
    ]
    for given in filters:
        await check(monkeypatch, str(given), partial(read_page, AttemptFilter(**given)))


async def test_lists_of_attempts_by_what_no_index_has(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "MAX_COUNTED_ROWS", 50)
    monkeypatch.setattr(newest, "SCAN_STEP_ROWS", (50, 200))
    first, second, *others = _ids(webhooks)
    unknown = [encode(Prefix.WEBHOOK, new_key()) for _ in range(200)]
    events = [encode(Prefix.EVENT, row.id) for row in await Event.all().order_by("-id").limit(100)]
    rare, often = [OutcomeName.TIMED_OUT, OutcomeName.BLOCKED], [OutcomeName.DELIVERED, OutcomeName.REJECTED]
    conditions: dict[str, list[Any]] = {
        "webhook_ids": [[first], [second, *others[:3]], unknown, [first, *unknown]],
        "event_ids": [events[:50]],
        "outcomes": [rare, often],
        "status_code": [200, 404, 503],
        "started_before": [moment(EVENTS - 3_000)],
    }
    for given in combine(conditions):
        await check(monkeypatch, str(given), partial(read_page, AttemptFilter(**given)))


def combine(conditions: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of two or three conditions."""
    for names in (names for count in (2, 3) for names in itertools.combinations(conditions, count)):
        for values in itertools.product(*(conditions[name] for name in names)):
            yield dict(zip(names, values, strict=True))


async def read_page(filter: EventFilter | AttemptFilter) -> None:
    def node(row: Any) -> Any:
        return row

    scans: list[Any] = [scan.newest for scan in filter.plan_scans()]
    await read_merged_page(scans, 20, None, node)


async def test_claiming_and_recording(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [await builders.event(webhooks[number % 3]) for number in range(30)]
    lease = await register_worker(60)
    room = ClaimRequest(
        free_slots=200, retry_slots=200, on_hold={webhooks[5].id}, may_take_suspect=False, max_concurrency=1_000
    )

    async def run(what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        return await check(monkeypatch, what, work)

    batch = await run("claim", lambda: claim(lease.worker_id, room))
    ids = {delivery.event.id for delivery in batch.deliveries}
    assert ids == {event.id for event in waiting}
    await run("release", lambda: workers.release(lease, sorted(ids)[:5]))
    assert await read_claimed_events(monkeypatch, lambda: workers.release_all_but(lease, sorted(ids)[10:])) == 5
    again = await run(
        "claim webhook by webhook",
        lambda: claim(lease.worker_id, replace(room, after_webhook=FIRST_WEBHOOK)),
    )
    assert {delivery.event.id for delivery in again.deliveries} == set(sorted(ids)[:10])
    prompt = [webhook.id for webhook in webhooks[:3]]
    await workers.release(lease, sorted(ids)[:4])
    of_prompt = await run(
        "claim for prompt webhooks",
        lambda: claim(lease.worker_id, replace(room, prompt=prompt, common_slots=0, only_prompt=True)),
    )
    assert {delivery.event.id for delivery in of_prompt.deliveries} == set(sorted(ids)[:4])
    now = await clock.now()
    await run("the next due time", lambda: find_next_due({webhooks[5].id}, now))
    refused = [builders.result(event, lease, ended_at=now) for event in waiting[:10]]
    delivered = [builders.result(event, lease, builders.OK, ended_at=now) for event in waiting[10:20]]
    results = [*refused, *delivered]
    await run("record", lambda: attempt_writer.write_attempts(results))
    assert await Attempt.filter(event_id__in=[event.id for event in waiting]).count() == 20


async def test_limits_and_slots_of_many_webhooks(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    events = [await builders.event(webhook) for webhook in webhooks]
    lease = await builders.claim(*events)
    keys, now = [webhook.id for webhook in webhooks], await clock.now()
    request = ClaimRequest(
        free_slots=10, retry_slots=10, max_concurrency=50, unrecorded=[event.id for event in events[:5]]
    )

    async def limits_and_slots() -> dict[UUID, WebhookLimit]:
        async with in_transaction() as tx:
            await save_slots(tx, dict.fromkeys(keys, now))
            return await read_limits(tx, dict.fromkeys(keys, LockedWebhook(None, 10, now)), lease.worker_id, request)

    limits = await check(monkeypatch, "limits", limits_and_slots)

    free = [50] * 5 + [49] * (len(keys) - 5)
    assert limits == {
        key: WebhookLimit(left, dt.timedelta(seconds=0.1), now) for key, left in zip(keys, free, strict=True)
    }


async def test_orphans_are_found_among_many_events(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    events = [await builders.event(webhook) for webhook in webhooks]
    await builders.claim(*events[:10], lease=WorkerLease(uuid4(), 0.0))
    await builders.claim(*events[10:])

    orphans = await read_claimed_events(monkeypatch, lambda: find_orphans(1_000))

    assert {orphan.event_id for orphan in orphans} == {event.id for event in events[:10]}


async def read_claimed_events(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run `work`, whose only statement may scan the index of claimed events and read no other rows."""
    with spied(monkeypatch) as statements:
        answer = await work()
    ((query, values),) = statements
    if is_postgres(Event._meta.db):
        assert await plan(query, values) == []
    else:
        steps = await Event._meta.db.execute_query_dict(f"EXPLAIN QUERY PLAN {query}", values)
        assert steps[0]["detail"] == "SCAN ringback_event USING INDEX ringback_event_claimed"
    return answer


async def test_claims_do_not_read_the_events_of_other_webhooks(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most due events are of other webhooks, and most waiting events are not due: a claim reads neither."""
    made = [await builders.webhook() for _ in range(20)]
    # Every webhook has its share in flight, so the claims change nothing and each look finds the same.
    request = ClaimRequest(
        free_slots=800,
        retry_slots=800,
        max_concurrency=50,
        in_flight={webhook.id: 800 for webhook in made},
        on_hold={webhook.id for webhook in made[:10]},
        after_webhook=FIRST_WEBHOOK,
    )
    now = await clock.now()
    waiting = [
        Event(
            webhook_id=made[number % 20].id, model="lead", action="CREATED", max_attempts=3, next_attempt_at=now,
            created_at=now,
        )
        for number in range(8_000)
    ]  # fmt: skip
    waiting += [
        Event(
            webhook_id=made[number % 20].id, model="lead", action="CREATED", max_attempts=3, status="RETRYING",
            next_attempt_at=now + dt.timedelta(hours=1), created_at=now,
        )
        for number in range(12_000)
    ]  # fmt: skip
    db = Event._meta.db
    for start in range(0, len(waiting), 5_000):
        await insert(db, waiting[start : start + 5_000])
    await db.execute_script("VACUUM ANALYZE" if is_postgres(db) else "ANALYZE")
    claim_limit = 500 // 11
    prompt_request = replace(request, prompt=[webhook.id for webhook in made[10:]], common_slots=0, only_prompt=True)
    for _ in range(8):  # after five executions Postgres may switch to a generic plan
        batch = await check(monkeypatch, "claim webhook by webhook", lambda: claim(uuid4(), request))
        assert (batch.seen, batch.deliveries) == (10 * claim_limit, [])
        batch = await check(monkeypatch, "claim for prompt webhooks", lambda: claim(uuid4(), prompt_request))
        assert (batch.seen, batch.deliveries) == (500, [])
        await check(monkeypatch, "the next due time", lambda: find_next_due(request.on_hold, dt.datetime.now(dt.UTC)))


async def test_statements_of_the_live_log_and_the_outbox(
    webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = await delivery_log.read_epoch()

    async def run(what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        return await check(monkeypatch, what, work)

    newest = await run("newest", lambda: delivery_log.read_end(epoch))
    after_the_end, _ = await run("after the end", lambda: delivery_log.read_after(newest, 500))
    after_the_beginning, _ = await run(
        "after the beginning", lambda: delivery_log.read_after(Position(epoch, 0, 0), 500)
    )
    assert (after_the_end, len(after_the_beginning)) == ([], 500)
    await run("resumable", lambda: delivery_log.check_resumable(newest, epoch))
    monkeypatch.setattr(delivery_log, "MAX_SCANNED", 1_000)
    wanted = LogFilter(webhook_ids=frozenset({webhooks[3].id}))
    await run("between", lambda: delivery_log.read_between(Position(epoch, 0, 0), newest, wanted, 50))
    assert await LogEntry.all().count() == EVENTS
    last: UUID = webhooks[3].id
    loaders = Loaders()
    await run("the last attempt", lambda: loaders[last_attempt_of_webhook].load(last))
    async with in_transaction() as db:
        assert list(await outbox.find_watching_webhooks(db, {"lead"})) == ["lead"]
