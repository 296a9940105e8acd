"""From a change to what an inbox received: each attempt leads to its own request and to no other."""

from collections.abc import Sequence
from typing import Any

import pytest

from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.services.inboxes import Inboxes, InboxResponse, Received
from tests.support import builders
from tests.support.api import Api
from tests.support.builders import attempt
from tests.support.statements import counted, table


@pytest.fixture
def inboxes() -> Inboxes:
    return Inboxes(builders.BOX)


async def receive(inboxes: Inboxes, inbox: Inbox, event: Event, attempt: str | None, body: bytes = b"") -> str:
    """Have an inbox receive what claims to be this attempt; returns the request's id."""
    before = {request.id for request in await InboxRequest.all()}
    headers = [("ps-webhook_event-id", encode(Prefix.EVENT, event.id))]
    headers += [("Ringback-Attempt", attempt)] if attempt is not None else []
    assert await inboxes.receive(inbox.token, Received("POST", "/", tuple(headers), body, None))
    (request,) = [request for request in await InboxRequest.all() if request.id not in before]
    return encode(Prefix.REQUEST, request.id)


async def received_by(api: Api, event: Event) -> list[str | None]:
    """Return the id of the request that each attempt of an event leads to."""
    found = await api.ask(
        "query ($id: ID!) { event(id: $id) { attempts { inboxRequest { id } } } }", id=encode(Prefix.EVENT, event.id)
    )
    return [a["inboxRequest"] and a["inboxRequest"]["id"] for a in found["attempts"]]


async def test_each_attempt_leads_to_the_request_that_carries_its_number(api: Api, inboxes: Inboxes) -> None:
    inbox = await inboxes.create(None, [InboxResponse(500)])
    one, other = await builders.event(await builders.webhook()), await builders.event(await builders.webhook())
    for event in (one, other):
        for number in (1, 2, 3):
            await attempt(event, number)
    # They arrive late and out of order, and of attempt 2 nothing arrives.
    third = await receive(inboxes, inbox, one, "3")
    others = await receive(inboxes, inbox, other, "1")
    first = await receive(inboxes, inbox, one, "1")
    assert await received_by(api, one) == [first, None, third]
    assert await received_by(api, other) == [others, None, None]


async def test_a_request_that_is_sent_again_by_others_changes_nothing(api: Api, inboxes: Inboxes) -> None:
    inbox, second = [await inboxes.create(None, [InboxResponse()]) for _ in range(2)]
    event = await builders.event(await builders.webhook())
    await attempt(event)
    real = await receive(inboxes, inbox, event, "1")
    for where in (inbox, second):
        await receive(inboxes, where, event, "1", b"again")
    assert await received_by(api, event) == [real]


@pytest.mark.parametrize("number", [None, "", "0", "-1", "1.0", "1 ", "١", "x", "9" * 10, "01"])
async def test_what_is_no_number_of_an_attempt_belongs_to_none(api: Api, inboxes: Inboxes, number: str | None) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    event = await builders.event(await builders.webhook())
    await attempt(event)
    await receive(inboxes, inbox, event, number)
    (kept,) = await InboxRequest.all()
    assert (kept.event_id, kept.attempt_number) == (event.id, None)
    assert await received_by(api, event) == [None]


async def test_an_attempt_leads_nowhere_once_the_inbox_is_cleared(api: Api, inboxes: Inboxes) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    event = await builders.event(await builders.webhook())
    await attempt(event)
    request = await receive(inboxes, inbox, event, "1")
    assert await received_by(api, event) == [request]
    assert await inboxes.clear(encode(Prefix.INBOX, inbox.id)) == 1
    assert await received_by(api, event) == [None]


async def test_the_causal_graph_costs_a_constant_number_of_statements(api: Api, inboxes: Inboxes) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    for size in (2, 20):
        events = await events_of_one_change(size)
        wanted: dict[str, list[str]] = {}
        for event in events:
            numbers = range(1, size + 1)
            for number in numbers:
                await attempt(event, number)
            wanted[encode(Prefix.EVENT, event.id)] = [
                await receive(inboxes, inbox, event, str(number)) for number in numbers
            ]
        with counted() as statements:
            found = await api.ask("CausalGraph", id=encode(Prefix.EVENT, events[0].id))
        assert requests_of(found) == wanted
        assert sorted(map(table, statements)) == [
            "ringback_attempt", "ringback_change", "ringback_event", "ringback_event", "ringback_event",
            "ringback_inbox_request", "ringback_inbox_request", "ringback_webhook",
        ], statements  # fmt: skip


async def events_of_one_change(size: int) -> Sequence[Event]:
    first = await builders.event(await builders.webhook())
    others = [await builders.event(await builders.webhook()) for _ in range(size - 1)]
    await Event.filter(id__in=[event.id for event in others]).update(change_id=first.change_id)
    return [first, *others]


def requests_of(found: dict[str, Any]) -> dict[str, list[str]]:
    """Return the requests' ids by event; each leads back to its event."""
    events = found["change"]["events"]
    for event in events:
        assert {a["inboxRequest"]["event"]["id"] for a in event["attempts"]} == {event["id"]}
        assert [a["number"] for a in event["attempts"]] == list(range(1, len(event["attempts"]) + 1))
    return {event["id"]: [a["inboxRequest"]["id"] for a in event["attempts"]] for event in events}
