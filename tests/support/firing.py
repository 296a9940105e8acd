"""A webhook to an inbox of the program's own, and test-fires of it: what the clients watch."""

import json
from typing import Any
from uuid import uuid4

from ringback.models.delivery_log import Position
from tests.support.program import Program


def webhook_to_inbox(program: Program) -> str:
    """Make an inbox and a webhook on leads that delivers to it; return the webhook's id."""
    made = program.query('mutation { createInbox(input: {name: "target"}) { inbox { url } errors { message } } }')
    assert made["createInbox"]["errors"] == []
    answer = program.query(
        """
        mutation ($url: String!) {
          createWebhook(
            input: {
              name: "Watched", model: "lead", actions: [CREATED], url: $url, timeoutSeconds: 30
              bodyTemplate: "name={{ item.name | url_encode }}"
            }
          ) { webhook { id } errors { message } }
        }
        """,
        {"url": made["createInbox"]["inbox"]["url"]},
    )["createWebhook"]
    assert answer["errors"] == []
    webhook_id = answer["webhook"]["id"]
    assert isinstance(webhook_id, str)
    return webhook_id


FIRE = """
mutation Fire($id: ID!) {
  testFireWebhook(input: {webhookId: $id}) { event { id isTest } errors { message } }
}
"""


def fire(program: Program, webhook_id: str) -> str:
    """Test-fire a webhook; return the event's id."""
    answer = program.query(FIRE, {"id": webhook_id})["testFireWebhook"]
    assert answer["errors"] == []
    assert answer["event"]["isTest"] is True
    event_id = answer["event"]["id"]
    assert isinstance(event_id, str)
    return event_id


#: What one test-fire writes to the log.
KINDS = ["EVENT_RECORDED", "ATTEMPT_FINISHED", "EVENT_SUCCEEDED"]


def of_another_database() -> str:
    """Return a cursor that no other database has given out."""
    return Position(uuid4(), 0, 0).cursor()


def check_a_test_fire(entries: list[Any], event_id: str) -> None:
    """Check that these entries tell of one test-fire that was delivered."""
    delivered = {"number": 1, "outcome": "DELIVERED", "statusCode": 200}
    assert [entry["kind"] for entry in entries] == KINDS
    assert {entry["event"]["id"] for entry in entries} == {event_id}
    assert [entry["attempt"] for entry in entries] == [None, delivered, delivered]
    assert len({entry["cursor"] for entry in entries}) == len(KINDS)


def oldest_cursor(program: Program) -> str:
    """The beginning of this program's log, as a refused cursor tells it."""
    document = "subscription ($after: String) { deliveryLog(after: $after) { cursor } }"
    asked = json.dumps({"query": document, "variables": {"after": of_another_database()}}).encode()
    bearer = {"Authorization": f"Bearer {program.token}"}
    headers = {**bearer, "Content-Type": "application/json", "Accept": "text/event-stream"}
    status, _, stream = program.request("POST", "/graphql", asked, headers)
    ((error),) = json.loads(stream.split(b"data: ")[1].splitlines()[0])["errors"]
    assert (status, error["extensions"]["code"]) == (200, "CURSOR_EXPIRED")
    cursor = error["extensions"]["oldestCursor"]
    assert isinstance(cursor, str)
    return cursor
