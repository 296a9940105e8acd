"""Objects of other programs on the started program, with the operations of docs/models.md: declared to delivered."""

import re
from pathlib import Path
from urllib.parse import parse_qsl

from tests.support.deliveries import create_inbox, create_webhook, wait_until_ended
from tests.support.program import Program

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
SECTION = PAGE.split("## Objects of other programs")[1].split("\n## ")[0]
DECLARE, CREATE_WEBHOOK, PUBLISH = re.findall(r"```graphql\n(.*?)```", SECTION, re.DOTALL)


def test_a_published_change_is_delivered(program: Program) -> None:
    declared = program.query(DECLARE)["declareModel"]
    assert declared["errors"] == []
    assert declared["model"]["fields"] == [
        {"path": "item.sku", "type": "string"},
        {"path": "item.price", "type": "float"},
    ]
    template = "sku={{ item.sku | url_encode }}&price={{ item.price }}&changed={{ event.changed_fields | join: ',' }}"
    form, json = (
        create_webhook(
            program, create_inbox(program), model="part", actions=["UPDATED"], retryDelaysSeconds=[0], **fields
        )
        for fields in ({"bodyTemplate": template, "condition": "item.price < 350"}, {"sendJson": True})
    )
    inbox_url = create_inbox(program)
    made = program.query(CREATE_WEBHOOK.replace("INBOX_URL", inbox_url))["createWebhook"]
    assert made["errors"] == []
    published = program.query(PUBLISH)["publishChanges"]
    assert published["errors"] == []
    (change,) = published["changes"]
    assert (change["objectId"], change["duplicate"], len(change["eventIds"])) == ("4711", False, 3)
    events = [wait_until_ended(program, event_id) for event_id in change["eventIds"]]
    assert [event["status"] for event in events] == ["SUCCEEDED"] * 3
    bodies = {webhook: body for webhook in (form, json) for body in bodies_of(program, webhook)}
    assert dict(parse_qsl(bodies[form])) == {"sku": "0 986 494 524", "price": "349", "changed": "price"}
    assert bodies[json] == '{"sku":"0 986 494 524","price":349}'
    # Publish again, as after a lost response.
    assert program.query(PUBLISH)["publishChanges"]["changes"] == [{**change, "duplicate": True}]
    assert [len(bodies_of(program, webhook)) for webhook in (form, json)] == [1, 1]


def bodies_of(program: Program, webhook_id: str) -> list[str]:
    """Return the request bodies of all attempts of a webhook."""
    document = "query ($id: [ID!]) { attempts(first: 9, filter: {webhookIds: $id}) { nodes { request { body } } } }"
    nodes = program.query(document, {"id": [webhook_id]})["attempts"]["nodes"]
    return [node["request"]["body"] for node in nodes]
