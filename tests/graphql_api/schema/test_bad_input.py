"""Invalid input: an InputError names the field and says what to do. Nothing is written."""

from typing import Any

import pytest
from graphql import SourceLocation

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
async def test_an_unknown_or_malformed_id_is_refused(
    api: Api, operation: str, prefix: str, what: str, input: dict[str, Any] | None, field: str
) -> None:
    def variables(id: str) -> dict[str, Any]:
        return {"id": id} if input is None else {"input": {field.removeprefix("input."): id, **input}}

    unknown = f"{prefix}_{UNKNOWN}"
    not_found = [("NOT_FOUND", field, f"There is no {what} with the id {unknown}.")]
    assert await api.refusals(operation, **variables(unknown)) == not_found
    for text in ("nope", "", LONE, "x" * 100_000):
        malformed = f"{text!r:.80} is not an id. Expected an id such as {prefix}_{UNKNOWN}."
        assert await api.refusals(operation, **variables(text)) == [("INVALID", field, malformed)]
    other = f"req_{UNKNOWN}"
    wrong_prefix = f"'{other}' is not an id of this kind. Expected one that starts with {prefix}_."
    assert await api.refusals(operation, **variables(other)) == [("INVALID", field, wrong_prefix)]


@pytest.mark.parametrize(
    ("operation", "input", "field"),
    [(operation, given, field) for operation, prefix, _, given, field in ID_MUTATIONS if prefix == "whk"],
)
async def test_a_deleted_webhook_is_refused_with_the_time(
    api: Api, operation: str, input: dict[str, Any] | None, field: str
) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    await api.do("DeleteWebhook", id=key)
    deleted_at = (await api.ask("query ($id: ID!) { webhook(id: $id) { deletedAt } }", id=key))["deletedAt"]

    variables = {"id": key} if input is None else {"input": {field.removeprefix("input."): key, **input}}
    refusals = await api.refusals(operation, **variables)

    message = f"The webhook {key} was deleted at {deleted_at}. It cannot be changed or fired any more."
    assert refusals == [("NOT_FOUND", field, message)]


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
    (updated,) = (v for k, v in (await api.do(operation, input={"id": key, "comment": None})).items() if k != "errors")
    assert updated["comment"] is None


async def test_null_is_refused_for_a_site_setting(api: Api) -> None:
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
async def test_a_malformed_decimal_is_refused_by_its_type(api: Api, price: object) -> None:
    code, message = await api.error("CreateCustomerOrder", input={**ORDER, "items": [{**ITEM, "price": price}]})
    assert code == "BAD_USER_INPUT"
    assert message.endswith(f'at .items[0].price: {price!r} is not a Decimal. Send it as a string, such as "350.50".')


async def test_all_errors_of_an_order_are_listed(api: Api) -> None:
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
        ("INVALID", "input.items", "items is empty. Add at least one item."),
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
        ({"responses": [{"contentType": "a/b; charset=x"}]}, "INVALID", "responses[0].contentType",
         "responses[0].contentType names the charset 'x', which is unknown. Enter one such as utf-8 or windows-1251."),
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


