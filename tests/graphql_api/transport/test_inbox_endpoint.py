"""The endpoint of inboxes, called without a listener."""

from contextlib import ExitStack
from typing import Any

import pytest

from ringback.graphql_api.transport.inbox import (
    MAX_BODY_BYTES,
    MAX_OPEN_BYTES,
    MAX_TOTAL_OPEN_BYTES,
    InboxBusy,
    InboxEndpoint,
    OpenRequests,
)
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


async def receive_mebibyte() -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * MAX_BODY_BYTES, "more_body": True}


async def test_each_refusal_names_the_limit_that_is_reached() -> None:
    requests = OpenRequests()
    with ExitStack() as stack:
        for _ in range(MAX_OPEN_BYTES // MAX_BODY_BYTES):
            await stack.enter_context(requests.enter("one", receive_mebibyte))()
        with pytest.raises(InboxBusy, match="The inbox is receiving bodies of 8,388,608 bytes, a fixed limit"):
            await stack.enter_context(requests.enter("one", receive_mebibyte))()

    with ExitStack() as stack:
        for number in range(MAX_TOTAL_OPEN_BYTES // MAX_BODY_BYTES):
            await stack.enter_context(requests.enter(str(number), receive_mebibyte))()
        with pytest.raises(InboxBusy, match="All inboxes .* bodies of 25,165,824 bytes, a fixed limit"):
            await stack.enter_context(requests.enter("one", receive_mebibyte))()


def test_long_heads_of_open_requests_are_limited() -> None:
    requests, head_bytes = OpenRequests(), MAX_BODY_BYTES
    with ExitStack() as stack:
        for _ in range(MAX_OPEN_BYTES // head_bytes):
            stack.enter_context(requests.enter("one", receive_mebibyte, head_bytes))
        with pytest.raises(InboxBusy):
            stack.enter_context(requests.enter("one", receive_mebibyte, head_bytes))
        stack.enter_context(requests.enter("one", receive_mebibyte, 1_000))
    with requests.enter("one", receive_mebibyte, head_bytes):
        pass


async def test_discarded_bytes_of_a_body_do_not_count() -> None:
    requests = OpenRequests()
    with requests.enter("one", receive_mebibyte) as receive:
        for _ in range(2 * MAX_OPEN_BYTES // MAX_BODY_BYTES):
            await receive()
