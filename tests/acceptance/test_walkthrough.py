"""The README's walkthrough, and the one of docs/templates.md, run as written against the started program."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from graphql import OperationDefinitionNode, parse

from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
WALKTHROUGH = README.split("<!-- walkthrough -->")[1].split("<!-- /walkthrough -->")[0]
TEMPLATES = (ROOT / "docs" / "templates.md").read_text()


def blocks() -> dict[str, str]:
    """The operations of both texts by name."""
    operations = {}
    for text in re.findall(r"```graphql\n(.*?)```", WALKTHROUGH + TEMPLATES, re.DOTALL):
        operation = parse(text).definitions[0]
        assert isinstance(operation, OperationDefinitionNode)
        assert operation.name
        operations[operation.name.value] = text
    return operations


class Reader:
    """Somebody who runs the blocks in turn and puts in what earlier answers gave."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.known: dict[str, str] = {}

    def text(self, name: str) -> str:
        text = blocks()[name]
        for word, value in self.known.items():
            text = text.replace(f'"{word}"', json.dumps(value))
        assert not re.search(r'"[A-Z]+_[A-Z]+"', text), text
        return text

    def run(self, name: str) -> Any:
        answers = self.program.query(self.text(name)).values()
        for answer in answers:
            assert answer.get("errors", []) == [], answer
        return list(answers)[-1]

    def newest_request(self) -> Any:
        return self.run("InboxRequests")["requests"]["nodes"]


