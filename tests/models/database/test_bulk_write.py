"""Tests of bulk inserts and updates: Tortoise reads the rows as they were written, on both databases."""

import datetime as dt
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from ringback.models.database import bulk_write, clock
from ringback.models.database.sql import is_postgres
from ringback.models.enums import Action, EventStatus, OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import new_key
from tests.support import builders

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.every_database]

NAMES = ("id", "event_id", "webhook_id", "number", "started_at", "duration_ms", "outcome", "error", "request")


async def test_values_come_back_as_they_were_written() -> None:
    event = await builders.event(await builders.webhook())
    now = await clock.now()
    written: list[tuple[Any, ...]] = [
        (new_key(), event.id, event.webhook_id, 1, now, 5, OutcomeName.REJECTED, "É\u2028", {"body": "ü", "n": [None]}),
        (new_key(), event.id, event.webhook_id, 2, now, None, OutcomeName.ABANDONED, None, None),
    ]

    await bulk_write.insert_values(Attempt._meta.db, Attempt, NAMES, written)

    stored = await Attempt.all().order_by("number")
    assert [tuple(getattr(row, name) for name in NAMES) for row in stored] == written
    assert [row.response for row in stored] == [None, None]


async def test_only_the_given_rows_and_columns_are_updated() -> None:
    webhook = await builders.webhook()
    first, second, other = [await builders.event(webhook) for _ in range(3)]
    now = await clock.now()
    worker_id = new_key()

    await bulk_write.update_values(
        Event._meta.db, Event, ("id", "status", "worker_id", "finished_at", "attempt_count"),
        [(first.id, EventStatus.FAILED, worker_id, now, 3), (second.id, EventStatus.RETRYING, None, None, 1)],
    )  # fmt: skip

    stored = [await builders.stored(event) for event in (first, second, other)]
    assert [(e.status, e.worker_id, e.finished_at, e.attempt_count) for e in stored] == [
        (EventStatus.FAILED, worker_id, now, 3),
        (EventStatus.RETRYING, None, None, 1),
        (EventStatus.PENDING, None, None, 0),
    ]
    assert [e.max_attempts for e in stored] == [3, 3, 3]
    assert vars(stored[2]) == vars(await builders.stored(other))


@pytest.mark.parametrize("status", [EventStatus.SUCCEEDED, EventStatus.FAILED])
async def test_columns_with_equal_values_in_all_rows_are_updated(status: EventStatus) -> None:
    events = [await builders.event(await builders.webhook()) for _ in range(3)]
    now = await clock.now()
    names = ("id", "status", "worker_id", "finished_at", "attempt_count")
    written = [(e.id, status if at == 1 else EventStatus.SUCCEEDED, None, now, 7) for at, e in enumerate(events)]
    await bulk_write.update_values(Event._meta.db, Event, names, written)
    stored = [await builders.stored(event) for event in events]
    assert [tuple(getattr(row, name) for name in names) for row in stored] == written
    worker_id = new_key()
    await bulk_write.update_values(Event._meta.db, Event, ("id", "worker_id"), [(events[0].id, worker_id)])
    assert [(await builders.stored(event)).worker_id for event in events] == [worker_id, None, None]


async def test_no_rows_write_nothing() -> None:
    await bulk_write.insert_values(Attempt._meta.db, Attempt, NAMES, [])
    await bulk_write.update_values(Event._meta.db, Event, ("id", "status"), [])

    assert await Attempt.all().count() == 0


async def test_timestamps_keep_their_microseconds_and_are_in_utc() -> None:
    event = await builders.event(await builders.webhook())
    finished_at = dt.datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=dt.timezone(dt.timedelta(hours=3)))

    await bulk_write.update_values(Event._meta.db, Event, ("id", "finished_at"), [(event.id, finished_at)])

    assert str((await builders.stored(event)).finished_at) == "2026-01-31 09:00:00.000001+00:00"


@pytest.mark.parametrize("number", [1, 3, bulk_write.MAX_COMBINED_ROWS // 2, bulk_write.MAX_COMBINED_ROWS])
async def test_rows_that_reference_each_other_are_inserted_together(number: int) -> None:
    webhook, now = await builders.webhook(), await clock.now()
    changes = [(new_key(), "lead", Action.CREATED, f"{n}", {"ü": [n]}, ["a", "b"], now) for n in range(number)]
    names = ("id", "webhook_id", "change_id", "model", "action", "test_item", "status", "max_attempts", "created_at")
    defaults = {"is_test": False, "attempt_count": 0, "attempts_before_round": 0, "abandoned_in_a_row": 0}
    events = [
        (
            new_key(),
            webhook.id,
            change[0],
            "lead",
            Action.CREATED,
            None,
            EventStatus.PENDING,
            3,
            now,
            *defaults.values(),
        )
        for change in changes
    ]
    await bulk_write.insert_together(
        Event._meta.db,
        bulk_write.NewRows(
            Change, ("id", "model", "action", "object_id", "item", "changed_fields", "created_at"), changes
        ),
        bulk_write.NewRows(Event, (*names, *defaults), events),
        bulk_write.NewRows(Attempt, NAMES, []),
    )
    stored = await Event.all().order_by("id").prefetch_related("change")
    assert [tuple(getattr(row, name) for name in (*names, *defaults)) for row in stored] == events
    stored_changes = [row.change for row in stored if row.change is not None]
    assert [(change.id, change.item, change.changed_fields) for change in stored_changes] == [
        (change[0], change[4], change[5]) for change in changes
    ]
    assert await Attempt.all().count() == 0


async def test_many_rows_are_written_each_with_its_own_values() -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(64 + 16 + 2 * 4 + 3)]
    now = await clock.now()
    attempts = [
        (new_key(), e.id, webhook.id, 1, now, n, OutcomeName.DELIVERED, None, None) for n, e in enumerate(events)
    ]
    counts = [(e.id, n) for n, e in enumerate(events)]

    async with in_transaction() as db:
        await bulk_write.insert_values(db, Attempt, NAMES, attempts)
        await bulk_write.update_values(db, Event, ("id", "attempt_count"), counts)

    assert sorted(await Attempt.all().values_list(*NAMES[:2], "duration_ms")) == sorted(
        (row[0], row[1], row[5]) for row in attempts
    )
    assert sorted(await Event.all().values_list("id", "attempt_count")) == sorted(counts)


async def test_a_failure_rolls_the_transaction_back() -> None:
    event = await builders.event(await builders.webhook())
    attempt = (new_key(), event.id, event.webhook_id, 1, await clock.now(), 1, OutcomeName.DELIVERED, None, None)

    with pytest.raises(IntegrityError):
        async with in_transaction() as db:
            await bulk_write.update_values(db, Event, ("id", "attempt_count"), [(event.id, 1)])
            await bulk_write.insert_values(db, Attempt, NAMES, [attempt, attempt])

    assert (await builders.stored(event)).attempt_count == 0
    assert await Attempt.all().count() == 0


async def test_on_sqlite_updated_rows_are_found_by_their_key() -> None:
    db = Event._meta.db
    if not is_postgres(db):
        statement = bulk_write._build_update(Event, ("id", "attempt_count"), "?")
        plan = [row["detail"] for row in await db.execute_query_dict(f"EXPLAIN QUERY PLAN {statement}", [None] * 2)]
        assert [step for step in plan if "SCAN ringback_event" in step] == []
        assert any(step.startswith("SEARCH ringback_event") and step.endswith("(id=?)") for step in plan), plan
