"""Migrations of databases of earlier commits, on SQLite and Postgres: no row is lost."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget

from ringback.models import ConfigurationError, Settings, bootstrap, load_settings, migrate, open_database
from ringback.models.database import clock
from ringback.models.database.sql import as_uuid, execute, fetch, fetch_rows, is_postgres
from ringback.models.declared_model import DeclaredModel
from ringback.models.delivery_log import Installation, LogEntry
from ringback.models.enums import Action, EventStatus, HttpMethod, OutcomeName, SuccessPolicy
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import new_key
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.queue.claims import claim
from ringback.models.queue.grants import ClaimRequest
from ringback.models.queue.workers import find_orphans, register_worker
from ringback.models.templates.field_info import FieldInfo
from ringback.models.timestamps import parse_timestamp
from ringback.models.webhook import Webhook
from ringback.models.worker import Worker
from tests.support import postgres

pytestmark = [pytest.mark.every_database, pytest.mark.measures_cpu]

AT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
ITEM = {"zone": "Ø", "a": {"b": [1, 2.5, None, True]}, "name": 'O"Hara', "": "Ада"}
HEADERS = [["X-A", "1"], ["X-A", "2"]]
#: The migrations that a database of 0001, or of 0015, lacks.
LATEST = [f"ringback.{name}" for name in bootstrap.list_migrations()[1:]]
WEBHOOK, CHANGE, EVENT, ATTEMPT, INBOX = (uuid4() for _ in range(5))
#: As 0001 has them, and 0015 of earlier commits.
ROWS: dict[str, dict[str, Any]] = {
    "ringback_webhook": {
        "id": WEBHOOK, "name": None, "model": "lead", "actions": ["CREATED"], "is_active": True, "method": "PUT",
        "url": "https://x.example/", "send_json": True, "body_template": "", "content_type": None, "headers": HEADERS,
        "condition": None, "retry_delays": [5, 6], "timeout_seconds": 2.5, "success_policy": "ANY_2XX",
        "signing_secret": "s", "created_at": AT, "updated_at": AT, "deleted_at": None,
    },
    "ringback_change": {
        "id": CHANGE, "model": "lead", "action": "UPDATED", "object_id": "7", "item": ITEM, "changed_fields": ["name"],
        "created_at": AT,
    },
    "ringback_event": {
        "id": EVENT, "webhook_id": WEBHOOK, "change_id": CHANGE, "model": "lead", "action": "UPDATED", "object_id": "7",
        "is_test": False, "test_item": None, "status": "RETRYING", "attempt_count": 1, "attempts_before_round": 0,
        "abandoned_in_a_row": 0, "max_attempts": 2, "next_attempt_at": AT, "due_at": AT, "lease": None,
        "lease_begun_at": None, "created_at": AT, "finished_at": None,
    },
    "ringback_attempt": {
        "id": ATTEMPT, "event_id": EVENT, "webhook_id": WEBHOOK, "number": 1, "started_at": AT, "duration_ms": 12,
        "outcome": "REJECTED", "error": "no", "status_code": 500, "request": {"headers": HEADERS}, "response": None,
    },
    "ringback_log": {
        "at": AT, "kind": "EVENT_RECORDED", "message": "m", "webhook_id": WEBHOOK, "event_id": EVENT,
        "attempt_id": None, "model": "lead", "transaction": 7,
    },
    "ringback_inbox": {
        "id": INBOX, "token": "t", "name": None, "responses": [{"status_code": 200}], "signing_secret": None,
        "request_count": 1, "created_at": AT,
    },
    "ringback_inbox_request": {
        "id": uuid4(), "inbox_id": INBOX, "received_at": AT, "method": "POST", "url": "/", "headers": HEADERS,
        "body": b"\x00\xff", "remote_address": None, "response_status_code": 200, "signature": "ABSENT",
        "event_id": EVENT,
    },
}  # fmt: skip


@pytest.fixture
def server(database_kind: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("postgres_server")) if database_kind == "postgres" else ""


@pytest_asyncio.fixture
async def empty(server: str, tmp_path: Path) -> AsyncIterator[Settings]:
    async with empty_database(server, tmp_path) as settings:
        yield settings


@asynccontextmanager
async def empty_database(server: str, folder: Path) -> AsyncIterator[Settings]:
    if not server:
        yield load_settings(data_dir=folder)
        return
    with postgres.other_statements():
        url = await postgres.create(server)
        yield load_settings(data_dir=folder, database_url=url)
        await postgres.drop(server, url)


async def fill(connection: BaseDBAsyncClient, table: str) -> None:
    await insert_row(connection, table, ROWS[table])


async def insert_row(connection: BaseDBAsyncClient, table: str, columns: dict[str, Any]) -> None:
    values = [json.dumps(value) if isinstance(value, dict | list) else value for value in columns.values()]
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    names = ", ".join(f'"{name}"' for name in columns)
    await execute(connection, f"INSERT INTO {table} ({names}) VALUES ({marks})", *values)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[BaseDBAsyncClient]:
    async with bootstrap._init_tortoise(bootstrap.tortoise_config(bootstrap.select_database(settings))):
        yield get_connection(bootstrap.CONNECTION)


@asynccontextmanager
async def migrate_to_0001(settings: Settings) -> AsyncIterator[BaseDBAsyncClient]:
    """Migrate a database up or down to 0001 and yield a connection to it."""
    async with connect(settings) as connection:
        executor = MigrationExecutor(connection, bootstrap.tortoise_apps())
        await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
        await executor.migrate([MigrationTarget("ringback", "0001_initial")])
        yield connection


@asynccontextmanager
async def create_as_earlier_commit(settings: Settings) -> AsyncIterator[BaseDBAsyncClient]:
    """Create a database with the schema of migration 0015 of an earlier commit and yield a connection to it."""
    kind = "sqlite" if settings.is_embedded else "postgres"
    script = Path(__file__).with_name(f"database_0015.{kind}.sql").read_text()
    if settings.is_embedded:
        file = sqlite3.connect(settings.database_path)
        file.executescript(script)
        file.close()
    else:
        session = await asyncpg.connect(settings.database_url)
        await session.execute(script)
        await session.close()
    async with connect(settings) as connection:
        yield connection


Before0016 = Callable[[Settings], AbstractAsyncContextManager[BaseDBAsyncClient]]


@pytest.fixture(params=[migrate_to_0001, create_as_earlier_commit])
def before_0016(request: pytest.FixtureRequest) -> Before0016:
    """Return a function that creates a database which lacks migration 0016."""
    create: Before0016 = request.param
    return create


async def test_rows_of_an_earlier_commit_are_migrated(empty: Settings) -> None:
    async with create_as_earlier_commit(empty) as connection:
        for table in ROWS:
            await fill(connection, table)
    assert await migrate(empty) == LATEST
    assert await migrate(empty) == []
    async with open_database(empty):
        webhook = await Webhook.get()
        assert (webhook.id, webhook.actions, webhook.headers, webhook.retry_delays) == (
            WEBHOOK,
            ["CREATED"],
            HEADERS,
            [5, 6],
        )
        assert (webhook.method, webhook.success_policy) == (HttpMethod.PUT, SuccessPolicy.ANY_2XX)
        change = await Change.get()
        assert (change.id, change.item, change.changed_fields, change.action) == (
            CHANGE,
            ITEM,
            ["name"],
            Action.UPDATED,
        )
        event = await Event.get()
        assert (event.id, event.status, event.next_attempt_at) == (EVENT, EventStatus.RETRYING, AT)
        assert (event.worker_id, event.claimed_at, event.test_item) == (None, None, None)
        attempt = await Attempt.get()
        assert (attempt.id, attempt.request, attempt.response) == (ATTEMPT, {"headers": HEADERS}, None)
        assert attempt.outcome is OutcomeName.REJECTED
        entry = await LogEntry.get()
        assert (entry.event_id, entry.transaction) == (EVENT, 7)
        assert (await Inbox.get()).responses == [{"status_code": 200}]
        request = await InboxRequest.get()
        assert (request.body, request.headers, request.attempt_number) == (b"\x00\xff", HEADERS, None)


async def test_a_database_of_an_earlier_commit_gets_the_schema_of_a_new_one(
    empty: Settings, server: str, tmp_path: Path
) -> None:
    async with create_as_earlier_commit(empty):
        pass
    await migrate(empty)
    async with empty_database(server, tmp_path / "new") as new:
        await migrate(new)
        schema_of_new = await schema(new)

    assert await schema(empty) == schema_of_new


SQLITE_SCHEMA = (
    "SELECT name, replace(sql, char(10) || '    ', ' ') FROM sqlite_master WHERE type = 'index'",
    """
    SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk
    FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
    """,
    """
    SELECT m.name, f."table", f."from", f."to", f.on_update, f.on_delete
    FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'
    """,
)
POSTGRES_SCHEMA = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT relname, reloptions::text FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    """
    SELECT table_name, column_name, data_type, character_maximum_length, numeric_precision, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public'
    """,
    """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
)


