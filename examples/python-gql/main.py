"""Test-fires a webhook whose endpoint is busy at first, and follows the delivery to its end.

Queries and mutations go over HTTP, the live log over a WebSocket. `follow` is the part to copy.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gql import Client, GraphQLRequest, gql
from gql.client import AsyncClientSession
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from websockets.exceptions import ConnectionClosed

URL = os.environ.get("RINGBACK_URL", "http://127.0.0.1:8000") + "/graphql"
TOKEN = os.environ.get("RINGBACK_TOKEN") or sys.exit("Set RINGBACK_TOKEN to an API token.")
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}

CREATE_INBOX = gql("""
mutation CreateInbox($input: CreateInboxInput!) {
  createInbox(input: $input) { inbox { id url } errors { field message } }
}
""")
CREATE_WEBHOOK = gql("""
mutation CreateWebhook($input: CreateWebhookInput!) {
  createWebhook(input: $input) { webhook { id } errors { field message } }
}
""")
TEST_FIRE = gql("""
mutation TestFire($input: TestFireWebhookInput!) {
  testFireWebhook(input: $input) { event { id } errors { field message } }
}
""")
DELIVERY_LOG = gql("""
subscription DeliveryLog($filter: DeliveryLogFilter, $after: String) {
  deliveryLog(filter: $filter, after: $after) { cursor kind message }
}
""")
EVENT = gql("""
query Event($id: ID!) {
  event(id: $id) {
    status
    attempts { number outcome statusCode request { method body } response { body } }
  }
}
""")


def over_http() -> Client:
    """For queries and mutations; each document is checked against the server's schema before it is sent."""
    return Client(transport=AIOHTTPTransport(URL, headers=AUTHORIZATION), fetch_schema_from_transport=True)


def over_websocket() -> Client:
    """Return a client for subscriptions, and for other operations on the same connection."""
    url = URL.replace("http", "ws", 1)
    return Client(transport=WebsocketsTransport(url, init_payload=AUTHORIZATION))


async def mutate(session: AsyncClientSession, document: GraphQLRequest, given: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of a mutation. Raises ValueError with the errors of its input."""
    (payload,) = (await session.execute(GraphQLRequest(document, variable_values={"input": given}))).values()
    if payload["errors"]:
        raise ValueError(payload["errors"])
    return dict(payload)


async def entries(session: AsyncClientSession, webhook_id: str, after: str | None) -> AsyncGenerator[dict[str, Any]]:
    """Yield the log entries of a webhook until this connection ends."""
    variables = {"filter": {"webhookIds": [webhook_id]}, "after": after}
    async with aclosing(session.subscribe(GraphQLRequest(DELIVERY_LOG, variable_values=variables))) as answers:
        async for answer in answers:
            yield answer["deliveryLog"]


async def follow(webhook_id: str, after: str | None) -> AsyncGenerator[dict[str, Any]]:
    """Yield the log entries of a webhook, each once. After a lost connection, resume after the last cursor."""
    while True:
        try:
            async with over_websocket() as session, aclosing(entries(session, webhook_id, after)) as log:
                async for entry in log:
                    after = entry["cursor"]
                    yield entry
        except TransportConnectionFailed as lost:
            closed = lost.__cause__
            if isinstance(closed, ConnectionClosed) and closed.rcvd and 4400 <= closed.rcvd.code < 4500:
                raise  # the server refuses this client, such as 4403 for an invalid token
        except TransportQueryError as refused:
            if [error["extensions"]["code"] for error in refused.errors or []] != ["CURSOR_BEHIND"]:
                raise  # CURSOR_BEHIND: this client read too slowly, so the server ended the subscription
        await asyncio.sleep(0.5)


async def main() -> None:
    """Create an inbox and a webhook to it, fire the webhook, and print what is delivered."""
    async with over_http() as http:
        responses = [{"statusCode": 503, "body": "busy"}, {"body": "thank you"}]
        inbox = (await mutate(http, CREATE_INBOX, {"name": "gql", "responses": responses}))["inbox"]
        print("inbox", inbox["id"])
        given = {
            "name": "gql",
            "model": "lead",
            "actions": ["CREATED"],
            "url": inbox["url"],
            "sendJson": True,
            "retryDelaysSeconds": [0, 1],
        }
        webhook_id = (await mutate(http, CREATE_WEBHOOK, given))["webhook"]["id"]
        print("webhook", webhook_id)

        async with over_websocket() as socket, aclosing(entries(socket, webhook_id, after=None)) as log:
            first = asyncio.ensure_future(anext(log))
            await asyncio.sleep(0)  # so that it is sent first: the server takes the operations of a connection in turn
            event_id = (await mutate(socket, TEST_FIRE, {"webhookId": webhook_id}))["event"]["id"]
            print("event", event_id)
            entry = await first
            print(f"{entry['kind']}: {entry['message']}")
        # That connection is closed; the log goes on nevertheless.
        async with aclosing(follow(webhook_id, entry["cursor"])) as log:
            async for entry in log:
                print(f"{entry['kind']}: {entry['message']}")
                if entry["kind"] in ("EVENT_SUCCEEDED", "EVENT_FAILED"):
                    break

        event = (await http.execute(GraphQLRequest(EVENT, variable_values={"id": event_id})))["event"]
        print(event["status"], "after", len(event["attempts"]), "attempts")
        for attempt in event["attempts"]:
            sent, answered = attempt["request"] or {}, attempt["response"] or {}
            print(f"{attempt['number']}. {sent.get('method')} {sent.get('body')}", end=" -> ")
            print(attempt["outcome"], attempt["statusCode"], answered.get("body"))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TransportConnectionFailed as error:
        sys.exit(f"No connection to {URL} ({error}). Is Ringback running?")
