"""Bad input: an InputError that names its field, says what to do, and leaves every table as it was."""

from typing import Any

import pytest

from ringback.models.lead import Lead
from tests.support.api import Api
from tests.support.inputs import LONE, NOT_A_LINE, NOT_STORABLE, NUL, WEBHOOK

UNKNOWN = "01h455vb4pex5vsknk084sn02q"
ITEM = {"brand": "Bosch", "article": "0 986", "name": "Pad", "quantity": 1, "price": "1.00"}
ORDER: dict[str, Any] = {"number": "A-1", "customer": {"name": "Ada"}, "items": [ITEM]}
NO_ID = "'x' is not an id. Expected an id such as"
ID_MUTATIONS = [
    ("UpdateWebhook", "whk", "webhook", {"name": "x"}, "input.id"),
    ("DeleteWebhook", "whk", "webhook", None, "id"),
    ("TestFireWebhook", "whk", "webhook", {}, "input.webhookId"),
    ("RedeliverEvent", "evt", "event", None, "id"),
    ("CancelEvent", "evt", "event", None, "id"),
    ("UpdateLead", "lead", "lead", {"name": "x"}, "input.id"),
    ("DeleteLead", "lead", "lead", None, "id"),
    ("UpdateCustomerOrder", "ord", "order", {"comment": "x"}, "input.id"),
    ("DeleteCustomerOrder", "ord", "order", None, "id"),
    ("ClearInbox", "inb", "inbox", None, "id"),
    ("DeleteInbox", "inb", "inbox", None, "id"),
    ("RevokeApiToken", "tok", "token", None, "id"),
]


@pytest.mark.parametrize(("operation", "prefix", "what", "input", "field"), ID_MUTATIONS)
async def test_an_id_that_names_nothing_or_is_malformed(
    api: Api, operation: str, prefix: str, what: str, input: dict[str, Any] | None, field: str
) -> None:
    def variables(id: str) -> dict[str, Any]:
        return {"id": id} if input is None else {"input": {field.removeprefix("input."): id, **input}}

    unknown = f"{prefix}_{UNKNOWN}"
    there_is_none = [("NOT_FOUND", field, f"There is no {what} with the id {unknown}.")]
    assert await api.refusals(operation, **variables(unknown)) == there_is_none
    for text in ("nope", "", LONE, "x" * 100_000):
        malformed = f"{text!r:.80} is not an id. Expected an id such as {prefix}_{UNKNOWN}."
        assert await api.refusals(operation, **variables(text)) == [("INVALID", field, malformed)]
    other = f"req_{UNKNOWN}"
    wrong_prefix = f"'{other}' is not an id of this kind. Expected one that starts with {prefix}_."
    assert await api.refusals(operation, **variables(other)) == [("INVALID", field, wrong_prefix)]


@pytest.mark.parametrize(
    ("operation", "strict"),
    [("UpdateLead", ["name", "phone", "status"]), ("UpdateCustomerOrder", ["number", "customer", "items", "status"])],
)
async def test_null_in_an_update_of_the_site(api: Api, operation: str, strict: list[str]) -> None:
    key = await an_order(api) if operation == "UpdateCustomerOrder" else await a_lead(api)
    found = await api.refusals(operation, input={"id": key, **dict.fromkeys(strict)})
    assert sorted(found) == sorted(
        ("INVALID", f"input.{name}", f"{name} is null. Leave it out to keep the stored value.") for name in strict
    )
    (card,) = (v for k, v in (await api.do(operation, input={"id": key, "comment": None})).items() if k != "errors")
    assert card["comment"] is None


async def test_null_for_a_site_setting(api: Api) -> None:
    assert await api.refusals("UpdateSiteSettings", input={"trackLeads": None}) == [
        ("INVALID", "input.trackLeads", "trackLeads is null. Leave it out to keep the stored value.")
    ]