async def schema(settings: Settings) -> set[tuple[Any, ...]]:
    """Return the tables, columns, constraints, indexes and functions of a database."""
    statements = SQLITE_SCHEMA if settings.is_embedded else POSTGRES_SCHEMA
    rows = set()
    async with open_database(settings):
        for statement in statements:
            rows |= {tuple(row) for row in await fetch_rows(Event._meta.db, statement)}
    return rows


async def test_a_database_that_stopped_before_0015_is_refused(empty: Settings) -> None:
    async with create_as_earlier_commit(empty) as connection:
        await execute(connection, "DELETE FROM tortoise_migrations WHERE name > '0009_leases'")

    for refused in (migrate(empty), enter(empty)):
        with pytest.raises(ConfigurationError) as caught:
            await refused
        assert str(caught.value) == (
            f"The database {bootstrap.select_database(empty)} is too old for this program (it lacks 0010_rare). "
            "Check out an earlier commit that still has this migration, run `ringback migrate` there, then upgrade."
        )
    async with connect(empty) as connection:
        assert "ringback_worker" not in await table_names(connection)


async def enter(settings: Settings) -> None:
    async with open_database(settings):
        raise AssertionError("opened")


# 0016: workers with one lease each.

WAITING, RETRYING, CLAIMED, STARTED, CANCELLED_IN_FLIGHT, SUCCEEDED = (new_key() for _ in range(6))
#: Leases of 0015: their ends are in `due_at`.
LEASE, LEASE_ENDS = uuid4(), AT + timedelta(seconds=45)
BEFORE_0016: dict[UUID, dict[str, Any]] = {
    WAITING: {"status": "PENDING", "attempt_count": 0, "next_attempt_at": AT, "due_at": AT},
    RETRYING: {"status": "RETRYING", "attempt_count": 1, "next_attempt_at": AT + HOUR, "due_at": AT + HOUR},
    CLAIMED: {
        "status": "RETRYING", "attempt_count": 1, "next_attempt_at": AT, "due_at": LEASE_ENDS, "lease": LEASE,
    },
    STARTED: {
        "status": "PENDING", "attempt_count": 0, "next_attempt_at": AT, "due_at": LEASE_ENDS, "lease": LEASE,
        "lease_begun_at": AT + SECOND,
    },
    CANCELLED_IN_FLIGHT: {
        "status": "CANCELLED", "attempt_count": 0, "next_attempt_at": None, "due_at": LEASE_ENDS, "lease": LEASE,
        "lease_begun_at": AT + SECOND, "finished_at": AT,
    },
    SUCCEEDED: {
        "status": "SUCCEEDED", "attempt_count": 1, "next_attempt_at": None, "due_at": None, "finished_at": AT,
    },
}  # fmt: skip


