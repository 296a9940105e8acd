"""A webhook to an inbox of the program's own, and test-fires of it: what the clients watch."""

from tests.program import Program


def webhook_to_inbox(program: Program) -> str:
    """Make an inbox and a webhook on leads that delivers to it; the webhook's id."""
    made = program.query('mutation { createInbox(input: {name: "target"}) { inbox { url } errors { message } } }')
    assert made["createInbox"]["errors"] == []
    answer = program.query(
        """
        mutation ($url: String!) {
          createWebhook(
            input: {
              name: "Watched", model: "lead", actions: [CREATED], url: $url
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
    """Test-fire a webhook; the event's id."""
    answer = program.query(FIRE, {"id": webhook_id})["testFireWebhook"]
    assert answer["errors"] == []
    assert answer["event"]["isTest"] is True
    event_id = answer["event"]["id"]
    assert isinstance(event_id, str)
    return event_id
