"""Queries: exact values, every filter, and pages that have every row once."""

import datetime as dt
import re
from typing import Any

import pytest

from ringback.graphql_api.schema.build import schema
from ringback.models.enums import Action, EventStatus, OutcomeName
from ringback.models.event import Attempt, Event
from ringback.models.ids import Prefix, encode, new_key_at
from ringback.models.services import webhook_search
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.api import PUBLIC_URL, Api

pytestmark = pytest.mark.every_database

DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
AT = dt.datetime(2026, 1, 31, 12, 0, 0, 5, dt.UTC)
LINES: list[dict[str, Any]] = [
    {"brand": "Bosch", "article": "0 986", "name": "Pad", "quantity": 3, "price": "350.5"},
    {"brand": "Mann", "article": "W 712", "name": "Filter", "quantity": 1, "price": "0.10"},
]


async def test_a_webhook_is_returned_as_created(api: Api) -> None:
    given = {
        "name": "CRM", "model": "customer_order", "actions": ["DELETED", "CREATED", "CREATED"],
        "url": "https://crm.example/{{ item.id }}", "method": "PUT", "isActive": False, "sendJson": True,
        "contentType": "application/json", "headers": [{"name": "X-Shop", "value": "{{ item.number }}"}],
        "condition": 'item.status == "DONE"', "retryDelaysSeconds": [0, 1], "timeoutSeconds": 0.5,
        "successPolicy": "ANY_2XX",
    }  # fmt: skip
    made = await api.do("CreateWebhook", input=given)
    assert re.fullmatch(r"whsec_[0-9A-Za-z+/=]{44}", made["signingSecret"])
    shown = made["webhook"]
    assert re.fullmatch(r"whk_[0-9a-z]{26}", shown["id"])
    assert DATETIME.fullmatch(shown["createdAt"])
    assert shown == {
        **given, "id": shown["id"], "actions": ["CREATED", "DELETED"], "bodyTemplate": "", "lastAttempt": None,
        "model": {"id": "customer_order", "name": "customer_order", "label": "Customer order"},
        "createdAt": shown["createdAt"], "updatedAt": shown["createdAt"], "deletedAt": None,
    }  # fmt: skip
    assert await api.ask("Webhook", id=shown["id"]) == shown
    deleted = await api.do("DeleteWebhook", id=shown["id"])
    assert deleted == {"deletedId": shown["id"], "errors": []}
    after = await api.ask("Webhook", id=shown["id"])
    assert (after["isActive"], bool(DATETIME.fullmatch(after["deletedAt"]))) == (False, True)
    assert (await api.ask("Webhooks"))["nodes"] == []
    assert (await api.ask("Webhooks", filter={"includeDeleted": True}))["nodes"] == [after]