#: Undoing 0016 creates them whether they were there before, as earlier commits had them, or not.
CLAIM_INDEXES_OF_0015 = {
    "ringback_event_under_way",
    "ringback_event_leased",
    "ringback_event_waiting_of",
    "ringback_event_waiting",
}


async def fill_before_0016(connection: BaseDBAsyncClient) -> None:
    """Insert events of every state that 0015 knows."""
    for table in ("ringback_webhook", "ringback_change"):
        await fill(connection, table)
    for event_id, columns in BEFORE_0016.items():
        await insert_row(connection, "ringback_event", {**ROWS["ringback_event"], "id": event_id, **columns})
    # Attempts refer to events, so a table of events that is dropped would be noticed.
    await insert_row(connection, "ringback_attempt", {**ROWS["ringback_attempt"], "event_id": SUCCEEDED})


async def events_of(connection: BaseDBAsyncClient, *columns: str) -> dict[UUID, tuple[Any, ...]]:
    """Return these columns of all events, ids and times decoded, by the event's id."""
    decoders: dict[str, Callable[[Any], Any]] = dict.fromkeys(columns, parse_timestamp)
    decoders |= {"lease": key_or_none, "worker_id": key_or_none, "status": str}
    rows = await fetch_rows(connection, f"SELECT id, {', '.join(columns)} FROM ringback_event")
    events = {}
    for event_id, *values in rows:
        decoded = [decoders[column](value) for column, value in zip(columns, values, strict=True)]
        events[as_uuid(event_id)] = tuple(decoded)
    return events


def key_or_none(value: Any) -> UUID | None:
    return None if value is None else as_uuid(value)


