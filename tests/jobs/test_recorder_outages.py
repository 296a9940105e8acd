"""The recorder while Postgres ends its sessions: no result is lost."""

import asyncio
from typing import Any

import asyncpg
import pytest
import structlog

from ringback.jobs.recorder import Recorder
from ringback.models.settings import Settings
from tests.support import builders
from tests.support.builders import OK, later, result
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.on_postgres

ROUNDS = 5
#: The sessions that wait for a row lock.
BLOCKED = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def end_blocked_session(outside: Any) -> None:
    """Wait until a session waits for a lock, and end it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (pid := await outside.fetchval(BLOCKED)) is None:
            await asyncio.sleep(0.001)
    assert await outside.fetchval("SELECT pg_terminate_backend($1)", pid)


async def test_a_result_is_stored_although_sessions_are_ended_while_they_store_it(database: Settings) -> None:
    webhook = await builders.webhook()
    events = [await builders.event(webhook) for _ in range(ROUNDS)]
    lease = await builders.claim(*events)
    now = await later()
    recorder = Recorder()
    recording = asyncio.create_task(recorder.run())
    outside = await asyncpg.connect(database.database_url)

    with structlog.testing.capture_logs() as logs:
        for event in events:
            async with outside.transaction():
                await outside.execute("SELECT FROM ringback_event WHERE id = $1 FOR UPDATE", event.id)
                recorder.put(result(event, lease, OK, ended_at=now))
                await end_blocked_session(outside)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await recorder.drain()

    recording.cancel()
    outcomes = await outside.fetch("SELECT outcome, count(*) FROM ringback_attempt GROUP BY outcome")
    statuses = await outside.fetch("SELECT status, count(*) FROM ringback_event GROUP BY status")
    await outside.close()
    assert [tuple(row) for row in outcomes] == [("DELIVERED", ROUNDS)]
    assert [tuple(row) for row in statuses] == [("SUCCEEDED", ROUNDS)]
    messages = [entry["event"] for entry in logs]
    assert messages.count("cannot record attempts; trying again") >= ROUNDS
    assert [event for event in messages if "cannot be stored" in event] == []
