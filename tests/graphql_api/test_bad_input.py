"""Bad input: an InputError that names its field, says what to do, and leaves every table as it was."""

from typing import Any

import pytest

from ringback.models.lead import Lead
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.api import PUBLIC_URL, Api

UNKNOWN = "01h455vb4pex5vsknk084sn02q"
LONE, NUL = "\ud800", "\0"
WEBHOOK = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/"}
ITEM = {"brand": "Bosch", "article": "0 986", "name": "Pad", "quantity": 1, "price": "1.00"}
ORDER: dict[str, Any] = {"number": "A-1", "customer": {"name": "Ada"}, "items": [ITEM]}
NOT_STORABLE = "must not hold NUL or lone surrogate characters."
NOT_A_LINE = "must be one line of Unicode text, without control characters."
NO_ID = "'x' is not an id; one of this kind looks like"
LOOPBACK = (
    "127.0.0.1 is a loopback address; deliveries reach public addresses only. "
    "To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
)


@pytest.mark.parametrize(
    ("given", "code", "field", "message"),
    [
        ({"model": "leed"}, "NOT_FOUND", "model", "There is no model 'leed': did you mean lead?"),
        ({"model": "zzz"}, "NOT_FOUND", "model", "There is no model 'zzz'."),
        ({"model": LONE}, "NOT_FOUND", "model", "There is no model '\\ud800'."),
        ({"actions": []}, "INVALID", "actions", "Name at least one of CREATED, UPDATED, DELETED."),
        ({"url": "ftp://x/"}, "INVALID", "url",
         "The URL begins with ftp:, but only https:// and http:// can be delivered to."),
        ({"url": "x"}, "INVALID", "url", "The URL must begin with https:// or http://."),
        ({"url": "http://"}, "INVALID", "url", "The URL has no host."),
        ({"url": "http://u:p@hooks.example/"}, "INVALID", "url",
         "The URL carries credentials (user:password@); put them into a header instead."),
        ({"url": "http://hooks.example/\n"}, "INVALID", "url",
         "The URL contains whitespace or control characters; write them percent-encoded."),
        ({"url": f"http://hooks.example/{LONE}"}, "INVALID", "url", f"url {NOT_STORABLE}"),
        ({"url": "http://hooks.example/{{ '\0' }}"}, "INVALID", "url", f"url {NOT_STORABLE}"),
        ({"url": "http://127.0.0.1/"}, "INVALID", "url", LOOPBACK),
        ({"url": "http://10.0.0.1/{{ item.id }}"}, "INVALID", "url",
         "10.0.0.1 is a private address; deliveries reach public addresses only. "
         "To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."),
        ({"url": "https://hooks.example/" + "a" * 2_027}, "TOO_LARGE", "url",
         "url has 2,049 characters; 2,048 are allowed."),
        ({"url": "https://hooks.example/{{ item.id }}" + "a" * 8_158}, "TOO_LARGE", "url",
         "url has 8,193 characters; 8,192 are allowed."),
        ({"url": "https://hooks.example/{{ item.fone }}"}, "INVALID", "url",
         "Unknown field item.fone: did you mean item.phone? (line 1, column 26)."),
        ({"bodyTemplate": "a\n{{ item.phone"}, "INVALID", "bodyTemplate",
         "'{{' is never closed: '}}' is missing (line 2, column 1)."),
        ({"bodyTemplate": "{{ item.phone | foo }}"}, "INVALID", "bodyTemplate",
         "Unknown filter 'foo': did you mean 'floor'? (line 1, column 17)."),
        ({"bodyTemplate": "{{ item.fone }}"}, "INVALID", "bodyTemplate",
         "Unknown field item.fone: did you mean item.phone? (line 1, column 4)."),
        ({"bodyTemplate": "x" * 65_537}, "TOO_LARGE", "bodyTemplate",
         "bodyTemplate has 65,537 bytes; 65,536 are allowed."),
        ({"bodyTemplate": "я" * 32_769}, "TOO_LARGE", "bodyTemplate",
         "bodyTemplate has 65,538 bytes; 65,536 are allowed."),
        ({"bodyTemplate": NUL}, "INVALID", "bodyTemplate", f"bodyTemplate {NOT_STORABLE}"),
        ({"bodyTemplate": LONE}, "INVALID", "bodyTemplate", f"bodyTemplate {NOT_STORABLE}"),
        ({"condition": "item.fone == 1"}, "INVALID", "condition",
         "Unknown field item.fone: did you mean item.phone? (line 1, column 1)."),
        ({"condition": "=="}, "INVALID", "condition", "Unexpected '==' (line 1, column 1)."),
        ({"condition": f'item.name == "{LONE}"'}, "INVALID", "condition", f"condition {NOT_STORABLE}"),
        ({"condition": f'item.name == "{NUL}"'}, "INVALID", "condition", f"condition {NOT_STORABLE}"),
        ({"condition": "x" * 8_193}, "TOO_LARGE", "condition", "condition has 8,193 characters; 8,192 are allowed."),
        ({"headers": [{"name": "A B", "value": "x"}]}, "INVALID", "headers[0].name",
         "'A B' is not a legal header name."),
        ({"headers": [{"name": "", "value": "x"}]}, "INVALID", "headers[0].name", "'' is not a legal header name."),
        ({"headers": [{"name": "X", "value": "x\r\nY: z"}]}, "INVALID", "headers[0].value",
         "headers[0].value must not hold control characters."),
        ({"headers": [{"name": "X", "value": LONE}]}, "INVALID", "headers[0].value",
         "headers[0].value must be Unicode text."),
        ({"headers": [{"name": "X", "value": "x" * 4_097}]}, "INVALID", "headers[0].value",
         "headers[0].value has 4,097 characters; 4,096 are allowed."),
        ({"headers": [{"name": "X", "value": "{{ item.fone }}"}]}, "INVALID", "headers[0].value",
         "Unknown field item.fone: did you mean item.phone? (line 1, column 4)."),
        ({"headers": [{"name": "Host", "value": "x"}]}, "INVALID", "headers[0].name",
         "Host cannot be set here: it follows from the URL."),
        ({"headers": [{"name": "PS-WEBHOOK_EVENT-ID", "value": "x"}]}, "INVALID", "headers[0].name",
         "PS-WEBHOOK_EVENT-ID cannot be set here: Ringback sets it."),
        ({"headers": [{"name": "X", "value": ""}] * 51}, "TOO_LARGE", "headers",
         "headers has 51 entries; 50 are allowed."),
        ({"retryDelaysSeconds": []}, "INVALID", "retryDelaysSeconds",
         "retryDelaysSeconds must have at least one entry: each is one attempt."),
        ({"retryDelaysSeconds": [1] * 21}, "INVALID", "retryDelaysSeconds",
         "retryDelaysSeconds has 21 entries; at most 20 attempts are allowed."),
        ({"retryDelaysSeconds": [-1]}, "INVALID", "retryDelaysSeconds[0]",
         "retryDelaysSeconds[0] must be from 0 to 604,800 seconds (7 days)."),
        ({"retryDelaysSeconds": [0, 604_801]}, "INVALID", "retryDelaysSeconds[1]",
         "retryDelaysSeconds[1] must be from 0 to 604,800 seconds (7 days)."),
        ({"timeoutSeconds": 0.09}, "INVALID", "timeoutSeconds", "timeoutSeconds must be from 0.1 to 30 seconds."),
        ({"timeoutSeconds": 30.1}, "INVALID", "timeoutSeconds", "timeoutSeconds must be from 0.1 to 30 seconds."),
        ({"maxConcurrency": 0}, "INVALID", "maxConcurrency",
         "maxConcurrency must be from 1 to 1,000, or null for the setting's bound."),
        ({"maxConcurrency": -1}, "INVALID", "maxConcurrency",
         "maxConcurrency must be from 1 to 1,000, or null for the setting's bound."),
        ({"maxConcurrency": 1_001}, "INVALID", "maxConcurrency",
         "maxConcurrency must be from 1 to 1,000, or null for the setting's bound."),
        ({"rateLimitPerSecond": 0}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond must be from 0.01 to 10,000 attempts a second, or null for no limit."),
        ({"rateLimitPerSecond": -2.5}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond must be from 0.01 to 10,000 attempts a second, or null for no limit."),
        ({"rateLimitPerSecond": 1e308}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond must be from 0.01 to 10,000 attempts a second, or null for no limit."),
        ({"rateLimitPerSecond": 0.009}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond must be from 0.01 to 10,000 attempts a second, or null for no limit."),
        ({"rateLimitPerSecond": 10_000.1}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond must be from 0.01 to 10,000 attempts a second, or null for no limit."),
        ({"name": f"a{NUL}"}, "INVALID", "name", f"name {NOT_A_LINE}"),
        ({"name": LONE}, "INVALID", "name", f"name {NOT_A_LINE}"),
        ({"name": "x" * 201}, "TOO_LARGE", "name", "name has 201 characters; 200 are allowed."),
        ({"contentType": "nonsense"}, "INVALID", "contentType",
         "contentType must be a media type such as application/json."),
        ({"contentType": "text/plain\r\nX: y"}, "INVALID", "contentType", f"contentType {NOT_A_LINE}"),
    ],
)  # fmt: skip
async def test_a_webhook_is_refused(api: Api, given: dict[str, Any], code: str, field: str, message: str) -> None:
    expected = [(code, f"input.{field}", message)]
    assert await api.refusals("CreateWebhook", input={**WEBHOOK, **given}) == expected
    if "model" not in given:
        stored = await api.do("CreateWebhook", input=WEBHOOK)
        changes = {"id": stored["webhook"]["id"], **given}
        assert await api.refusals("UpdateWebhook", input=changes) == expected


async def test_all_that_is_wrong_is_said_at_once(api: Api) -> None:
    given = {**WEBHOOK, "actions": [], "url": "x", "timeoutSeconds": 0}
    assert {field for _, field, _ in await api.refusals("CreateWebhook", input=given)} == {
        "input.actions", "input.url", "input.timeoutSeconds",
    }  # fmt: skip


async def test_the_limits_themselves_are_allowed(api: Api) -> None:
    given = {
        **WEBHOOK, "retryDelaysSeconds": [0] * 19 + [604_800], "timeoutSeconds": 30, "name": "x" * 200,
        "bodyTemplate": "x" * 65_536, "url": "https://hooks.example/" + "a" * 2_026,
        "maxConcurrency": 1_000, "rateLimitPerSecond": 10_000,
    }  # fmt: skip
    made = await api.do("CreateWebhook", input=given)
    assert made["webhook"]["retryDelaysSeconds"] == [0] * 19 + [604_800]
    limits = {"maxConcurrency": 1, "rateLimitPerSecond": 0.01}
    await api.do("UpdateWebhook", input={"id": made["webhook"]["id"], **limits})
    cleared = {"maxConcurrency": None, "rateLimitPerSecond": None}
    await api.do("UpdateWebhook", input={"id": made["webhook"]["id"], **cleared})
    await api.do("UpdateWebhook", input={"id": made["webhook"]["id"], "timeoutSeconds": 0.1})


async def test_limits_are_shown_and_stay_until_they_are_cleared(api: Api) -> None:
    update = """mutation ($input: UpdateWebhookInput!) { updateWebhook(input: $input) {
        webhook { maxConcurrency rateLimitPerSecond } errors { code field message }
    } }"""
    made = await api.do("CreateWebhook", input={**WEBHOOK, "maxConcurrency": 7, "rateLimitPerSecond": 2.5})
    given = {"id": made["webhook"]["id"]}
    steps: list[tuple[dict[str, Any], tuple[int | None, float | None]]] = [
        ({"name": "renamed"}, (7, 2.5)),
        ({"rateLimitPerSecond": None}, (7, None)),
        ({"maxConcurrency": None, "rateLimitPerSecond": 3}, (None, 3.0)),
    ]
    for changes, (concurrency, rate) in steps:
        webhook = (await api.do(update, input={**given, **changes}))["webhook"]
        assert webhook == {"maxConcurrency": concurrency, "rateLimitPerSecond": rate}


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
        looks = f"{text!r:.80} is not an id; one of this kind looks like {prefix}_{UNKNOWN}."
        assert await api.refusals(operation, **variables(text)) == [("INVALID", field, looks)]
    other = f"req_{UNKNOWN}"
    kind = f"'{other}' is not an id of this kind; expected one that begins with {prefix}_."
    assert await api.refusals(operation, **variables(other)) == [("INVALID", field, kind)]


async def test_null_clears_what_can_be_cleared_and_is_refused_elsewhere(api: Api) -> None:
    made = await api.do("CreateWebhook", input={
        **WEBHOOK, "name": "CRM", "condition": 'item.status == "NEW"', "contentType": "text/plain",
    })  # fmt: skip
    key = made["webhook"]["id"]
    strict = [
        "actions", "url", "method", "isActive", "sendJson", "bodyTemplate", "headers", "retryDelaysSeconds",
        "timeoutSeconds", "successPolicy",
    ]  # fmt: skip
    found = await api.refusals("UpdateWebhook", input={"id": key, **dict.fromkeys(strict)})
    assert sorted(found) == sorted(
        ("INVALID", f"input.{name}", f"{name} cannot be null; leave it out to keep it.") for name in strict
    )
    cleared = await api.do("UpdateWebhook", input={"id": key, "name": None, "condition": None, "contentType": None})
    assert {cleared["webhook"][name] for name in ("name", "condition", "contentType")} == {None}


@pytest.mark.parametrize(
    ("operation", "strict"),
    [("UpdateLead", ["name", "phone", "status"]), ("UpdateCustomerOrder", ["number", "customer", "items", "status"])],
)
async def test_null_in_an_update_of_the_site(api: Api, operation: str, strict: list[str]) -> None:
    key = await an_order(api) if operation == "UpdateCustomerOrder" else await a_lead(api)
    found = await api.refusals(operation, input={"id": key, **dict.fromkeys(strict)})
    assert sorted(found) == sorted(
        ("INVALID", f"input.{name}", f"{name} cannot be null; leave it out to keep it.") for name in strict
    )
    (card,) = (v for k, v in (await api.do(operation, input={"id": key, "comment": None})).items() if k != "errors")
    assert card["comment"] is None


async def test_null_for_a_site_setting(api: Api) -> None:
    assert await api.refusals("UpdateSiteSettings", input={"trackLeads": None}) == [
        ("INVALID", "input.trackLeads", "trackLeads cannot be null; leave it out to keep it.")
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
        assert message.startswith("It was updated at 20")
        assert message.endswith("Z, after the state that you have seen: read it again first.")
    seen = {"id": webhook["id"], "expectedUpdatedAt": webhook["updatedAt"], "name": "x"}
    assert (await api.do("UpdateWebhook", input=seen))["webhook"]["name"] == "x"


@pytest.mark.parametrize("item", [1, "x", [], [{}], True])
async def test_a_test_fire_takes_a_json_object_only(api: Api, item: object) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    assert await api.refusals("TestFireWebhook", input={"webhookId": key, "item": item}) == [
        ("INVALID", "input.item", 'item must be a JSON object, such as {"name": "Maria"}.')
    ]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"a": LONE}, "Texts in JSON must not hold NUL or lone surrogate characters."),
        ({NUL: 1}, "Texts in JSON must not hold NUL or lone surrogate characters."),
        ({"a": 2**63}, "Whole numbers in JSON must fit into 64 bits; write longer ones as strings."),
        ({"a": float("inf")}, "Numbers in JSON must be finite."),
        (nested(65), "JSON may be nested at most 64 deep."),
    ],
)
async def test_json_that_cannot_be_kept_is_refused(api: Api, item: dict[str, Any], message: str) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    code, said = await api.error("TestFireWebhook", input={"webhookId": key, "item": item})
    assert (code, said) == ("BAD_USER_INPUT", f"Variable '$input' has invalid value at .item: {message}")


async def test_json_at_its_limits_is_kept(api: Api) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    for item in (nested(64), {"id": 2**63 - 1, "x": [-(2**63), 0.5, None, "я"]}, {}):
        fired = await api.do("TestFireWebhook", input={"webhookId": key, "item": item})
        assert fired["event"]["item"] == item


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"price": "1.001"}, "price", "items[0].price may have at most 2 decimal places."),
        ({"price": "1e-400"}, "price", "items[0].price may have at most 2 decimal places."),
        ({"price": "-0.01"}, "price", "items[0].price must be a price from 0 to less than 10,000,000,000."),
        ({"price": "1e400"}, "price", "items[0].price must be a price from 0 to less than 10,000,000,000."),
        ({"price": "10000000000"}, "price", "items[0].price must be a price from 0 to less than 10,000,000,000."),
        ({"quantity": 0}, "quantity", "items[0].quantity must be from 1 to 1,000,000."),
        ({"quantity": -1}, "quantity", "items[0].quantity must be from 1 to 1,000,000."),
        ({"quantity": 1_000_001}, "quantity", "items[0].quantity must be from 1 to 1,000,000."),
        ({"brand": " "}, "brand", "items[0].brand must not be empty."),
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
        ("INVALID", "input.customer.email", "customer.email must be an e-mail address, such as maria@example.com."),
        ("INVALID", "input.customer.name", "customer.name must not be empty."),
        ("INVALID", "input.customer.phone", f"customer.phone {NOT_A_LINE}"),
        ("INVALID", "input.number", "number must not be empty."),
    ]


