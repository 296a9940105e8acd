"""What acceptance tests share: the operations they begin with, and the program's database from outside."""

import datetime as dt
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from ringback.models.ids import Prefix, decode
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

CREATE_INBOX = """
mutation ($input: CreateInboxInput!) { createInbox(input: $input) { inbox { id url } errors { field message } } }
"""
CREATE_WEBHOOK = """
mutation ($input: CreateWebhookInput!) { createWebhook(input: $input) { webhook { id } errors { field message } } }
"""
TEST_FIRE = """
mutation ($input: TestFireWebhookInput!) { testFireWebhook(input: $input) { event { id } errors { field message } } }
"""
REQUEST_CALLBACK = """
mutation ($input: RequestCallbackInput!) { requestCallback(input: $input) { lead { id } errors { field message } } }
"""
UPDATE_LEAD = """
mutation ($input: UpdateLeadInput!) { updateLead(input: $input) { lead { id } errors { field message } } }
"""
TRACK_LEADS = "mutation { updateSiteSettings(input: {trackLeads: true}) { errors { message } } }"
EVENT = """
query ($id: ID!) { event(id: $id) {
  id status attemptCount maxAttempts nextAttemptAt createdAt finishedAt
  attempts { number startedAt durationMs outcome statusCode error request { url } response { body } }
} }
"""
EVENTS_OF = """
query ($webhooks: [ID!]) { events(first: 50, filter: {webhookIds: $webhooks}) { nodes {
  id status attemptCount maxAttempts nextAttemptAt createdAt finishedAt
  attempts { number startedAt durationMs outcome statusCode error request { url } response { body } }
} } }
"""


def create_inbox(program: Program, *responses: dict[str, Any]) -> str:
    """The address of a new inbox with these responses."""
    made = program.query(CREATE_INBOX, {"input": {"responses": list(responses) or [{}]}})["createInbox"]
    assert made["errors"] == []
    return str(made["inbox"]["url"])


def create_webhook(program: Program, url: str, **fields: Any) -> str:
    """Return the id of a new webhook on `lead`, whose endpoint may be as slow as a busy machine makes it."""
    given = {"model": "lead", "actions": ["CREATED"], "url": url, "timeoutSeconds": 30, **fields}
    made = program.query(CREATE_WEBHOOK, {"input": given})["createWebhook"]
    assert made["errors"] == []
    return str(made["webhook"]["id"])


def test_fire(program: Program, webhook_id: str, **item: Any) -> str:
    """The id of a new test event."""
    given = {"webhookId": webhook_id, "action": "CREATED", "item": item}
    made = program.query(TEST_FIRE, {"input": given})["testFireWebhook"]
    assert made["errors"] == []
    return str(made["event"]["id"])


test_fire.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def event(program: Program, event_id: str) -> dict[str, Any]:
    found: dict[str, Any] = program.query(EVENT, {"id": event_id})["event"]
    return found


def ended(program: Program, event_id: str) -> dict[str, Any]:
    """The event, once it has ended."""

    def look() -> dict[str, Any] | None:
        found = event(program, event_id)
        return found if found["status"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

    found: dict[str, Any] = program.wait_until(look, f"the end of {event_id}")
    return found


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


@contextmanager
def database(program: Program) -> Iterator[sqlite3.Connection]:
    """The program's database by a connection of the test's own; every statement commits."""
    connection = sqlite3.connect(program.data_dir / "ringback.db", timeout=PATIENCE_SECONDS, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def make_due(program: Program, event_ids: Sequence[str]) -> None:
    """Move the next attempts of waiting events to now."""
    now = str(dt.datetime.now(dt.UTC))
    with database(program) as connection:
        for event_id in event_ids:
            changed = connection.execute(
                "UPDATE ringback_event SET next_attempt_at = ? WHERE id = ? AND status = 'RETRYING'",
                [now, str(key(event_id))],
            )
            assert changed.rowcount == 1


def key(event_id: str) -> UUID:
    return decode(Prefix.EVENT, event_id)