async def functions(connection: BaseDBAsyncClient) -> list[str]:
    """Return the names of Ringback's own functions; SQLite has none."""
    if not is_postgres(connection):
        return []
    rows = await fetch(connection, "SELECT proname FROM pg_proc WHERE proname LIKE 'ringback%' ORDER BY proname")
    return [row["proname"] for row in rows]


async def test_0016_keeps_started_attempts_and_makes_other_claims_due(empty: Settings, before_0016: Before0016) -> None:
    async with before_0016(empty) as connection:
        await fill_before_0016(connection)

    assert await migrate(empty) == LATEST

    async with open_database(empty):
        assert await events_of(Event._meta.db, "status", "next_attempt_at", "worker_id", "claimed_at") == {
            WAITING: ("PENDING", AT, None, None),
            RETRYING: ("RETRYING", AT + HOUR, None, None),
            CLAIMED: ("RETRYING", AT, None, None),
            STARTED: ("PENDING", AT, LEASE, AT + SECOND),
            CANCELLED_IN_FLIGHT: ("CANCELLED", None, LEASE, AT + SECOND),
            SUCCEEDED: ("SUCCEEDED", None, None, None),
        }
        assert await Event.filter(condition_pending=True).count() == 0
        assert await Worker.all().count() == 0
        assert [attempt.event_id for attempt in await Attempt.all()] == [SUCCEEDED]
        assert await functions(Event._meta.db) == []


async def test_after_0016_the_first_worker_finds_what_others_left(empty: Settings, before_0016: Before0016) -> None:
    async with before_0016(empty) as connection:
        await fill_before_0016(connection)
    await migrate(empty)

    async with open_database(empty):
        lease = await register_worker(60)
        orphans = await find_orphans(10)
        batch = await claim(lease.worker_id, ClaimRequest(free_slots=10, retry_slots=10, max_concurrency=50))

    assert {orphan.event_id for orphan in orphans} == {STARTED, CANCELLED_IN_FLIGHT}
    assert {orphan.claimed_at for orphan in orphans} == {AT + SECOND}
    assert {delivery.event.id for delivery in batch.deliveries} == {WAITING, CLAIMED, RETRYING}


async def test_0016_can_be_undone_and_applied_again(empty: Settings, before_0016: Before0016) -> None:
    async with before_0016(empty) as connection:
        await fill_before_0016(connection)
        indexes_before = await event_indexes(connection)
    await migrate(empty)
    async with open_database(empty):
        indexes_after = await event_indexes(Event._meta.db)
        lease = await register_worker(60)
        await Event.filter(id=WAITING).update(worker_id=lease.worker_id, claimed_at=AT + HOUR)

    async with migrate_to_0001(empty) as connection:
        down = await events_of(connection, "status", "next_attempt_at", "due_at", "lease", "lease_begun_at")
        indexes_down = await event_indexes(connection)
        tables = await table_names(connection)
    applied_again = await migrate(empty)

    # An attempt in flight has a lease that has ended, so the first worker of 0015 records it as ABANDONED.
    assert down == {
        WAITING: ("PENDING", AT, AT + HOUR, lease.worker_id, AT + HOUR),
        RETRYING: ("RETRYING", AT + HOUR, AT + HOUR, None, None),
        CLAIMED: ("RETRYING", AT, AT, None, None),
        STARTED: ("PENDING", AT, AT + SECOND, LEASE, AT + SECOND),
        CANCELLED_IN_FLIGHT: ("CANCELLED", None, AT + SECOND, LEASE, AT + SECOND),
        SUCCEEDED: ("SUCCEEDED", None, None, None, None),
    }
    assert indexes_down == {**indexes_down, **indexes_before}
    assert indexes_down.keys() == indexes_before.keys() | CLAIM_INDEXES_OF_0015
    assert "ringback_worker" not in tables
    assert applied_again == LATEST
    async with open_database(empty):
        assert await event_indexes(Event._meta.db) == indexes_after
        assert await functions(Event._meta.db) == []
        assert await events_of(Event._meta.db, "next_attempt_at", "worker_id", "claimed_at") == {
            WAITING: (AT, lease.worker_id, AT + HOUR),
            RETRYING: (AT + HOUR, None, None),
            CLAIMED: (AT, None, None),
            STARTED: (AT, LEASE, AT + SECOND),
            CANCELLED_IN_FLIGHT: (None, LEASE, AT + SECOND),
            SUCCEEDED: (None, None, None),
        }


# Fields that were added later.


