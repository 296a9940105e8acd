"""The number of statements of a page does not depend on its length: links are loaded for the whole page."""

import pytest_asyncio

from ringback.models.database import clock
from ringback.models.enums import SignatureCheck
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import Inbox, InboxRequest
from tests.support import builders
from tests.support.api import Api
from tests.support.builders import attempt
from tests.support.statements import counted, table

PAGE = 50
#: Pages (those of the contract first), with the table that each statement reads.
PAGES = [
    ("Events", ["ringback_event", "ringback_webhook", "ringback_change"]),
    ("Attempts", ["ringback_attempt", "ringback_event"]),
    ("Webhooks", ["ringback_webhook", "ringback_attempt", "ringback_attempt"]),
    ("query ($first: Int!) { page: events(first: $first) { nodes { id item changedFields } } }",
     ["ringback_event", "ringback_change"]),
    ("query ($first: Int!) { page: events(first: $first) { nodes { change { id item } item changedFields } } }",
     ["ringback_event", "ringback_change"]),
    ("""query ($first: Int!) { page: events(first: $first) { nodes {
          webhook { name } model { label } change { id events { id } } item changedFields
          attempts { number outcome request { url } }
     } } }""",
     ["ringback_event", "ringback_webhook", "ringback_change", "ringback_attempt", "ringback_event"]),
    ("query ($first: Int!) { page: webhooks(first: $first) { nodes { name lastAttempt { id outcome } } } }",
     ["ringback_webhook", "ringback_attempt", "ringback_attempt"]),
    ("""query ($first: Int!) { page: customerOrders(first: $first) { nodes {
          customer { name } items { total } total
     } } }""",
     ["customer_order", "customer_order_customer", "customer_order_item"]),
    ("query ($first: Int!) { page: attempts(first: $first) { nodes { id event { id status } } } }",
     ["ringback_attempt", "ringback_event"]),
]  # fmt: skip


@pytest_asyncio.fixture
async def filled(api: Api) -> Api:
    """Create fifty objects of each kind."""
    inbox = await Inbox.create(token="t", responses=[], created_at=await clock.now())
    for number in range(PAGE):
        event = await builders.event(await builders.webhook(name=f"hook {number}"))
        await attempt(event)
        await InboxRequest.create(
            inbox_id=inbox.id, received_at=await clock.now(), method="POST", url="/", headers=[], body=b"",
            response_status_code=200, signature=SignatureCheck.ABSENT, event_id=event.id,
        )  # fmt: skip
        line = {"brand": "Bosch", "article": "1", "name": "Pad", "quantity": 2, "price": "1.50"}
        await api.do(
            "CreateCustomerOrder", input={"number": str(number), "customer": {"name": "Ada"}, "items": [line, line]}
        )
    return api


async def test_a_page_costs_a_constant_number_of_statements(filled: Api) -> None:
    for document, tables in PAGES:
        for first in (5, PAGE):
            with counted() as statements:
                page = await filled.ask(document, first=first)
            assert len(page["nodes"]) == first
            assert sorted(map(table, statements)) == sorted(tables), statements


async def test_a_page_of_inbox_requests(filled: Api) -> None:
    (inbox,) = (await filled.ask("Inboxes"))["nodes"]
    for first in (5, PAGE):
        with counted() as statements:
            answer = await filled.ask("InboxRequests", id=inbox["id"], first=first)
        requests = answer["requests"]["nodes"]
        assert [r["event"] is not None for r in requests] == [True] * first
        assert [table(s) for s in statements] == [
            "ringback_inbox", "ringback_inbox_request", "ringback_inbox_request", "ringback_inbox_request",
            "ringback_event",
        ]  # fmt: skip


async def test_the_last_attempt_is_the_newest_of_each_webhook(api: Api) -> None:
    webhooks = [await builders.webhook(name=str(n)) for n in range(3)]
    events = [await builders.event(w) for w in (webhooks[0], webhooks[1], webhooks[0])]
    newest = {}
    for number in (1, 2):
        for event in events:
            newest[event.webhook_id] = encode(Prefix.ATTEMPT, (await attempt(event, number)).id)
    shown = [w["lastAttempt"] and w["lastAttempt"]["id"] for w in (await api.ask("Webhooks"))["nodes"]]
    assert shown == [None, newest[webhooks[1].id], newest[webhooks[0].id]]
