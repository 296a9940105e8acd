"""No statement of the dispatcher, the recorder, the tailer or the API scans a large table, on a filled database."""

import asyncio
import datetime as dt
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from tortoise.transactions import in_transaction

from ringback.graphql_api.enums import EventStatus, OutcomeName
from ringback.graphql_api.events import AttemptFilter, EventFilter
from ringback.graphql_api.loaders import new_loaders
from ringback.graphql_api.relay import page_of
from ringback.jobs import recorder
from ringback.models import beginning, claims, clock, db, limits, log, newest, outbox, settings
from ringback.models.bulk import insert
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key
from ringback.models.log import LogEntry, LogFilter, Position
from ringback.models.settings import Settings
from ringback.models.statements import on_postgres
from ringback.models.webhook import Webhook
from tests.support import builders, postgres
from tests.support.filled_database import EVENTS, Filled, moment, open_and_fill
from tests.support.query_plans import check

pytestmark = pytest.mark.every_database


@pytest.fixture(scope="module")
def filled_sqlite(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("filled") / "data"
    shutil.copytree(migrated, folder)
    return Filled(str(folder), asyncio.run(open_and_fill(settings.load(data_dir=folder))))


@pytest.fixture(scope="module")
def filled_postgres(migrated_postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    url = asyncio.run(postgres.create(migrated_postgres, migrated_postgres))
    with postgres.other_statements():
        chosen = settings.load(data_dir=tmp_path_factory.mktemp("filled"), database_url=url)
        webhook_ids = asyncio.run(open_and_fill(chosen))
    yield Filled(url, webhook_ids)
    asyncio.run(postgres.drop(migrated_postgres, url))


@pytest.fixture
def filled(database_kind: str, request: pytest.FixtureRequest) -> Filled:
    found: Filled = request.getfixturevalue(f"filled_{database_kind}")
    return found


@pytest_asyncio.fixture
async def webhooks(database_kind: str, chosen: Settings, filled: Filled) -> AsyncIterator[list[Webhook]]:
    """The webhooks of a filled database of the test's own."""
    async with AsyncExitStack() as stack:
        if database_kind == "sqlite":
            shutil.copytree(filled.template, chosen.data_dir)
        else:
            url = await stack.enter_async_context(postgres.copied_once(filled.template))
            chosen = settings.load(data_dir=chosen.data_dir, database_url=url)
        await stack.enter_async_context(db.opened(chosen))
        found = {webhook.id: webhook for webhook in await Webhook.all()}
        yield [found[webhook_id] for webhook_id in filled.webhook_ids]


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
        # Neither the webhook's events nor those of the state are few.
        {"webhook_ids": [first], "statuses": [EventStatus.FAILED]},
        {"webhook_ids": [first], "statuses": [EventStatus.CANCELLED]},
        {"webhook_ids": [first], "statuses": [EventStatus.FAILED], **early},
        {"webhook_ids": [second], "statuses": [EventStatus.SUCCEEDED], **early},
        {"webhook_ids": [first], **early},
    ]
    for given in filters:
        await check(monkeypatch, str(given), partial(pages, EventFilter(**given)))


async def test_lists_of_events_by_what_no_index_has(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "COUNTED", 50)
    monkeypatch.setattr(newest, "STRETCHES", (50, 200))
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
    for given in combined(conditions):
        await check(monkeypatch, str(given), partial(pages, EventFilter(**given)))


async def test_lists_of_attempts(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = _ids(webhooks)
    early = {"started_after": moment(100), "started_before": moment(3_000)}
    event = encode(Prefix.EVENT, (await Event.all().order_by("id").first()).id)  # type: ignore[union-attr]
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
        await check(monkeypatch, str(given), partial(pages, AttemptFilter(**given)))


async def test_lists_of_attempts_by_what_no_index_has(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "COUNTED", 50)
    monkeypatch.setattr(newest, "STRETCHES", (50, 200))
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
    for given in combined(conditions):
        await check(monkeypatch, str(given), partial(pages, AttemptFilter(**given)))


def combined(conditions: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """All combinations of two or three conditions."""
    for names in (names for count in (2, 3) for names in itertools.combinations(conditions, count)):
        for values in itertools.product(*(conditions[name] for name in names)):
            yield dict(zip(names, values, strict=True))


async def pages(filter: EventFilter | AttemptFilter) -> None:
    def node(row: Any) -> Any:
        return row

    parts: list[Any] = [part.newest for part in filter.rows()]
    await page_of(parts, 20, None, node)


async def test_what_the_dispatcher_and_the_recorder_do(
    webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await builders.event(webhooks[number % 3]) for number in range(30)]
    now = await clock.now()
    later = now + dt.timedelta(seconds=1)
    held = claims.Held(frozenset({webhooks[5].id}), suspects=True)

    async def run(what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        return await check(monkeypatch, what, work)

    await run("next_due", lambda: claims.next_due(now, held))
    firsts, retries = await run("due", lambda: claims.due(later, 100, held))
    assert (len(firsts), retries) == (30, [])
    start = claims.FIRST_WEBHOOK
    firsts, retries, _ = await run("due_by_webhook", lambda: claims.due_by_webhook(later, 100, 10, start, held))
    assert (len(firsts), retries) == (30, [])
    ((lease, taken),) = (await run("claim", lambda: claims.claim([firsts], now))).batches
    await run("limits", lambda: limits.read([webhook.id for webhook in webhooks], 50))
    ids = [d.event_id for d in taken]
    assert len(ids) == 30
    assert len(await run("waiting", lambda: beginning.waiting(lease, ids))) == 30
    begun = await run("begin", lambda: builders.begin(lease, ids[:20]))
    assert len(begun) == 20
    await run("renew", lambda: claims.renew(lease, ids[:20], 45))
    await run("hand_back", lambda: claims.hand_back(lease, ids[20:]))
    assert await run("take_back", lambda: claims.take_back(now)) == 0
    assert await run("expired", lambda: claims.expired(now, 100)) == []
    await run("still_leased", lambda: claims.still_leased(dict.fromkeys(ids, lease)))
    results = [builders.result(event, lease, ended_at=now) for event in made if event.id in begun]
    await run("record", lambda: recorder.write(results))
    assert await Attempt.filter(event_id__in=begun).count() == 20


async def test_a_webhook_s_events_among_many_of_others(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is due most is another's, and of what waits most is not due: neither is read for each webhook."""
    made = [await builders.webhook() for _ in range(20)]
    held = claims.Held(frozenset(webhook.id for webhook in made[:10]))
    now = await clock.now()
    waiting = [
        Event(
            webhook_id=made[number % 20].id, model="lead", action="CREATED", max_attempts=3, next_attempt_at=now,
            due_at=now, created_at=now,
        )
        for number in range(4_000)
    ]  # fmt: skip
    waiting += [
        Event(
            webhook_id=made[number % 20].id, model="lead", action="CREATED", max_attempts=3, status="RETRYING",
            next_attempt_at=now + dt.timedelta(hours=1), due_at=now + dt.timedelta(hours=1), created_at=now,
        )
        for number in range(12_000)
    ]  # fmt: skip
    db = Event._meta.db
    for start in range(0, len(waiting), 5_000):
        await insert(db, waiting[start : start + 5_000])
    await db.execute_script("VACUUM ANALYZE" if on_postgres(db) else "ANALYZE")
    later = now + dt.timedelta(seconds=1)
    for _ in range(8):  # after some of them Postgres plans for all values at once
        look = partial(claims.due_by_webhook, later, 800, 20, claims.FIRST_WEBHOOK, held)
        firsts, _, _ = await check(monkeypatch, "due_by_webhook", look)
        assert len(firsts) == 200


async def test_what_the_tailer_and_the_outbox_do(webhooks: list[Webhook], monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = await log.epoch()

    async def run(what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        return await check(monkeypatch, what, work)

    newest = await run("newest", lambda: log.newest(epoch))
    assert await run("after the end", lambda: log.after(newest, 500)) == []
    assert len(await run("after the beginning", lambda: log.after(Position(epoch, 0, 0), 500))) == 500
    await run("resumable", lambda: log.check_resumable(newest, epoch))
    monkeypatch.setattr(log, "MAX_SCANNED", 1_000)
    wanted = LogFilter(webhook_ids=frozenset({webhooks[3].id}))
    await run("between", lambda: log.between(Position(epoch, 0, 0), newest, wanted, 50))
    assert await LogEntry.all().count() == EVENTS
    last: UUID = webhooks[3].id
    loaders = new_loaders()
    await run("the last attempt", lambda: loaders.last_attempt_of_webhook.load(last))
    async with in_transaction() as db:
        assert list(await outbox.watching_webhooks(db, {"lead"})) == ["lead"]