async def test_an_inbox_response_has_the_trimmed_content_type(api: Api) -> None:
    payload = await api.do("CreateInbox", input={"responses": [{"contentType": " text/html; charset=utf-8\r\n"}]})
    assert payload["inbox"]["responses"][0]["contentType"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("datetime", ["garbage", "2999-01-01", "2999-01-01T00:00:00", "2999-W01-1T00:00Z", "", LONE, 5])
async def test_a_malformed_datetime_is_refused_by_its_type(api: Api, datetime: object) -> None:
    code, message = await api.error("CreateApiToken", input={"name": "n", "role": "ADMIN", "expiresAt": datetime})
    assert code == "BAD_USER_INPUT"
    assert message.endswith(
        f"at .expiresAt: {datetime!r} is not a DateTime. Use RFC 3339 format, such as 2026-01-31T12:00:00.000000Z."
    )


@pytest.mark.parametrize("datetime", ["2999-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_datetime_that_does_not_exist_is_refused(api: Api, datetime: str) -> None:
    code, message = await api.error("CreateApiToken", input={"name": "n", "role": "ADMIN", "expiresAt": datetime})
    assert code == "BAD_USER_INPUT"
    assert message.endswith(f"The DateTime {datetime} does not exist, or is outside the years 1 to 9999 in UTC.")


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        (f'"{"x" * 100}"',
         f"'{'x' * 79} is not a DateTime. Use RFC 3339 format, such as 2026-01-31T12:00:00.000000Z."),
        ('"2999-02-30T00:00:00Z"',
         "The DateTime 2999-02-30T00:00:00Z does not exist, or is outside the years 1 to 9999 in UTC."),
    ],
)  # fmt: skip
async def test_a_bad_literal_is_refused_with_its_place(api: Api, literal: str, message: str) -> None:
    document = (
        f'mutation {{\n  createApiToken(input: {{name: "n", role: ADMIN, expiresAt: {literal}}}) {{ secret }}\n}}'
    )

    (error,) = (await api.execute(document)).errors

    assert error.message == message
    assert error.locations == [SourceLocation(line=2, column=61)]
    assert error.extensions == {"code": "GRAPHQL_VALIDATION_FAILED"}


@pytest.mark.parametrize(
    ("operation", "prefix"),
    [("Webhook", "whk"), ("Event", "evt"), ("Attempt", "att"), ("InboxRequests", "inb")],
)
async def test_an_unknown_id_in_a_query_gives_null_and_a_malformed_one_an_error(
    api: Api, operation: str, prefix: str
) -> None:
    assert await api.ask(operation, id=f"{prefix}_{UNKNOWN}") is None
    malformed = f"id: {NO_ID} {prefix}_{UNKNOWN}."
    assert await api.error(operation, id="x") == ("BAD_USER_INPUT", malformed)
    wrong_prefix = f"id: 'req_{UNKNOWN}' is not an id of this kind. Expected one that starts with {prefix}_."
    assert await api.error(operation, id=f"req_{UNKNOWN}") == ("BAD_USER_INPUT", wrong_prefix)


@pytest.mark.parametrize(
    "operation", ["Webhooks", "Events", "Attempts", "Leads", "CustomerOrders", "Inboxes", "ApiTokens"]
)
async def test_an_invalid_page_size_or_cursor_is_refused(api: Api, operation: str) -> None:
    for first in (0, -1, 101):
        assert await api.error(operation, first=first) == (
            "BAD_USER_INPUT",
            f"first is {first}. Enter a number from 1 to 100.",
        )
    for after in ("é", "AAAA", "", LONE, "x" * 10_000):
        expected = f"after is {after[:80]!r}, which is not a cursor of this list. Use the endCursor of a page."
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
         "filter.webhookIds has 1,001 entries. Enter at most 1,000."),
        ("Events", {"models": ["a"] * 1_001}, "filter.models has 1,001 entries. Enter at most 1,000."),
        ("Events", {"models": [LONE]}, "filter.models[0] contains a NUL or lone surrogate character. Remove it."),
        ("Events", {"models": ["x" * 101]}, "filter.models[0] has 101 characters. Enter at most 100."),
        ("Webhooks", {"models": ["x" * 101]}, "filter.models[0] has 101 characters. Enter at most 100."),
        ("Events", {"objectId": "x" * 256}, "filter.objectId has 256 characters. Enter at most 255."),
        ("Events", {"objectId": NUL}, "filter.objectId contains a NUL or lone surrogate character. Remove it."),
        ("Webhooks", {"search": LONE}, "filter.search contains a NUL or lone surrogate character. Remove it."),
        ("Webhooks", {"search": "x" * 60_000}, "filter.search has 60,000 characters. Enter at most 1,000."),
    ],
)  # fmt: skip
async def test_an_invalid_filter_is_refused(api: Api, operation: str, filter: dict[str, Any], message: str) -> None:
    assert await api.error(operation, filter=filter) == ("BAD_USER_INPUT", message)


async def a_lead(api: Api) -> str:
    await api.do("UpdateSiteSettings", input={"trackLeads": True})
    payload = await api.do("RequestCallback", input={"name": "Ada", "phone": "+7 900"})
    assert await Lead.all().count() == 1
    return str(payload["lead"]["id"])


async def an_order(api: Api) -> str:
    return str((await api.do("CreateCustomerOrder", input=ORDER))["order"]["id"])