async def test_a_lost_update_is_a_conflict(api: Api) -> None:
    webhook = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]
    lead, order = await a_lead(api), await an_order(api)
    stale = "2020-01-01T00:00:00.000000Z"
    for operation, key, change in (
        ("UpdateWebhook", webhook["id"], {"name": "x"}),
        ("UpdateLead", lead, {"name": "x"}),
        ("UpdateCustomerOrder", order, {"comment": "x"}),
    ):
        ((code, field, message),) = await api.refusals(
            operation, input={"id": key, "expectedUpdatedAt": stale, **change}
        )
        assert (code, field) == ("CONFLICT", "input.expectedUpdatedAt")
        assert message.startswith("The object was updated at 20")
        assert message.endswith("Z, after you read it. Read it again and retry.")
    seen = {"id": webhook["id"], "expectedUpdatedAt": webhook["updatedAt"], "name": "x"}
    assert (await api.do("UpdateWebhook", input=seen))["webhook"]["name"] == "x"


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"price": "1.001"}, "price", "items[0].price is 1.001. Enter at most 2 decimal places."),
        ({"price": "1e-400"}, "price", "items[0].price is 1E-400. Enter at most 2 decimal places."),
        ({"price": "-0.01"}, "price", "items[0].price is -0.01. Enter a price from 0 to less than 10,000,000,000."),
        ({"price": "1e400"}, "price", "items[0].price is 1E+400. Enter a price from 0 to less than 10,000,000,000."),
        (
            {"price": "10000000000"},
            "price",
            "items[0].price is 10000000000. Enter a price from 0 to less than 10,000,000,000.",
        ),
        ({"quantity": 0}, "quantity", "items[0].quantity is 0. Enter 1 to 1,000,000."),
        ({"quantity": -1}, "quantity", "items[0].quantity is -1. Enter 1 to 1,000,000."),
        ({"quantity": 1_000_001}, "quantity", "items[0].quantity is 1000001. Enter 1 to 1,000,000."),
        ({"brand": " "}, "brand", "items[0].brand is empty. Enter a value."),
        ({"article": LONE}, "article", f"items[0].article {NOT_A_LINE}"),
    ],
)
async def test_an_order_line_is_refused(api: Api, given: dict[str, Any], field: str, message: str) -> None:
    expected = [("INVALID", f"input.items[0].{field}", message)]
    key = await an_order(api)
    lines = [{**ITEM, **given}]
    assert await api.refusals("CreateCustomerOrder", input={**ORDER, "items": lines}) == expected
    assert await api.refusals("UpdateCustomerOrder", input={"id": key, "items": lines}) == expected


@pytest.mark.parametrize(
    "price", ["NaN", "sNaN", "Infinity", "1_000", " 1 ", "١", "", "x", 1.5, True, 2**64, "1e99999"]
)
async def test_what_is_no_decimal_is_refused_by_its_type(api: Api, price: object) -> None:
    code, message = await api.error("CreateCustomerOrder", input={**ORDER, "items": [{**ITEM, "price": price}]})
    assert code == "BAD_USER_INPUT"
    assert message.endswith('at .items[0].price: A Decimal is written as a string, like "350.50".')


async def test_an_order_is_refused_for_all_that_is_wrong(api: Api) -> None:
    given = {"number": "", "customer": {"name": "", "phone": NUL, "email": "x"}, "items": [], "comment": LONE}
    assert sorted(await api.refusals("CreateCustomerOrder", input=given)) == [
        ("INVALID", "input.comment", f"comment {NOT_STORABLE}"),
        (
            "INVALID",
            "input.customer.email",
            "customer.email is 'x'. Enter an e-mail address, such as maria@example.com.",
        ),
        ("INVALID", "input.customer.name", "customer.name is empty. Enter a value."),
        ("INVALID", "input.customer.phone", f"customer.phone {NOT_A_LINE}"),
        ("INVALID", "input.number", "number is empty. Enter a value."),
    ]


async def test_an_empty_callback_form_is_refused(api: Api) -> None:
    assert await api.refusals("RequestCallback", input={"name": " ", "phone": "x" * 65}) == [
        ("INVALID", "input.name", "name is empty. Enter a value."),
        ("TOO_LARGE", "input.phone", "phone has 65 characters. Enter at most 64."),
    ]


