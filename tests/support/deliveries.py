"""GraphQL operations that acceptance tests share, and access to the program's database from outside."""

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
    """Create an inbox with these responses, and return its URL."""
    payload = program.query(CREATE_INBOX, {"input": {"responses": list(responses) or [{}]}})["createInbox"]
    assert payload["errors"] == []
    return str(payload["inbox"]["url"])


def create_webhook(program: Program, url: str, **fields: Any) -> str:
    """Create a webhook on `lead`, with a timeout for busy machines, and return its id."""
    given = {"model": "lead", "actions": ["CREATED"], "url": url, "timeoutSeconds": 30, **fields}
    payload = program.query(CREATE_WEBHOOK, {"input": given})["createWebhook"]
    assert payload["errors"] == []
    return str(payload["webhook"]["id"])


def test_fire(program: Program, webhook_id: str, **item: Any) -> str:
    """Fire a test event, and return its id."""
    given = {"webhookId": webhook_id, "action": "CREATED", "item": item}
    payload = program.query(TEST_FIRE, {"input": given})["testFireWebhook"]
    assert payload["errors"] == []
    return str(payload["event"]["id"])


test_fire.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest


def fetch_event(program: Program, event_id: str) -> dict[str, Any]:
    current: dict[str, Any] = program.query(EVENT, {"id": event_id})["event"]
    return current


def wait_until_ended(program: Program, event_id: str) -> dict[str, Any]:
    """Wait until an event has ended, and return it."""

    def find_ended() -> dict[str, Any] | None:
        current = fetch_event(program, event_id)
        if current["status"] in ("SUCCEEDED", "FAILED", "CANCELLED"):
            return current
        return None

    ended_event: dict[str, Any] = program.wait_until(find_ended, f"the end of {event_id}")
    return ended_event


def parse_time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


@contextmanager
def open_database(program: Program) -> Iterator[sqlite3.Connection]:
    """Connect to the program's database; every statement commits."""
    connection = sqlite3.connect(program.data_dir / "ringback.db", timeout=PATIENCE_SECONDS, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def make_due(program: Program, event_ids: Sequence[str]) -> None:
    """Move the next attempts of waiting events to now."""
    now = str(dt.datetime.now(dt.UTC))
    with open_database(program) as connection:
        for event_id in event_ids:
            changed = connection.execute(
                "UPDATE ringback_event SET next_attempt_at = ? WHERE id = ? AND status = 'RETRYING'",
                [now, str(event_uuid(event_id))],
            )
            assert changed.rowcount == 1


def event_uuid(event_id: str) -> UUID:
    return decode(Prefix.EVENT, event_id)
