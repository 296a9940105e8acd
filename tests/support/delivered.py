"""Checks that events on Postgres were delivered, whatever happened to workers, brokers and the database."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg

from ringback.models.ids import Prefix, encode
from tests.support.load import Load
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.receiver import Receiver

_UNFINISHED = "SELECT count(*) FROM ringback_event WHERE status IN ('PENDING', 'RETRYING') OR worker_id IS NOT NULL"


def fetch(url: str, statement: str, *values: Any) -> list[asyncpg.Record]:
    """Return the rows of a statement, read by a separate connection."""

    async def rows() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    return asyncio.run(rows())


def wait_until_all_ended(program: Program, url: str, seconds: float = 2 * PATIENCE_SECONDS) -> None:
    """Wait until no event is waiting or in flight."""
    program.wait_until(lambda: fetch(url, _UNFINISHED)[0][0] == 0, "the end of all events", seconds)


def check_deliveries(url: str, receiver: Receiver, load: Load, webhooks: int) -> Counter[str]:
    """Check that nothing acknowledged is lost, stuck or recorded wrongly; returns the number of attempts by outcome.

    An event that was accepted twice must have an ABANDONED attempt, every request must have an attempt, and no worker
    may send an attempt after another one has continued with the next.
    """
    events = fetch(url, "SELECT id, status, attempt_count FROM ringback_event")
    outcomes: dict[Any, list[str]] = {event["id"]: [] for event in events}
    numbers: dict[Any, list[int]] = {event["id"]: [] for event in events}
    for row in fetch(url, "SELECT event_id, number, outcome FROM ringback_attempt ORDER BY event_id, number"):
        outcomes[row["event_id"]].append(row["outcome"])
        numbers[row["event_id"]].append(row["number"])
    leads = {encode(Prefix.LEAD, row["id"]) for row in fetch(url, "SELECT id FROM lead")}
    changes = fetch(url, "SELECT action, object_id FROM ringback_change")
    assert load.created <= leads, "acknowledged leads are gone"
    assert {change["object_id"] for change in changes if change["action"] == "CREATED"} == leads
    assert sum(change["action"] == "UPDATED" for change in changes) >= len(load.updated)
    assert len(events) == webhooks * len(changes), "a change without an event of each webhook"
    for event in events:
        key, name = event["id"], encode(Prefix.EVENT, event["id"])
        assert event["status"] == "SUCCEEDED", outcomes[key]
        assert numbers[key] == list(range(1, event["attempt_count"] + 1)), "a number is missing"
        assert outcomes[key].count("DELIVERED") == 1
        assert 1 <= receiver.seen[name] <= len(outcomes[key]), "a request without an attempt"
        assert receiver.numbers[name] == sorted(receiver.numbers[name]), "an attempt was sent after the next one"
        accepted = receiver.seen[name] - receiver.refused[name]
        assert accepted == 1 or "ABANDONED" in outcomes[key], "a duplicate though no worker died"
    return Counter(outcome for of_event in outcomes.values() for outcome in of_event)