@pytest.mark.parametrize(
    ("given", "code", "field", "message"),
    [
        ({"webhookIds": []}, "INVALID", "webhookIds", "ADMIN tokens reach all webhooks. Leave webhookIds out."),
        (
            {"expiresAt": "2020-01-01T00:00:00Z"},
            "INVALID",
            "expiresAt",
            "expiresAt is in the past. Enter a time in the future.",
        ),
        ({"name": ""}, "INVALID", "name", "name is empty. Enter a value."),
        ({"name": "x" * 201}, "TOO_LARGE", "name", "name has 201 characters. Enter at most 200."),
    ],
)
async def test_a_token_is_refused(api: Api, given: dict[str, Any], code: str, field: str, message: str) -> None:
    given = {"name": "ci", "role": "ADMIN", **given}
    assert await api.refusals("CreateApiToken", input=given) == [(code, f"input.{field}", message)]


@pytest.mark.parametrize(
    ("given", "code", "field", "message"),
    [
        ({"responses": []}, "INVALID", "responses", "responses is empty. Enter at least one response."),
        ({"responses": [{}] * 101}, "TOO_LARGE", "responses", "responses has 101 entries. Enter at most 100."),
        ({"responses": [{"statusCode": 99}]}, "INVALID", "responses[0].statusCode",
         "responses[0].statusCode is 99. Enter 200 to 599."),
        ({"responses": [{}, {"statusCode": 600}]}, "INVALID", "responses[1].statusCode",
         "responses[1].statusCode is 600. Enter 200 to 599."),
        ({"responses": [{"statusCode": 101}]}, "INVALID", "responses[0].statusCode",
         "responses[0].statusCode is 101. Enter 200 to 599."),
        ({"responses": [{"delayMs": 60_001}]}, "INVALID", "responses[0].delayMs",
         "responses[0].delayMs is 60001. Enter 0 to 60,000 milliseconds."),
        ({"responses": [{"delayMs": -1}]}, "INVALID", "responses[0].delayMs",
         "responses[0].delayMs is -1. Enter 0 to 60,000 milliseconds."),
        ({"responses": [{"body": " " * 65_537}]}, "TOO_LARGE", "responses[0].body",
         "responses[0].body has 65,537 characters. Enter at most 65,536."),
        ({"responses": [{"body": LONE}]}, "INVALID", "responses[0].body", f"responses[0].body {NOT_STORABLE}"),
        ({"responses": [{"contentType": "x y"}]}, "INVALID", "responses[0].contentType",
         "responses[0].contentType is 'x y'. Enter a media type, such as application/json."),
        ({"responses": [{"contentType": "a/b\r\nX: y"}]}, "INVALID", "responses[0].contentType",
         f"responses[0].contentType {NOT_A_LINE}"),
        ({"name": LONE}, "INVALID", "name", f"name {NOT_A_LINE}"),
        ({"signingSecret": "bad"}, "INVALID", "signingSecret",
         "A signing secret begins with whsec_, followed by 24 to 64 bytes in base64."),
        ({"signingSecret": "whsec_abcd"}, "INVALID", "signingSecret",
         "The signing secret has 3 bytes after base64 decoding; it needs 24 to 64."),
    ],
)  # fmt: skip
async def test_an_inbox_is_refused(api: Api, given: dict[str, Any], code: str, field: str, message: str) -> None:
    assert await api.refusals("CreateInbox", input=given) == [(code, f"input.{field}", message)]