async def test_all_rows_survive_the_way_down(empty: Settings) -> None:
    async with create_as_earlier_commit(empty) as connection:
        for table in ROWS:
            await fill(connection, table)
    await migrate(empty)

    async with migrate_to_0001(empty) as connection:
        counts = {table: await fetch_rows(connection, f"SELECT count(*) FROM {table}") for table in ROWS}

    assert {table: row[0] for table, (row,) in counts.items()} == dict.fromkeys(ROWS, 1)


# 0019: the fields of declared models.


async def test_0019_fills_the_fields_of_declared_models(empty: Settings) -> None:
    """A schema that a limit refuses now was accepted before. Its templates may use any path."""
    schemas = {
        "part": {"type": "object", "properties": {"price": {"type": "number", "description": "What it costs."}}},
        "refused": {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
    }
    async with migrate_to_0001(empty) as connection:
        for name, schema in schemas.items():
            row = {"name": name, "label": "", "description": "", "json_schema": json.dumps(schema), "sample": {}}
            await insert_row(connection, "ringback_declared_model", {**row, "created_at": AT, "updated_at": AT})

    assert await migrate(empty) == LATEST

    async with open_database(empty):
        part, refused = await DeclaredModel.all().order_by("name")
    assert part.field_infos == (FieldInfo("item.price", "float", "What it costs."),)
    assert refused.field_infos == (FieldInfo("item.*", "json", "Any other field."),)
    assert part.updated_at == AT


async def table_names(connection: BaseDBAsyncClient) -> set[str]:
    statement = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if is_postgres(connection):
        statement = "SELECT tablename AS name FROM pg_tables"
    return {row["name"] for row in await fetch(connection, statement)}


@pytest.mark.on_postgres
async def test_json_is_stored_as_it_was_written(database: Settings) -> None:
    """Members stay in their order, and every text that JSON can hold is held."""
    item: dict[str, Any] = {"zone": 1, "a": "\x00", "Z": {"y": 1.0, "b": 12345678901234567890, "aa": "😀"}, "": []}
    await Change.create(model="lead", action=Action.CREATED, object_id="1", item=item, created_at=AT)
    stored = (await Change.get()).item
    assert stored == item
    assert list(stored) == list(item)
    assert list(stored["Z"]) == list(item["Z"])


async def test_partial_indexes(database: Settings) -> None:
    indexes = await event_indexes(Event._meta.db)

    partial = {name for name, definition in indexes.items() if "WHERE" in definition}
    assert partial == {
        "ringback_event_tests",
        "ringback_event_waiting",
        "ringback_event_waiting_by_webhook",
        "ringback_event_claimed",
    }


async def test_the_other_indexes_of_events_are_those_of_the_model(database: Settings) -> None:
    definitions = (await event_indexes(Event._meta.db)).values()

    full = [definition.replace('"', "") for definition in definitions if "WHERE" not in definition]
    columns = {definition[definition.rindex("(") + 1 : -1] for definition in full if "UNIQUE" not in definition}
    assert columns == {"change_id", "status, id", "webhook_id, status, id", "model, id", "object_id, id"}


async def event_indexes(connection: BaseDBAsyncClient) -> dict[str, str]:
    """Return the definitions of the indexes of events, except those that SQLite makes itself, by name."""
    statement = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'ringback_event'"
    if is_postgres(connection):
        statement = "SELECT indexname AS name, indexdef AS sql FROM pg_indexes WHERE tablename = 'ringback_event'"
    rows = await fetch(connection, statement)
    return {row["name"]: " ".join(row["sql"].split()) for row in rows if row["sql"]}


@pytest.mark.on_postgres
async def test_a_webhooks_log_entries_have_one_index(database: Settings) -> None:
    rows = await fetch(Event._meta.db, "SELECT indexdef FROM pg_indexes WHERE tablename = 'ringback_log'")
    by_webhook = [row["indexdef"] for row in rows if "webhook_id" in row["indexdef"]]
    assert [index.partition("USING ")[2] for index in by_webhook] == ["btree (webhook_id, transaction, id)"]


async def test_a_database_can_be_created_after_another_one_was_open(database: Settings, tmp_path: Path) -> None:
    await Installation.create(id=2, epoch=new_key(), created_at=await clock.now())
    fresh = load_settings(data_dir=tmp_path / "fresh")
    # In a thread: a program has one database open at a time.
    applied = await asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(bootstrap.migrate(fresh)))
    assert applied == [f"ringback.{name}" for name in bootstrap.list_migrations()]