async def test_a_webhook_has_the_defaults_of_the_contract(api: Api) -> None:
    given = {"model": "lead", "actions": ["UPDATED"], "url": "https://hooks.example/"}
    shown = (await api.do("CreateWebhook", input=given))["webhook"]
    defaults = {
        "name": None, "method": "POST", "isActive": True, "sendJson": False, "bodyTemplate": "", "contentType": None,
        "headers": [], "condition": None, "retryDelaysSeconds": [5, 240, 480], "timeoutSeconds": 3.0,
        "successPolicy": "STATUS_200",
    }  # fmt: skip
    assert {name: shown[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    ("filter", "names"),
    [
        (None, ["c", "b", "Ädler"]),
        ({}, ["c", "b", "Ädler"]),
        ({"models": ["customer_order"]}, ["b"]),
        ({"models": []}, []),
        ({"isActive": False}, ["c"]),
        ({"isActive": True}, ["b", "Ädler"]),
        ({"search": "ÄD"}, ["Ädler"]),
        ({"search": "dLER"}, ["Ädler"]),
        ({"search": "CRM.example"}, ["b"]),
        ({"search": "%"}, []),
        ({"search": ""}, ["c", "b", "Ädler"]),
        ({"isActive": True, "models": ["lead"], "search": "hooks"}, ["Ädler"]),
    ],
)
async def test_filters_of_webhooks(api: Api, filter: dict[str, Any] | None, names: list[str]) -> None:
    await builders.webhook(name="Ädler")
    await builders.webhook(name="b", model="customer_order", url="https://crm.example/")
    await builders.webhook(name="c", is_active=False)
    assert [w["name"] for w in (await api.ask("Webhooks", filter=filter))["nodes"]] == names


async def test_decimals_of_an_order_are_strings(api: Api) -> None:
    given = {"number": "A-1", "customer": {"name": "Мария", "phone": "+7 900"}, "items": LINES, "comment": "soon"}
    order = (await api.do("CreateCustomerOrder", input=given))["order"]
    assert DATETIME.fullmatch(order["updatedAt"])
    assert order == {
        "id": order["id"], "number": "A-1", "status": "NEW", "comment": "soon", "total": "1051.60",
        "customer": {"name": "Мария", "phone": "+7 900", "email": None},
        "items": [{**LINES[0], "price": "350.50", "total": "1051.50"}, {**LINES[1], "total": "0.10"}],
        "createdAt": order["createdAt"], "updatedAt": order["updatedAt"],
    }  # fmt: skip
    changes = {"status": "DONE", "comment": None, "customer": {"name": "Ада"}, "items": LINES[1:]}
    seen = {"id": order["id"], "expectedUpdatedAt": order["updatedAt"]}
    changed = (await api.do("UpdateCustomerOrder", input={**seen, **changes}))["order"]
    assert changed["updatedAt"] > order["updatedAt"]
    assert changed == {
        **order, "status": "DONE", "comment": None, "total": "0.10", "updatedAt": changed["updatedAt"],
        "customer": {"name": "Ада", "phone": None, "email": None}, "items": [{**LINES[1], "total": "0.10"}],
    }  # fmt: skip
    same = (await api.do("UpdateCustomerOrder", input={"id": order["id"], "items": LINES[1:]}))["order"]
    assert same == changed
    assert (await api.do("DeleteCustomerOrder", id=order["id"])) == {"deletedId": order["id"], "errors": []}
    assert (await api.ask("CustomerOrders"))["nodes"] == []


async def test_callback_requests_become_leads_while_the_setting_is_on(api: Api) -> None:
    form = {"name": "  Мария ", "phone": "+7 900"}
    off = await api.do("RequestCallback", input=form)
    assert off == {"accepted": True, "lead": None, "errors": []}
    settings = (await api.do("UpdateSiteSettings", input={"trackLeads": True}))["siteSettings"]
    assert settings == {"id": "site_settings", "trackLeads": True, "updatedAt": settings["updatedAt"]}
    assert await api.ask("SiteSettings") == settings
    lead = (await api.do("RequestCallback", input=form))["lead"]
    assert lead == {
        "id": lead["id"], "name": "Мария", "phone": "+7 900", "status": "NEW", "comment": None,
        "createdAt": lead["createdAt"], "updatedAt": lead["updatedAt"],
    }  # fmt: skip
    update = {"id": lead["id"], "status": "IN_PROGRESS", "comment": "called"}
    changed = (await api.do("UpdateLead", input=update))["lead"]
    assert changed == {**lead, "status": "IN_PROGRESS", "comment": "called", "updatedAt": changed["updatedAt"]}
    assert (await api.ask("Leads"))["nodes"] == [changed]
    assert await api.ask("query ($id: ID!) { lead(id: $id) { comment } }", id=lead["id"]) == {"comment": "called"}
    assert await api.do("DeleteLead", id=lead["id"]) == {"deletedId": lead["id"], "errors": []}
    assert (await api.ask("Leads"))["nodes"] == []


async def test_pages_have_every_row_once_while_rows_are_added(api: Api) -> None:
    made = [await builders.webhook(name=str(number)) for number in range(7)]
    seen, after = [], None
    document = """query ($after: String) { webhooks(first: 3, after: $after) {
        edges { cursor node { name } } nodes { name }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    } }"""
    pages = []
    while True:
        page = await api.ask(document, after=after)
        pages.append(page["pageInfo"])
        assert [e["node"] for e in page["edges"]] == page["nodes"]
        assert page["pageInfo"]["startCursor"] == page["edges"][0]["cursor"]
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]
        seen += [node["name"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        await builders.webhook(name="later")
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == [str(number) for number in reversed(range(len(made)))]
    assert [(p["hasNextPage"], p["hasPreviousPage"]) for p in pages] == [(True, False), (True, True), (False, True)]
    assert (await api.ask(document, after=after)) == {
        "edges": [], "nodes": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": True, "startCursor": None, "endCursor": None},
    }  # fmt: skip


async def test_an_event_is_returned_with_its_attempts(api: Api) -> None:
    webhook = await builders.webhook(name="CRM")
    event = await builders.event(
        webhook, status=EventStatus.SUCCEEDED, attempt_count=2, next_attempt_at=None, finished_at=AT
    )
    for number, outcome in ((2, OutcomeName.DELIVERED), (1, OutcomeName.BLOCKED)):
        await attempt(event, number, outcome)
    key = encode(Prefix.EVENT, event.id)
    shown = await api.ask("Event", id=key)
    delivered = {
        "number": 2, "startedAt": "2026-01-31T12:00:02.000005Z", "durationMs": 5, "outcome": "DELIVERED", "error": None,
        "statusCode": 200,
        "request": {"method": "POST", "url": "https://x/", "headers": [{"name": "a", "value": "b"}], "body": None},
        "response": {"headers": [], "body": "ok", "bodyTruncated": True},
    }  # fmt: skip
    blocked = {
        "number": 1, "startedAt": "2026-01-31T12:00:01.000005Z", "durationMs": 5, "outcome": "BLOCKED",
        "error": "Why.", "statusCode": None, "request": None, "response": None,
    }  # fmt: skip
    first, second = shown.pop("attempts")
    assert re.fullmatch(r"att_[0-9a-z]{26}", first["id"])
    assert (first, second) == ({**blocked, "id": first["id"]}, {**delivered, "id": second["id"]})
    assert shown == {
        "id": key, "webhook": {"id": encode(Prefix.WEBHOOK, webhook.id), "name": "CRM"},
        "change": {"id": encode(Prefix.CHANGE, event.change_id)},
        "model": {"id": "lead", "name": "lead"}, "action": "CREATED", "objectId": None,
        "item": {"id": "lead_1", "name": "Ада"}, "changedFields": [], "status": "SUCCEEDED", "attemptCount": 2,
        "maxAttempts": 3, "nextAttemptAt": None, "createdAt": shown["createdAt"],
        "finishedAt": "2026-01-31T12:00:00.000005Z", "isTest": False,
    }  # fmt: skip
    assert await api.ask("Attempt", id=first["id"]) == {**first, "event": {"id": key}}
    last = (await api.ask("Webhooks"))["nodes"][0]["lastAttempt"]
    newest = (await api.ask("Attempts", first=1))["nodes"][0]
    assert last == {name: newest[name] for name in ("id", "startedAt", "outcome", "statusCode")}


async def test_notes_and_cut_headers_of_attempts_are_shown(api: Api) -> None:
    event = await builders.event(await builders.webhook())
    older, newer = await attempt(event, 1, OutcomeName.DELIVERED), await attempt(event, 2, OutcomeName.DELIVERED)
    await Attempt.filter(id=newer.id).update(
        request={**(older.request or {}), "note": "Why."},
        response={**(older.response or {}), "headers_truncated": True},
    )
    document = "query Q($id: ID!) { event(id: $id) { attempts { request { note } response { headersTruncated } } } }"
    assert (await api.ask(document, id=encode(Prefix.EVENT, event.id)))["attempts"] == [
        {"request": {"note": None}, "response": {"headersTruncated": False}},
        {"request": {"note": "Why."}, "response": {"headersTruncated": True}},
    ]


async def attempt(event: Event, number: int, outcome: OutcomeName) -> Attempt:
    sent = outcome is not OutcomeName.BLOCKED
    started_at = AT + dt.timedelta(seconds=number)
    later = dt.timedelta(microseconds=await Attempt.all().count())
    return await Attempt.create(
        id=new_key_at(started_at + later), event_id=event.id, webhook_id=event.webhook_id, number=number, duration_ms=5,
        outcome=outcome, started_at=started_at, error=None if sent else "Why.", status_code=200 if sent else None,
        request={"method": "POST", "url": "https://x/", "headers": [["a", "b"]], "body": None} if sent else None,
        response={"headers": [], "body": "ok", "body_truncated": True} if sent else None,
    )  # fmt: skip


async def test_filters_of_events_and_attempts(api: Api) -> None:
    hooks = [await builders.webhook(name=str(n)) for n in range(2)]
    old = await builders.event(hooks[0], object_id="lead_1", id=new_key_at(AT))
    test = await builders.event(hooks[1], is_test=True)
    done = await builders.event(hooks[1], status=EventStatus.FAILED)
    await Event.filter(id=old.id).update(created_at=AT, action=Action.DELETED, model="customer_order")
    keys = [encode(Prefix.EVENT, e.id) for e in (old, test, done)]
    whk = [encode(Prefix.WEBHOOK, w.id) for w in hooks]
    at, later = "2026-01-31T12:00:00.000005Z", "2026-01-31T12:00:00.000006Z"
    for given, expected in (
        (None, [2, 1, 0]),
        ({"webhookIds": whk[1:]}, [2, 1]),
        ({"webhookIds": []}, []),
        ({"models": ["customer_order", "nope"]}, [0]),
        ({"actions": ["DELETED"]}, [0]),
        ({"actions": ["CREATED", "CREATED"]}, [2, 1]),
        ({"statuses": ["FAILED"]}, [2]),
        ({"objectId": "lead_1"}, [0]),
        ({"createdAfter": at}, [2, 1]),
        ({"createdBefore": at}, []),
        ({"createdBefore": later}, [0]),
        ({"createdBefore": "2026-01-31T15:00:00.000006+03:00"}, [0]),
        ({"isTest": True}, [1]),
        ({"isTest": False, "webhookIds": whk[1:]}, [2]),
    ):
        events = (await api.ask("Events", filter=given))["nodes"]
        assert [e["id"] for e in events] == [keys[n] for n in expected], given
    await attempt(old, 1, OutcomeName.BLOCKED)
    await attempt(done, 1, OutcomeName.DELIVERED)
    await attempt(done, 2, OutcomeName.REJECTED)
    started = "2026-01-31T12:00:01.000005Z"
    for attempt_filter, outcomes in (
        (None, ["REJECTED", "DELIVERED", "BLOCKED"]),
        ({"webhookIds": whk[:1]}, ["BLOCKED"]),
        ({"eventIds": keys[1:]}, ["REJECTED", "DELIVERED"]),
        ({"outcomes": ["BLOCKED", "DELIVERED"]}, ["DELIVERED", "BLOCKED"]),
        ({"statusCode": 200}, ["REJECTED", "DELIVERED"]),
        ({"startedAfter": started}, ["REJECTED"]),
        ({"startedBefore": started}, []),
    ):
        attempts = (await api.ask("Attempts", filter=attempt_filter))["nodes"]
        assert [a["outcome"] for a in attempts] == outcomes, attempt_filter


async def test_models_have_labels_in_several_languages(api: Api) -> None:
    models = await api.ask("""{ webhookModels {
        id name label ru: label(locale: "ru") other: label(locale: "xx") fields { path type } sample
    } }""")
    assert [(m["id"], m["label"], m["ru"], m["other"]) for m in models] == [
        ("customer_order", "Customer order", "Заказ клиента", "Customer order"),
        ("lead", "Lead: callback request", "Лид: заказ обратного звонка", "Lead: callback request"),
    ]
    paths = {f["path"]: f["type"] for f in models[0]["fields"]}
    assert {"item.id", "item.customer.name", "item.items[].price", "item.total"} <= paths.keys()
    assert paths["item.items[].price"] == "decimal"
    assert models[1]["sample"]["phone"] == "+7 900 000-00-00"


async def test_tokens_and_the_viewer(api: Api) -> None:
    viewer = await api.ask("Viewer")
    me = viewer["token"]
    assert me == {"id": me["id"], "name": "tests", "role": "ADMIN", "webhookIds": None, "expiresAt": None}
    core = schema._schema
    assert core.query_type
    assert core.mutation_type
    assert core.subscription_type
    roots = {*core.query_type.fields, *core.mutation_type.fields, *core.subscription_type.fields}
    assert viewer["permissions"] == sorted(roots)
    given = {"name": "ci", "role": "ADMIN", "expiresAt": "2999-01-01T03:00:00+03:00"}
    made = await api.do("CreateApiToken", input=given)
    assert re.fullmatch(r"rbk_[0-9A-Za-z_-]{43}", made["secret"])
    token = {**me, "id": made["token"]["id"], "name": "ci", "expiresAt": "2999-01-01T00:00:00.000000Z"}
    assert made["token"] == token
    listed = (await api.ask("ApiTokens"))["nodes"]
    assert listed == [{**token, "lastUsedAt": None}, {**me, "lastUsedAt": None}]
    assert await api.do("RevokeApiToken", id=token["id"]) == {"revokedId": token["id"], "errors": []}
    assert [t["name"] for t in (await api.ask("ApiTokens"))["nodes"]] == ["tests"]
    unknown = ("NOT_FOUND", "id", f"There is no token with the id {token['id']}.")
    assert await api.refusals("RevokeApiToken", id=token["id"]) == [unknown]


async def test_inboxes(api: Api) -> None:
    response = {"statusCode": 500, "body": "no", "contentType": "text/html", "delayMs": 60_000}
    inbox = (await api.do("CreateInbox", input={"name": "mine", "responses": [response]}))["inbox"]
    assert re.fullmatch(rf"{re.escape(PUBLIC_URL)}/inbox/[0-9A-Za-z_-]{{22}}", inbox["url"])
    assert inbox == {"id": inbox["id"], "name": "mine", "url": inbox["url"], "responses": [response]}
    assert (await api.ask("Inboxes"))["nodes"] == [inbox]
    made = (await api.ask("{ inboxes { nodes { createdAt } } }"))["nodes"][0]["createdAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", made)
    empty = {"nodes": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    assert await api.ask("InboxRequests", id=inbox["id"]) == {**inbox, "requests": empty}
    assert await api.do("ClearInbox", id=inbox["id"]) == {"deletedCount": 0, "errors": []}
    assert await api.do("DeleteInbox", id=inbox["id"]) == {"deletedId": inbox["id"], "errors": []}
    assert await api.ask("InboxRequests", id=inbox["id"]) is None


async def test_a_test_event_can_be_cancelled_and_redelivered(api: Api) -> None:
    webhook = await builders.webhook(is_active=False)
    key = encode(Prefix.WEBHOOK, webhook.id)
    fired = {"webhookId": key, "action": "UPDATED", "item": {"id": 5, "name": "Ада"}}
    event = (await api.do("TestFireWebhook", input=fired))["event"]
    expected = {
        "change": None, "action": "UPDATED", "objectId": "5", "item": {"id": 5, "name": "Ада"}, "changedFields": [],
        "status": "PENDING", "attemptCount": 0, "maxAttempts": 3, "isTest": True, "nextAttemptAt": event["createdAt"],
    }  # fmt: skip
    assert {name: event[name] for name in expected} == expected
    code, field, _ = (await api.refusals("RedeliverEvent", id=event["id"]))[0]
    assert (code, field) == ("CONFLICT", "id")
    cancelled = (await api.do("CancelEvent", id=event["id"]))["event"]
    assert (cancelled["status"], cancelled["nextAttemptAt"]) == ("CANCELLED", None)
    again = (await api.do("RedeliverEvent", id=event["id"]))["event"]
    assert (again["status"], again["finishedAt"]) == ("PENDING", None)
    sample = (await api.do("TestFireWebhook", input={"webhookId": key}))["event"]
    assert (sample["action"], sample["item"]["phone"]) == ("CREATED", "+7 900 000-00-00")


@pytest.mark.parametrize(("root", "range"), [("events", "created"), ("attempts", "started")])
async def test_an_empty_time_range_is_refused(api: Api, root: str, range: str) -> None:
    ends = f'{range}After: "2026-01-31T12:00:00Z", {range}Before: "2026-01-31T12:00:00Z"'
    error = await api.error(f"{{ {root}(filter: {{{ends}}}) {{ nodes {{ id }} }} }}")
    assert error == ("BAD_USER_INPUT", f"filter.{range}After must be before filter.{range}Before.")


@pytest.mark.parametrize("search", ["лид", "ЛИД в crm"])
async def test_search_ignores_the_case_of_non_ascii_letters(api: Api, search: str) -> None:
    for name in ("Лид в CRM", "Заказ"):
        await builders.webhook(name=name)
    page = await api.ask("Webhooks", filter={"search": search})
    assert [webhook["name"] for webhook in page["nodes"]] == ["Лид в CRM"]


async def test_search_ignores_case_as_unicode_defines_it(api: Api) -> None:
    await builders.webhook(name="Straße")
    page = await api.ask("Webhooks", filter={"search": "STRASSE"})
    assert [webhook["name"] for webhook in page["nodes"]] == ["Straße"]


async def test_a_search_reads_webhooks_in_batches(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_search, "BATCH_ROWS", 2)
    for number in range(9):
        await builders.webhook(name=f"{'crm' if number % 3 else 'shop'} {number}")

    names: list[str] = []
    after = None
    has_next_page = True
    while has_next_page:
        page = await api.ask("Webhooks", filter={"search": "crm"}, first=2, after=after)
        names += [webhook["name"] for webhook in page["nodes"]]
        has_next_page, after = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]

    assert names == ["crm 8", "crm 7", "crm 5", "crm 4", "crm 2", "crm 1"]


async def test_the_events_of_a_webhook_are_its_own_newest_first(api: Api) -> None:
    webhook, other = await builders.webhook(), await builders.webhook()
    own = [await builders.event(webhook, status=status) for status in (EventStatus.PENDING, EventStatus.SUCCEEDED)]
    await builders.event(other)
    document = """
    query ($id: ID!, $after: String) {
      webhook(id: $id) { events(first: 1, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }
    }
    """
    variables = {"id": encode(Prefix.WEBHOOK, webhook.id)}

    first = (await api.ask(document, **variables))["events"]
    second = (await api.ask(document, **variables, after=first["pageInfo"]["endCursor"]))["events"]

    ids = [node["id"] for page in (first, second) for node in page["nodes"]]
    assert ids == [encode(Prefix.EVENT, event.id) for event in reversed(own)]
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)


async def test_aliases_of_warnings_share_one_check(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = await builders.webhook(body_template="")
    checked: list[Webhook] = []
    find_warnings = api.services.webhooks.find_warnings

    async def count(row: Webhook) -> list[str]:
        checked.append(row)
        return await find_warnings(row)

    monkeypatch.setattr(api.services.webhooks, "find_warnings", count)
    document = "query ($id: ID!) { webhook(id: $id) { warnings again: warnings } }"

    answer = await api.ask(document, id=encode(Prefix.WEBHOOK, webhook.id))

    warning = "POST requests will have an empty body. Set bodyTemplate, or sendJson: true."
    assert answer == {"warnings": [warning], "again": [warning]}
    assert len(checked) == 1
