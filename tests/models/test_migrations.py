"""Migrations on databases that are in use: what the first release left must be there afterwards, on both kinds."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget

from ringback.models import Settings, clock, db, load_settings, migrate, opened
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import new_key
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.log import Installation, LogEntry
from ringback.models.statements import execute, fetch, on_postgres
from ringback.models.states import EventStatus, OutcomeName
from ringback.models.webhook import Action, HttpMethod, SuccessPolicy, Webhook
from tests.support import postgres

pytestmark = pytest.mark.every_database

AT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
ITEM = {"zone": "Ø", "a": {"b": [1, 2.5, None, True]}, "name": 'O"Hara', "": "Ада"}
HEADERS = [["X-A", "1"], ["X-A", "2"]]
WEBHOOK, CHANGE, EVENT, ATTEMPT, INBOX = (uuid4() for _ in range(5))
#: As 0001 has them.
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
        "attempt_id": None, "model": "lead",
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
    if not server:
        yield load_settings(data_dir=tmp_path)
        return
    with postgres.other_statements():
        url = await postgres.create(server)
        yield load_settings(data_dir=tmp_path, database_url=url)
        await postgres.drop(server, url)


async def fill(connection: BaseDBAsyncClient, table: str) -> None:
    columns = ROWS[table]
    values = [json.dumps(value) if isinstance(value, dict | list) else value for value in columns.values()]
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await execute(connection, f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", *values)


async def test_what_the_first_release_left(empty: Settings) -> None:
    config = db.tortoise_config(db.chosen_database(empty))
    async with db._initialised(config):
        connection = get_connection(db.CONNECTION)
        executor = MigrationExecutor(connection, {"ringback": config["apps"]["ringback"]})
        await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
        await executor.migrate([MigrationTarget("ringback", "0002_first_rows")])
        for table in ROWS:
            await fill(connection, table)
    assert await migrate(empty) == [f"ringback.{name}" for name in db.known_migrations()[2:]]
    async with opened(empty):
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
        assert (event.id, event.status, event.due_at, event.test_item) == (EVENT, EventStatus.RETRYING, AT, None)
        attempt = await Attempt.get()
        assert (attempt.id, attempt.request, attempt.response) == (ATTEMPT, {"headers": HEADERS}, None)
        assert attempt.outcome is OutcomeName.REJECTED
        entry = await LogEntry.get()
        assert (entry.event_id, entry.transaction) == (EVENT, 0)
        assert (await Inbox.get()).responses == [{"status_code": 200}]
        request = await InboxRequest.get()
        assert (request.body, request.headers, request.attempt_number) == (b"\x00\xff", HEADERS, None)


@pytest.mark.on_postgres
async def test_json_is_kept_as_it_was_written(database: Settings) -> None:
    """Members stay in their order, and every text that JSON can hold is held."""
    item: dict[str, Any] = {"zone": 1, "a": "\x00", "Z": {"y": 1.0, "b": 12345678901234567890, "aa": "😀"}, "": []}
    await Change.create(model="lead", action=Action.CREATED, object_id="1", item=item, created_at=AT)
    stored = (await Change.get()).item
    assert stored == item
    assert list(stored) == list(item)
    assert list(stored["Z"]) == list(item["Z"])


async def test_indexes_that_only_some_rows_need(database: Settings) -> None:
    connection = Event._meta.db
    if on_postgres(connection):
        rows = await fetch(connection, "SELECT indexdef AS sql FROM pg_indexes WHERE tablename = 'ringback_event'")
    else:
        rows = await fetch(
            connection, "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'ringback_event'"
        )
    partial = [row["sql"] for row in rows if row["sql"] and "WHERE" in row["sql"]]
    assert len(partial) == 5


@pytest.mark.on_postgres
async def test_a_webhooks_log_entries_have_one_index(database: Settings) -> None:
    rows = await fetch(Event._meta.db, "SELECT indexdef FROM pg_indexes WHERE tablename = 'ringback_log'")
    by_webhook = [row["indexdef"] for row in rows if "webhook_id" in row["indexdef"]]
    assert [index.partition("USING ")[2] for index in by_webhook] == ["btree (webhook_id, transaction, id)"]


async def test_a_database_is_made_after_another_one_was_used(database: Settings, tmp_path: Path) -> None:
    await Installation.create(id=2, epoch=new_key(), created_at=await clock.now())
    fresh = load_settings(data_dir=tmp_path / "fresh")
    # In a thread: a program has one database open at a time.
    applied = await asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(db.migrate(fresh)))
    assert applied == [f"ringback.{name}" for name in db.known_migrations()]