@asynccontextmanager
async def live_log(program: Program, document: str) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """What the live log shows from now on."""
    transport = WebsocketsTransport(
        url=program.url.replace("http", "ws", 1) + "/graphql",
        init_payload={"Authorization": f"Bearer {program.token}"},
        subprotocols=["graphql-transport-ws"],
    )
    shown: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with Client(transport=transport) as session:

        async def follow() -> None:
            async for entry in session.subscribe(gql(document)):
                shown.put_nowait(entry["deliveryLog"])

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        # What is asked afterwards over the same connection is answered afterwards; then the subscription has begun.
        for _ in range(3):
            await session.execute(gql("{ leads { nodes { id } } }"))
        yield shown
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_walkthrough(program: Program) -> None:
    reader = Reader(program)
    inbox = reader.run("CreateInbox")["inbox"]
    reader.known |= {"INBOX_ID": inbox["id"], "INBOX_URL": inbox["url"]}
    created = reader.run("CreateWebhook")
    assert re.fullmatch(r"whsec_\S+", created["signingSecret"])
    reader.known["WEBHOOK_ID"] = created["webhook"]["id"]

    async with live_log(program, reader.text("DeliveryLog")) as entries:
        answer = await asyncio.to_thread(reader.run, "RequestCallback")
        assert answer["lead"]["name"] == "Мария Иванова"
        async with asyncio.timeout(PATIENCE_SECONDS):
            recorded, attempted = await entries.get(), await entries.get()
    assert recorded["kind"] == "EVENT_RECORDED"
    assert recorded["attempt"] is None
    assert attempted["kind"] == "ATTEMPT_FINISHED"
    assert attempted["attempt"] == {"number": 1, "outcome": "DELIVERED", "statusCode": 200}
    assert recorded["event"]["id"] == attempted["event"]["id"]

    (request,) = await asyncio.to_thread(reader.newest_request)
    assert request["method"] == "POST"
    assert request["body"].startswith("phone=%2B7+900+000-00-00&name=%D0%9C")
    assert parse_qsl(request["body"]) == [("phone", "+7 900 000-00-00"), ("name", "Мария Иванова")]
    headers = {header["name"]: header["value"] for header in request["headers"]}
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["ringback-event"] == "lead.created"
    assert headers["webhook-id"] == headers["ps-webhook_event-id"] == recorded["event"]["id"]
    assert re.fullmatch(r"\d+", headers["webhook-timestamp"])
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["user-agent"].startswith("Ringback/")
    assert request["signature"] == "VALID"
    assert request["event"] == {"id": recorded["event"]["id"]}

    reader.known["EVENT_ID"] = headers["ps-webhook_event-id"]
    event = await asyncio.to_thread(reader.run, "Event")
    assert event["status"] == "SUCCEEDED"
    (attempt,) = event["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["statusCode"]) == (1, "DELIVERED", 200)
    assert attempt["request"] == {"url": inbox["url"], "body": request["body"]}
    assert attempt["response"] == {"body": ""}
    await asyncio.to_thread(check_the_rest, reader)


def check_the_rest(reader: Reader) -> None:
    """Run the walkthrough from the list of webhooks to the deletion."""
    (webhook,) = reader.run("Webhooks")["nodes"]
    assert (webhook["name"], webhook["model"]["name"], webhook["isActive"]) == ("New leads", "lead", True)
    assert webhook["lastAttempt"]["outcome"] == "DELIVERED"
    assert [event["id"] for event in reader.run("WebhookLog")["events"]["nodes"]] == [reader.known["EVENT_ID"]]
    assert reader.run("UpdateWebhook")["webhook"] == {"sendJson": True}
    fired = reader.run("TestFireWebhook")["event"]["id"]

    def newest_body() -> str | None:
        (request,) = reader.newest_request()
        return str(request["body"]) if request["event"]["id"] == fired else None

    body = json.loads(reader.program.wait_until(newest_body, "the test event"))
    assert body["name"] == "Мария Иванова"
    assert reader.run("RedeliverEvent")["event"]["status"] == "RETRYING"
    assert reader.run("DeleteWebhook")["deletedId"] == reader.known["WEBHOOK_ID"]
    assert reader.run("Webhooks")["nodes"] == []


def test_walkthrough_with_json(program: Program) -> None:
    reader = Reader(program)
    inbox = reader.run("CreateInbox")["inbox"]
    reader.known |= {"INBOX_ID": inbox["id"], "INBOX_URL": inbox["url"]}
    order = reader.run("CreateOrder")["order"]
    assert order["total"] == "701.00"
    reader.known["ORDER_ID"] = order["id"]
    reader.run("CreateOrderWebhook")
    assert reader.run("UpdateOrder")["order"] == {"comment": "Call before delivery"}

    (request,) = program.wait_until(reader.newest_request, "the order's update")
    headers = {header["name"]: header["value"] for header in request["headers"]}
    assert headers["content-type"] == "application/json"
    assert headers["ringback-event"] == "customer_order.updated"
    item = json.loads(request["body"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", item.pop("created_at"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", item.pop("updated_at"))
    assert item == {
        "id": order["id"],
        "number": "1001",
        "status": "NEW",
        "comment": "Call before delivery",
        "customer": {"name": "Мария Иванова", "phone": "+7 900 000-00-00", "email": None},
        "items": [
            {
                "brand": "BOSCH",
                "article": "0 986 494 524",
                "name": "Brake pads",
                "quantity": 2,
                "price": "350.50",
                "total": "701.00",
            }
        ],
        "total": "701.00",
    }


def test_with_track_leads_off_the_form_is_accepted_and_nothing_else(program: Program) -> None:
    reader = Reader(program)
    inbox = reader.run("CreateInbox")["inbox"]
    reader.known |= {"INBOX_ID": inbox["id"], "INBOX_URL": inbox["url"]}
    reader.run("CreateWebhook")
    form = '{name: "Ada", phone: "+1 555 0100"}'
    answer = program.query(f"mutation {{ requestCallback(input: {form}) {{ accepted lead {{ id }} }} }}")
    assert answer["requestCallback"] == {"accepted": True, "lead": None}
    assert program.query("{ leads { nodes { id } } events { nodes { id } } }") == {
        "leads": {"nodes": []},
        "events": {"nodes": []},
    }


def test_the_curl_example(program: Program) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: apt-get install curl")
    (command,) = re.findall(r"```sh\n(curl .*?)```", WALKTHROUGH, re.DOTALL)
    command = command.replace("http://127.0.0.1:8000", program.url).replace(
        "$(cat .ringback/admin-token)", program.token
    )
    answer = json.loads(
        subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=PATIENCE_SECONDS).stdout
    )
    assert [model["name"] for model in answer["data"]["webhookModels"]] == ["customer_order", "lead"]
