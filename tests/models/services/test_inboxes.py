"""Quotas of inboxes: the oldest requests are removed, and the sums stay right."""

import pytest

from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.services.inboxes import (
    ROW_BYTES,
    Inboxes,
    InboxLimits,
    InboxResponse,
    Received,
    RequestsRemoved,
    RequestTooLarge,
)
from tests.support.builders import BOX

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]
BODY = b"x" * 1_000
SIZE = ROW_BYTES + 1 + len(BODY)


async def receive(inboxes: Inboxes, inbox: Inbox, count: int, body: bytes = BODY) -> None:
    for _ in range(count):
        assert await inboxes.receive(inbox.token, Received("POST", "/", (), body, None)) is not None


async def numbers(inbox: Inbox) -> list[int]:
    """Return the numbers of the stored requests, and check the sum of their sizes."""
    requests = await InboxRequest.filter(inbox_id=inbox.id).order_by("number")
    assert (await Inbox.get(id=inbox.id)).stored_bytes == sum(request.size for request in requests)
    return [request.number for request in requests]


@pytest.mark.parametrize("limits", [InboxLimits(requests=3), InboxLimits(bytes=3 * SIZE)])
async def test_an_inbox_keeps_its_newest_requests(limits: InboxLimits) -> None:
    inboxes = Inboxes(BOX, limits)
    inbox, other = [await inboxes.create(name, [InboxResponse()]) for name in ("one", "other")]
    await receive(inboxes, other, 2)

    await receive(inboxes, inbox, 5)

    assert await numbers(inbox) == [3, 4, 5]
    assert await numbers(other) == [1, 2]


async def test_the_total_quota_removes_from_the_largest_inbox() -> None:
    inboxes = Inboxes(BOX, InboxLimits(total_bytes=5 * SIZE))
    small, flooded = [await inboxes.create(name, [InboxResponse()]) for name in ("small", "flooded")]
    await receive(inboxes, small, 1)

    await receive(inboxes, flooded, 6)

    assert await numbers(small) == [1]
    assert await numbers(flooded) == [4, 5, 6]


async def test_a_sum_without_requests_is_corrected_before_others_lose_theirs() -> None:
    inboxes = Inboxes(BOX, InboxLimits(total_bytes=5 * SIZE))
    stale, used = [await inboxes.create(name, [InboxResponse()]) for name in ("stale", "used")]
    await Inbox.filter(id=stale.id).update(stored_bytes=10 * SIZE)

    await receive(inboxes, used, 4)

    assert await numbers(stale) == []
    assert await numbers(used) == [1, 2, 3, 4]


async def test_a_request_above_a_quota_is_refused_and_not_stored() -> None:
    inboxes = Inboxes(BOX, InboxLimits(bytes=SIZE))
    inbox = await inboxes.create(None, [InboxResponse()])

    with pytest.raises(RequestTooLarge, match="RINGBACK_INBOX_MAX_BYTES"):
        await receive(inboxes, inbox, 1, BODY + b"x")

    assert await numbers(inbox) == []


async def test_a_reader_is_told_of_removed_requests_but_not_of_cleared_ones() -> None:
    inboxes = Inboxes(BOX, InboxLimits(requests=2))
    inbox = await inboxes.create(None, [InboxResponse()])
    await receive(inboxes, inbox, 4)

    with pytest.raises(RequestsRemoved, match=r"requests 2 to 2 of .* \(RINGBACK_INBOX_MAX_REQUESTS, "):
        await inboxes.received_after(inbox.id, 1, 10)

    await Inbox.filter(id=inbox.id).update(request_count=0)
    await InboxRequest.filter(inbox_id=inbox.id).delete()
    assert await inboxes.received_after(inbox.id, 1, 10) == []