async def test_an_inbox_answers_with_the_content_type_as_it_was_checked(api: Api) -> None:
    made = await api.do("CreateInbox", input={"responses": [{"contentType": " text/html; charset=utf-8\r\n"}]})
    assert made["inbox"]["responses"][0]["contentType"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("moment", ["garbage", "2999-01-01", "2999-01-01T00:00:00", "2999-W01-1T00:00Z", "", LONE, 5])
async def test_what_is_no_moment_is_refused_by_its_type(api: Api, moment: object) -> None:
    code, message = await api.error("CreateApiToken", input={"name": "n", "role": "ADMIN", "expiresAt": moment})
    assert code == "BAD_USER_INPUT"
    assert message.endswith("at .expiresAt: A DateTime is written like 2026-01-31T12:00:00.000000Z (RFC 3339).")


@pytest.mark.parametrize("moment", ["2999-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_moment_that_does_not_exist(api: Api, moment: str) -> None:
    code, message = await api.error("CreateApiToken", input={"name": "n", "role": "ADMIN", "expiresAt": moment})
    assert code == "BAD_USER_INPUT"
    assert message.endswith("A DateTime is a moment that exists, from the year 1 to 9999.")


@pytest.mark.parametrize(
    ("operation", "prefix"),
    [("Webhook", "whk"), ("Event", "evt"), ("Attempt", "att"), ("InboxRequests", "inb")],
)
async def test_an_id_in_a_query(api: Api, operation: str, prefix: str) -> None:
    assert await api.ask(operation, id=f"{prefix}_{UNKNOWN}") is None
    malformed = f"id: {NO_ID} {prefix}_{UNKNOWN}."
    assert await api.error(operation, id="x") == ("BAD_USER_INPUT", malformed)
    wrong_prefix = f"id: 'req_{UNKNOWN}' is not an id of this kind. Expected one that starts with {prefix}_."
    assert await api.error(operation, id=f"req_{UNKNOWN}") == ("BAD_USER_INPUT", wrong_prefix)


@pytest.mark.parametrize(
    "operation", ["Webhooks", "Events", "Attempts", "Leads", "CustomerOrders", "Inboxes", "ApiTokens"]
)
async def test_a_page_that_cannot_be(api: Api, operation: str) -> None:
    for first in (0, -1, 101):
        assert await api.error(operation, first=first) == ("BAD_USER_INPUT", "first: must be from 1 to 100")
    for after in ("é", "AAAA", "", LONE, "x" * 10_000):
        expected = f"after: {after[:80]!r} is not a cursor of this list"
        assert await api.error(operation, after=after) == ("BAD_USER_INPUT", expected)
    code, message = await api.error(operation, first=2**31)
    assert (code, message.endswith("Int cannot represent non 32-bit signed integer value: 2147483648")) == (
        "BAD_USER_INPUT", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "filter", "message"),
    [
        ("Events", {"webhookIds": ["x"]}, f"filter.webhookIds[0]: {NO_ID} whk_{UNKNOWN}."),
        ("Attempts", {"webhookIds": [f"whk_{UNKNOWN}", "x"]},
         f"filter.webhookIds[1]: {NO_ID} whk_{UNKNOWN}."),
        ("Attempts", {"eventIds": ["x"]}, f"filter.eventIds[0]: {NO_ID} evt_{UNKNOWN}."),
        ("Events", {"webhookIds": [f"whk_{UNKNOWN}"] * 1_001},
         "filter.webhookIds: has 1,001 entries; 1,000 are allowed"),
        ("Events", {"models": ["a"] * 1_001}, "filter.models: has 1,001 entries; 1,000 are allowed"),
        ("Events", {"models": [LONE]}, "filter.models[0]: must not hold NUL or lone surrogate characters"),
        ("Events", {"models": ["x" * 101]}, "filter.models[0]: has 101 characters; 100 are allowed"),
        ("Webhooks", {"models": ["x" * 101]}, "filter.models[0]: has 101 characters; 100 are allowed"),
        ("Events", {"objectId": "x" * 256}, "filter.objectId: has 256 characters; 255 are allowed"),
        ("Events", {"objectId": NUL}, "filter.objectId: must not hold NUL or lone surrogate characters"),
        ("Webhooks", {"search": LONE}, "filter.search: must not hold NUL or lone surrogate characters"),
        ("Webhooks", {"search": "x" * 60_000}, "filter.search: has 60,000 characters; 1,000 are allowed"),
    ],
)  # fmt: skip
async def test_a_filter_that_cannot_be(api: Api, operation: str, filter: dict[str, Any], message: str) -> None:
    assert await api.error(operation, filter=filter) == ("BAD_USER_INPUT", message)


async def a_lead(api: Api) -> str:
    await api.do("UpdateSiteSettings", input={"trackLeads": True})
    made = await api.do("RequestCallback", input={"name": "Ada", "phone": "+7 900"})
    assert await Lead.all().count() == 1
    return str(made["lead"]["id"])


async def an_order(api: Api) -> str:
    return str((await api.do("CreateCustomerOrder", input=ORDER))["order"]["id"])
