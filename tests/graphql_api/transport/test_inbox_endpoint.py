"""The endpoint of inboxes, called without a listener."""

from typing import Any

import pytest

from ringback.graphql_api.transport.inbox import InboxEndpoint
from ringback.models.inbox import InboxRequest
from ringback.models.services.inboxes import Inboxes, InboxResponse
from tests.support.builders import BOX


@pytest.mark.usefixtures("database")
async def test_only_the_listener_limits_url_and_headers() -> None:
    inboxes = Inboxes(BOX)
    inbox = await inboxes.create(None, [InboxResponse()])
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/inbox/{inbox.token}",
        "path_params": {"token": inbox.token},
        "query_string": b"y" * 70_000,
        "headers": [(b"x-long", b"x" * 70_000)],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await InboxEndpoint(inboxes)(scope, receive, send)

    assert sent[0]["status"] == 200
    stored = await InboxRequest.get(inbox_id=inbox.id)
    assert stored.url == f"/inbox/{inbox.token}?{'y' * 70_000}"
    assert stored.headers == [["x-long", "x" * 70_000]]
