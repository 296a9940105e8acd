"""The ready tabs of GraphiQL, run in order against the started program."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.support.program import Program

TABS = (Path(__file__).parents[2] / "web" / "src" / "tabs.js").read_text()


def tabs() -> dict[str, tuple[str, str]]:
    """Return the query and the variables of each tab, by the name of its operation."""
    queries = re.findall(r"query: `([^`]*)`", TABS)
    variables = re.findall(r"variables: `([^`]*)`", TABS)
    names = [re.search(r"^(?:query|mutation|subscription) (\w+)", query, re.MULTILINE) for query in queries]
    pairs = zip(queries, variables, strict=True)
    return {name[1]: pair for name, pair in zip(names, pairs, strict=True) if name}


class Visitor:
    """Somebody who runs the tabs in turn and replaces each placeholder by a value from an earlier response."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.values: dict[str, str] = {}

    def run(self, name: str) -> dict[str, Any]:
        query, variables = tabs()[name]
        text = "\n".join(line for line in variables.splitlines() if not line.strip().startswith("//"))
        for placeholder, value in self.values.items():
            text = text.replace(json.dumps(placeholder, ensure_ascii=False), json.dumps(value))
        assert "…" not in text, text

        data = self._program.query(query, json.loads(text))

        errors = [error for answer in data.values() if answer for error in answer.get("errors", [])]
        assert errors == []
        return data


def test_the_tour_runs_in_order(program: Program) -> None:
    visitor = Visitor(program)

    inbox = visitor.run("CreateInbox")["createInbox"]["inbox"]
    visitor.values |= {"inb_…": inbox["id"], "http://…/inbox/…": inbox["url"]}
    webhook = visitor.run("CreateWebhook")["createWebhook"]["webhook"]
    visitor.values["whk_…"] = webhook["id"]
    lead = visitor.run("RequestCallback")["requestCallback"]["lead"]
    assert lead["name"] == "Мария Иванова"

    def requests() -> list[Any]:
        nodes = visitor.run("InboxRequests")["inbox"]["requests"]["nodes"]
        assert isinstance(nodes, list)
        return nodes

    (request,) = program.wait_until(requests, "the callback's request")
    assert parse_qsl(request["body"]) == [("phone", "+7 900 000-00-00"), ("name", "Мария Иванова")]
    assert request["signature"] == "VALID"

    event_id = request["event"]["id"]
    visitor.values["evt_…"] = event_id
    event = program.wait_until(lambda: _succeeded(visitor.run("Event")["event"]), "the event's success")
    assert [attempt["outcome"] for attempt in event["attempts"]] == ["DELIVERED"]
    (listed,) = visitor.run("Webhooks")["webhooks"]["nodes"]
    assert (listed["name"], listed["lastAttempt"]["statusCode"]) == ("New leads", 200)
    log = visitor.run("WebhookLog")["webhook"]
    assert (log["name"], log["isActive"]) == ("New leads", True)
    assert [node["id"] for node in log["events"]["nodes"]] == [event_id]

    assert visitor.run("UpdateWebhook")["updateWebhook"]["webhook"]["sendJson"] is True
    test_event = visitor.run("TestFireWebhook")["testFireWebhook"]["event"]
    program.wait_until(lambda: len(requests()) == 2, "the test event's request")
    newest = requests()[0]
    assert newest["event"] == {"id": test_event["id"]}
    assert json.loads(newest["body"]) == test_event["item"]

    assert visitor.run("RedeliverEvent")["redeliverEvent"]["event"]["id"] == event_id
    assert visitor.run("DeleteWebhook")["deleteWebhook"] == {"deletedId": webhook["id"], "errors": []}
    assert visitor.run("Webhooks")["webhooks"]["nodes"] == []


def _succeeded(event: Any) -> Any:
    return event if event["status"] == "SUCCEEDED" else None
