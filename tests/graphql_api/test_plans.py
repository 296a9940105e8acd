"""No statement of the dispatcher, the recorder, the tailer or the API scans a large table, on a filled database."""

import datetime as dt
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
from ringback.models import beginning, claims, clock, limits, log, newest, outbox
from ringback.models.bulk import insert
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import Prefix, encode, new_key, new_key_at
from ringback.models.log import LogEntry, LogFilter, LogKind, Position
from ringback.models.statements import on_postgres
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = pytest.mark.every_database

EVENTS = 20_000
#: Rows of large tables that one statement may look at.
BOUND = 1_500
LARGE = ("ringback_event", "ringback_attempt", "ringback_change", "ringback_log")
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
#: Only the oldest rows have what is rare: whoever reads from the newest on reads all.
RARE = 50


def moment(number: int) -> dt.datetime:
    return START + dt.timedelta(minutes=number)


@pytest_asyncio.fixture
async def webhooks(database: object) -> AsyncIterator[list[Webhook]]:
    """The first has half of all events."""
    made = [await builders.webhook(model="lead" if number % 2 else "order") for number in range(20)]
    changes = [Change(model="lead", action="CREATED", object_id="1", item={}, created_at=START) for _ in range(1_000)]
    events, attempts, entries = [], [], []
    for number in range(EVENTS):
        at = moment(number)
        webhook = made[0 if number % 2 else number // 2 % 19 + 1]
        rare = number < RARE
        waits = number % 100 == 0
        due = dt.datetime(2099, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=number) if waits else None
        status = (
            "CANCELLED"
            if rare and number % 2
            else "FAILED"
            if number % 40 == 2
            else "RETRYING"
            if waits
            else "SUCCEEDED"
        )
        event = Event(
            id=new_key_at(at), webhook_id=webhook.id, change_id=changes[0].id, model="rare" if rare else webhook.model,
            action="DELETED" if rare else "CREATED", object_id=str(number % 500), is_test=rare, status=status,
            attempt_count=1, max_attempts=3, next_attempt_at=due, due_at=due, created_at=at,
            finished_at=None if waits else at,
        )  # fmt: skip
        events.append(event)
        attempts.append(
            Attempt(
                id=new_key_at(at),
                event_id=event.id,
                webhook_id=webhook.id,
                number=1,
                started_at=at,
                duration_ms=1,
                outcome="TIMED_OUT" if rare else "DELIVERED",
                status_code=503 if rare else 200,
            )
        )
        entries.append(
            log.entry(LogKind.EVENT_RECORDED, "", at=at, webhook_id=webhook.id, event_id=event.id, model="lead")
        )
    db = Event._meta.db
    await insert(db, changes)
    for start in range(0, EVENTS, 5_000):
        for many in (events, attempts, entries):
            await insert(db, many[start : start + 5_000])
    await db.execute_script("VACUUM ANALYZE" if on_postgres(db) else "ANALYZE")
    yield made


@contextmanager
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, list[Any]]]]:
    """The statements that are executed within the block, with their values."""
    seen: list[tuple[str, list[Any]]] = []
    client = type(Event._meta.db)
    with monkeypatch.context() as patch:
        for owner in (client, type(client._new_transaction(Event._meta.db))):  # type: ignore[attr-defined]
            for name in ("execute_query", "execute_query_dict"):
                original = getattr(owner, name)

                async def spy(self: Any, query: str, values: Any = None, original: Any = original) -> Any:
                    seen.append((query, list(values or [])))
                    return await original(self, query, values)

                patch.setattr(owner, name, spy)
        yield seen


async def plan(query: str, values: list[Any]) -> list[str]:
    """What the statement does to large tables that it should not do."""
    db = Event._meta.db
    if not on_postgres(db):
        found = await db.execute_query_dict(f"EXPLAIN QUERY PLAN {query}", values)
        details = [row["detail"] for row in found]
        ordered = "ORDER BY" in query and "LIMIT" in query
        return [
            d for d in details
            if (d.startswith("SCAN") and any(t in d for t in LARGE) and not ordered) or d == "TEMP B-TREE FOR ORDER BY"
        ]  # fmt: skip
    try:
        async with in_transaction() as tx:
            (row,) = await tx.execute_query_dict(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", values)
            raise _RolledBack(row["QUERY PLAN"])
    except _RolledBack as rolled_back:
        return list(_faults(json.loads(rolled_back.args[0])[0]["Plan"]))


class _RolledBack(Exception):
    pass


def _faults(node: dict[str, Any]) -> Iterator[str]:
    table = node.get("Relation Name")
    looked_at = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    if table in LARGE and node["Node Type"] != "ModifyTable":
        if node["Node Type"] == "Seq Scan":
            yield f"Seq Scan on {table}"
        if looked_at > BOUND:
            yield f"{node['Node Type']} looked at {looked_at} rows of {table}"
    for child in node.get("Plans", ()):
        yield from _faults(child)


async def check(monkeypatch: pytest.MonkeyPatch, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
    with spied(monkeypatch) as statements:
        answer = await work()
    assert statements, what
    for query, values in statements:
        if "ringback_claim(" in query:
            assert await plans_within(query, values) == [], (what, query)
        elif any(table in query for table in LARGE) and query.lstrip().upper().startswith(("SELECT", "UPDATE", "WITH")):
            assert await plan(query, values) == [], (what, query)
    return answer


async def plans_within(query: str, values: list[Any]) -> list[str]:
    """The same for the statements of a function of Postgres, which tells of them as notices."""
    found: list[dict[str, Any]] = []

    def notice(_: object, message: Any) -> None:
        _, explained, text = message.message.partition("plan:")
        if explained:
            found.append(json.loads(text))

    async with Event._meta.db.acquire_connection() as connection:
        connection.add_log_listener(notice)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "LOAD 'auto_explain'; SET LOCAL auto_explain.log_min_duration = 0; SET LOCAL auto_explain.log_analyze = on;"
            "SET LOCAL auto_explain.log_nested_statements = on; SET LOCAL auto_explain.log_format = json;"
            "SET LOCAL auto_explain.log_level = notice;"
        )
        await connection.fetch(query, *values)
        await transaction.rollback()
        connection.remove_log_listener(notice)
    texts = " ".join(plan["Query Text"] for plan in found)
    assert all(part in texts for part in ("FOR NO KEY UPDATE", "count(*)", "LATERAL")), "each step was seen"
    return [fault for plan in found for fault in _faults(plan["Plan"])]


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
    await page_of([part.newest for part in filter.rows()], 20, None, lambda row: row)


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
