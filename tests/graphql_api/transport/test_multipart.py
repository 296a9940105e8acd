"""Apollo's multipart subscriptions over a real server, read as Apollo Client reads them: up to each next boundary."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from ringback.graphql_api.transport.multipart import MULTIPART
from tests.support.live_log import CURSORS, subscribed, write
from tests.support.websocket_client import ADMIN, Served

MULTIPART_ONLY = 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'
APOLLO = f"{MULTIPART_ONLY}, application/graphql-response+json, application/json;q=0.9"


async def parts(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """Decode parts up to the closing boundary. Fail if the stream ends without it."""
    buffer = b""
    async for chunk in response.content.iter_any():
        buffer += chunk
        while (end := buffer.find(b"\r\n--graphql")) >= 0:
            part, buffer = buffer[:end], buffer[end + len(b"\r\n--graphql") :]
            if part:
                head, _, body = part.partition(b"\r\n\r\n")
                assert head == b"\r\nContent-Type: application/json"
                yield json.loads(body)
            if buffer.startswith(b"--"):
                assert buffer == b"--\r\n"
                return
    raise AssertionError(f"the stream ended within a part: {buffer!r}")


def post(served: Served, query: str, accept: str = APOLLO, **variables: Any) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN}", "Accept": accept}
    body = {"query": query, "variables": variables}
    return aiohttp.request("POST", f"http://127.0.0.1:{served.port}/graphql", json=body, headers=headers)


async def test_a_subscription_runs_until_its_client_disconnects(served: Served) -> None:
    async with post(served, CURSORS) as response:
        content_type = 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'
        assert (response.status, response.headers["Content-Type"]) == (200, content_type)
        following = parts(response)
        await subscribed(served.api, 1)
        for message in ("first", "--graphql\r\n--graphql--"):
            await write(message)
            part = await anext(following)
            assert list(part) == ["payload"]
            assert part["payload"]["data"]["deliveryLog"]["message"] == message
        response.close()
    await subscribed(served.api, 0)


async def test_a_heartbeat_is_an_empty_part() -> None:
    assert MULTIPART.heartbeat == b"\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql"


@pytest.mark.parametrize(
    ("query", "accept", "code"),
    [
        ('subscription { deliveryLog(after: "garbage") { at } }', APOLLO, "BAD_USER_INPUT"),
        ("subscription ($after: String!) { deliveryLog(after: $after) { at } }", APOLLO, "BAD_USER_INPUT"),
        ("subscription { nope }", MULTIPART_ONLY, "GRAPHQL_VALIDATION_FAILED"),
        ("subscription {", MULTIPART_ONLY, "GRAPHQL_PARSE_FAILED"),
    ],
)
async def test_a_terminal_error_stands_beside_a_null_payload(
    served: Served, query: str, accept: str, code: str
) -> None:
    async with post(served, query, accept) as response:
        assert response.status == 200
        ((refused),) = [part async for part in parts(response)]
    assert (list(refused), refused["payload"]) == (["payload", "errors"], None)
    assert [error["extensions"]["code"] for error in refused["errors"]] == [code]
    assert served.api.services.tailer.audience.size == 0


@pytest.mark.parametrize(("query", "status"), [("{ __typename }", 200), ("{ nope }", 400), ("subscription {", 400)])
async def test_anything_else_is_answered_as_json(served: Served, query: str, status: int) -> None:
    async with post(served, query) as response:
        assert (response.status, response.content_type) == (status, "application/graphql-response+json")
        assert list(await response.json(content_type=None)) == ["data" if status == 200 else "errors"]