async def test_an_empty_callback_form_is_refused(api: Api) -> None:
    assert await api.refusals("RequestCallback", input={"name": " ", "phone": "x" * 65}) == [
        ("INVALID", "input.name", "name must not be empty."),
        ("TOO_LARGE", "input.phone", "phone has 65 characters; 64 are allowed."),
    ]


@pytest.mark.parametrize(
    ("given", "code", "field", "message"),
    [
        ({"webhookIds": []}, "INVALID", "webhookIds", "An ADMIN token reaches every webhook; leave webhookIds out."),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "INVALID", "expiresAt", "expiresAt must be in the future."),
        ({"name": ""}, "INVALID", "name", "name must not be empty."),
        ({"name": "x" * 201}, "TOO_LARGE", "name", "name has 201 characters; 200 are allowed."),
    ],
)
async def test_a_token_is_refused(api: Api, given: dict[str, Any], code: str, field: str, message: str) -> None:
    given = {"name": "ci", "role": "ADMIN", **given}
    assert await api.refusals("CreateApiToken", input=given) == [(code, f"input.{field}", message)]


@pytest.mark.parametrize(
    ("given", "code", "field", "message"),
    [
        ({"responses": []}, "INVALID", "responses", "responses must have at least one entry."),
        ({"responses": [{}] * 101}, "TOO_LARGE", "responses", "responses has 101 entries; 100 are allowed."),
        ({"responses": [{"statusCode": 99}]}, "INVALID", "responses[0].statusCode",
         "responses[0].statusCode must be from 200 to 599."),
        ({"responses": [{}, {"statusCode": 600}]}, "INVALID", "responses[1].statusCode",
         "responses[1].statusCode must be from 200 to 599."),
        ({"responses": [{"statusCode": 101}]}, "INVALID", "responses[0].statusCode",
         "responses[0].statusCode must be from 200 to 599."),
        ({"responses": [{"delayMs": 60_001}]}, "INVALID", "responses[0].delayMs",
         "responses[0].delayMs must be from 0 to 60,000 milliseconds."),
        ({"responses": [{"delayMs": -1}]}, "INVALID", "responses[0].delayMs",
         "responses[0].delayMs must be from 0 to 60,000 milliseconds."),
        ({"responses": [{"body": " " * 65_537}]}, "TOO_LARGE", "responses[0].body",
         "responses[0].body has 65,537 characters; 65,536 are allowed."),
        ({"responses": [{"body": LONE}]}, "INVALID", "responses[0].body", f"responses[0].body {NOT_STORABLE}"),
        ({"responses": [{"contentType": "x y"}]}, "INVALID", "responses[0].contentType",
         "responses[0].contentType must be a media type such as application/json."),
        ({"responses": [{"contentType": "a/b\r\nX: y"}]}, "INVALID", "responses[0].contentType",
         f"responses[0].contentType {NOT_A_LINE}"),
        ({"name": LONE}, "INVALID", "name", f"name {NOT_A_LINE}"),
        ({"signingSecret": "bad"}, "INVALID", "signingSecret",
         "A signing secret begins with whsec_, followed by 24 to 64 bytes in base64."),
        ({"signingSecret": "whsec_abcd"}, "INVALID", "signingSecret",
         "The signing secret has 3 bytes; it needs 24 to 64 (counted after base64 is decoded)."),
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


async def test_a_webhook_whose_model_is_tracked_no_more_can_be_switched_off(api: Api) -> None:
    row = await builders.webhook(model="gone")
    key = (await api.ask("Webhooks", first=1))["nodes"][0]["id"]
    changed = await api.do("UpdateWebhook", input={"id": key, "isActive": False})
    assert changed["webhook"]["isActive"] is False
    assert (await Webhook.get(id=row.id)).is_active is False
    assert await api.refusals("UpdateWebhook", input={"id": key, "bodyTemplate": "{{ item.id }}"}) == [
        ("NOT_FOUND", "input.model", "There is no model 'gone'.")
    ]


@pytest.mark.parametrize(
    ("operation", "prefix"),
    [("Webhook", "whk"), ("Event", "evt"), ("Attempt", "att"), ("InboxRequests", "inb")],
)
async def test_an_id_in_a_query(api: Api, operation: str, prefix: str) -> None:
    assert await api.ask(operation, id=f"{prefix}_{UNKNOWN}") is None
    looks = f"id: 'x' is not an id; one of this kind looks like {prefix}_{UNKNOWN}"
    assert await api.error(operation, id="x") == ("BAD_USER_INPUT", looks)
    kind = f"id: 'req_{UNKNOWN}' is not an id of this kind; expected one that begins with {prefix}_"
    assert await api.error(operation, id=f"req_{UNKNOWN}") == ("BAD_USER_INPUT", kind)


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
        ("Events", {"webhookIds": ["x"]}, f"filter.webhookIds[0]: {NO_ID} whk_{UNKNOWN}"),
        ("Attempts", {"webhookIds": [f"whk_{UNKNOWN}", "x"]},
         f"filter.webhookIds[1]: {NO_ID} whk_{UNKNOWN}"),
        ("Attempts", {"eventIds": ["x"]}, f"filter.eventIds[0]: {NO_ID} evt_{UNKNOWN}"),
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


async def test_an_own_inbox_may_be_a_target_whatever_its_network(api: Api) -> None:
    url = (await api.do("CreateInbox", input={}))["inbox"]["url"]
    for target in (url, f"{url}?id={{{{ item.id }}}}", f"{url}?a=b"):
        await api.do("CreateWebhook", input={**WEBHOOK, "url": target})
    for target in (f"{url}x", url.replace(":8000", ":8001"), f"{PUBLIC_URL}/inbox/", f"{PUBLIC_URL}/graphql"):
        expected = [("INVALID", "input.url", LOOPBACK)]
        assert await api.refusals("CreateWebhook", input={**WEBHOOK, "url": target}) == expected
