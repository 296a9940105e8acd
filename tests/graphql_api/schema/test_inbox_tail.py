"""The subscription to the requests of an inbox."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from ringback.graphql_api.schema.inboxes import PAGE
from ringback.models.database.notifications import Topic, notifier
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.services.inboxes import Received
from tests.support.api import Api
from tests.support.live_log import take
from tests.support.patience import PATIENCE_SECONDS


async def receive(api: Api, inbox: str, body: str) -> None:
    """Let the inbox of this name receive a request."""
    token = (await Inbox.get(name=inbox)).token
    received = Received("POST", f"/inbox/{token}?n={body}", (("x-shop", "a"),), body.encode(), "127.0.0.1")
    assert await api.services.inboxes.receive(token, received) is not None


async def create_and_follow(api: Api, name: str) -> tuple[str, Any]:
    """Create an inbox that has received one request; return its id and a subscription to it."""
    inbox_id = (await api.do("CreateInbox", input={"name": name}))["inbox"]["id"]
    await receive(api, name, "before")
    stream = await api.follow("InboxTail", id=inbox_id)
    return inbox_id, stream


async def start_listening(stream: Any) -> "asyncio.Task[list[Any]]":
    """Return a task that waits for the first result, once the subscription listens."""
    waiting = asyncio.create_task(take(stream, 1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not notifier._listeners[Topic.RECEIVED]:
            await asyncio.sleep(0)
    return waiting


def bodies(results: list[Any]) -> list[str]:
    assert [result.errors for result in results] == [()] * len(results)
    return [result.data["inboxRequest"]["body"] for result in results]


async def test_new_requests_are_sent(api: Api) -> None:
    _, stream = await create_and_follow(api, "one")
    await create_and_follow(api, "other")
    waiting = await start_listening(stream)
    await receive(api, "other", "not ours")
    await receive(api, "one", "1")
    ((first),) = await waiting
    shown = first.data["inboxRequest"]
    assert shown.pop("id").startswith("req_")
    assert shown.pop("receivedAt").endswith("Z")
    assert shown.pop("url").endswith("?n=1")
    assert shown == {
        "method": "POST", "headers": [{"name": "x-shop", "value": "a"}], "body": "1", "bodyBase64": "MQ==",
        "remoteAddress": "127.0.0.1", "responseStatusCode": 200, "signature": "ABSENT", "event": None,
    }  # fmt: skip
    await receive(api, "one", "2")
    assert bodies(await take(stream, 1)) == ["2"]
    await stream.aclose()


async def test_a_burst_of_requests_is_sent_in_order(api: Api) -> None:
    _, stream = await create_and_follow(api, "one")
    waiting = await start_listening(stream)
    count = 2 * PAGE + 3
    for n in range(count):
        await receive(api, "one", str(n))
    assert bodies([*await waiting, *await take(stream, count - 1)]) == [str(n) for n in range(count)]
    await stream.aclose()


async def test_clearing_the_inbox_continues_the_subscription_and_deleting_ends_it(api: Api) -> None:
    inbox_id, stream = await create_and_follow(api, "one")
    waiting = await start_listening(stream)
    assert (await api.do("ClearInbox", id=inbox_id))["deletedCount"] == 1
    await receive(api, "one", "after")
    assert bodies(await waiting) == ["after"]
    await api.do("DeleteInbox", id=inbox_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [result async for result in stream] == []


@pytest.mark.parametrize(
    ("inbox_id", "message"),
    [
        ("inb_01h455vb4pex5vsknk084sn02q", "inboxId: There is no inbox with the id inb_01h455vb4pex5vsknk084sn02q."),
        ("whk_01h455vb4pex5vsknk084sn02q", "inboxId: 'whk_01h455vb4pex5vsknk084sn02q' is not an id of this kind"),
        ("", "inboxId: '' is not an id"),
        ("\ud800", "inboxId: '\\ud800' is not an id"),
    ],
)
async def test_an_unknown_or_malformed_inbox_id_is_refused(api: Api, inbox_id: str, message: str) -> None:
    stream = await api.follow("InboxTail", id=inbox_id)
    ((result),) = [result async for result in stream]
    ((error),) = result.errors or ()
    assert error.message.startswith(message)
    assert error.extensions == {"code": "BAD_USER_INPUT"}


async def test_a_request_that_commits_later_with_an_older_id_is_not_missed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stream = await create_and_follow(api, "one")
    waiting = await start_listening(stream)
    await receive(api, "one", "1")
    assert bodies(await waiting) == ["1"]
    ids = iter([UUID(int=2), UUID(int=1)])
    monkeypatch.setattr(InboxRequest._meta.fields_map["id"], "default", lambda: next(ids))
    await receive(api, "one", "2")
    await receive(api, "one", "3")
    assert bodies(await take(stream, 2)) == ["2", "3"]
    assert [(r.number, r.id.int) for r in await InboxRequest.filter(number__gte=3).order_by("number")] == [
        (3, 2),
        (4, 1),
    ]
    await stream.aclose()
