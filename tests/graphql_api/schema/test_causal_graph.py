"""From a change to the requests of an inbox: each attempt links to its own request and no other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ringback.graphql_api.execution import selections
from ringback.graphql_api.execution.byte_budget import FIELD_BYTES, SMALL_BYTES
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.services.inboxes import Inboxes, InboxResponse, Received
from tests.support import builders
from tests.support.api import Api
from tests.support.builders import attempt
from tests.support.query_plans import spied
from tests.support.statements import counted, table


@pytest.fixture
def inboxes() -> Inboxes:
    return Inboxes(builders.BOX)


async def receive(inboxes: Inboxes, inbox: Inbox, event: Event, attempt: str | None, body: bytes = b"") -> str:
    """Send an inbox a request that claims to be this attempt; return the request's id."""
    headers = [("ps-webhook_event-id", encode(Prefix.EVENT, event.id))]
    headers += [("Ringback-Attempt", attempt)] if attempt is not None else []
    assert await inboxes.receive(inbox.token, Received("POST", "/", tuple(headers), body, None))
    latest = await InboxRequest.filter(inbox_id=inbox.id).order_by("-number").first()
    assert latest is not None
    return encode(Prefix.REQUEST, latest.id)


async def linked_request_ids(api: Api, event: Event) -> list[str | None]:
    """Return, for each attempt of an event, the id of the linked request."""
    answer = await api.ask(
        "query ($id: ID!) { event(id: $id) { attempts { inboxRequest { id } } } }", id=encode(Prefix.EVENT, event.id)
    )
    return [a["inboxRequest"] and a["inboxRequest"]["id"] for a in answer["attempts"]]


@pytest.mark.every_database
async def test_each_attempt_links_to_the_request_with_its_number(api: Api, inboxes: Inboxes) -> None:
    inbox = await inboxes.create(None, [InboxResponse(500)])
    one, other = await builders.event(await builders.webhook()), await builders.event(await builders.webhook())
    for event in (one, other):
        for number in (1, 2, 3):
            await attempt(event, number)
    # The requests arrive late and out of order, and that of attempt 2 never arrives.
    third = await receive(inboxes, inbox, one, "3")
    others = await receive(inboxes, inbox, other, "1")
    first = await receive(inboxes, inbox, one, "1")
    assert await linked_request_ids(api, one) == [first, None, third]
    assert await linked_request_ids(api, other) == [others, None, None]


async def test_a_repeated_request_does_not_replace_the_first(api: Api, inboxes: Inboxes) -> None:
    inbox, second = [await inboxes.create(None, [InboxResponse()]) for _ in range(2)]
    event = await builders.event(await builders.webhook())
    await attempt(event)
    first = await receive(inboxes, inbox, event, "1")
    for where in (inbox, second):
        await receive(inboxes, where, event, "1", b"again")
    assert await linked_request_ids(api, event) == [first]


@pytest.mark.every_database
async def test_repeated_requests_are_not_read(api: Api, inboxes: Inboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    event = await builders.event(await builders.webhook())
    await attempt(event)
    first = await receive(inboxes, inbox, event, "1")
    for number in ("1", "1", "2", "999"):
        await receive(inboxes, inbox, event, number)

    with spied(monkeypatch) as statements:
        assert await linked_request_ids(api, event) == [first]

    reads = [statement for statement in statements if "ringback_inbox_request" in statement[0]]
    row_counts = [len(await Event._meta.db.execute_query_dict(query, values)) for query, values in reads]
    assert set(row_counts) == {1}


@pytest.mark.parametrize("number", [None, "", "0", "-1", "1.0", "1 ", "١", "x", "9" * 10, "01"])
async def test_a_request_with_an_invalid_attempt_number_belongs_to_no_attempt(
    api: Api, inboxes: Inboxes, number: str | None
) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    event = await builders.event(await builders.webhook())
    await attempt(event)
    await receive(inboxes, inbox, event, number)
    (stored,) = await InboxRequest.all()
    assert (stored.event_id, stored.attempt_number) == (event.id, None)
    assert await linked_request_ids(api, event) == [None]


async def test_clearing_the_inbox_removes_the_link_from_the_attempt(api: Api, inboxes: Inboxes) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    event = await builders.event(await builders.webhook())
    await attempt(event)
    request = await receive(inboxes, inbox, event, "1")
    assert await linked_request_ids(api, event) == [request]
    assert await inboxes.clear(encode(Prefix.INBOX, inbox.id)) == 1
    assert await linked_request_ids(api, event) == [None]


@pytest.mark.measures_cpu
async def test_the_causal_graph_costs_a_constant_number_of_statements(api: Api, inboxes: Inboxes) -> None:
    inbox = await inboxes.create(None, [InboxResponse()])
    for size in (2, 8):
        events = await events_of_one_change(size)
        expected: dict[str, list[str]] = {}
        for event in events:
            numbers = range(1, size + 1)
            for number in numbers:
                await attempt(event, number)
            expected[encode(Prefix.EVENT, event.id)] = [
                await receive(inboxes, inbox, event, str(number)) for number in numbers
            ]
        with counted() as statements:
            answer = await api.ask("CausalGraph", id=encode(Prefix.EVENT, events[0].id))
        assert request_ids_by_event(answer) == expected
        assert sorted(map(table, statements)) == [
            "ringback_attempt", "ringback_change", "ringback_event", "ringback_event", "ringback_event",
            "ringback_inbox_request", "ringback_inbox_request", "ringback_inbox_request", "ringback_inbox_request",
            "ringback_webhook",
        ], statements  # fmt: skip


async def test_each_place_of_an_event_in_a_response_counts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event is read once, however many objects of a page have it in their lists."""
    await events_of_one_change(2)
    monkeypatch.setattr(selections, "LISTED_FIELDS", SMALL_BYTES // FIELD_BYTES)
    document = "query ($first: Int!) { events(first: $first) { nodes { change { events { id } } } } }"
    monkeypatch.setattr(api.engine, "limits", replace(api.engine.limits, response_bytes=3 * SMALL_BYTES))

    assert len((await api.ask(document, first=1))["nodes"]) == 1
    code, _ = await api.error(document, first=2)
    assert code == "LIMIT_EXCEEDED"


async def events_of_one_change(size: int) -> Sequence[Event]:
    first = await builders.event(await builders.webhook())
    others = [await builders.event(await builders.webhook()) for _ in range(size - 1)]
    await Event.filter(id__in=[event.id for event in others]).update(change_id=first.change_id)
    return [first, *others]


def request_ids_by_event(answer: dict[str, Any]) -> dict[str, list[str]]:
    """Return the ids of the requests by event, after checking that each links back to its event."""
    events = answer["change"]["events"]
    for event in events:
        assert {a["inboxRequest"]["event"]["id"] for a in event["attempts"]} == {event["id"]}
        assert [a["number"] for a in event["attempts"]] == list(range(1, len(event["attempts"]) + 1))
    return {event["id"]: [a["inboxRequest"]["id"] for a in event["attempts"]] for event in events}
