"""Invalid webhooks: an InputError names the field and says what to do. Nothing is written."""

from typing import Any

import pytest

from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.api import PUBLIC_URL, Api
from tests.support.inputs import LONE, NOT_A_LINE, NOT_STORABLE, NUL, WEBHOOK

LOOPBACK = (
    "127.0.0.1 is a loopback address; deliveries reach public addresses only. "
    "To allow it, add 127.0.0.0/8 to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
)


@pytest.mark.parametrize(
    ("given", "code", "field", "message"),
    [
        ({"model": "leed"}, "NOT_FOUND", "model", "There is no model 'leed'. Did you mean lead?"),
        ({"model": "zzz"}, "NOT_FOUND", "model", "There is no model 'zzz'."),
        ({"model": LONE}, "NOT_FOUND", "model", "There is no model '\\ud800'."),
        ({"actions": []}, "INVALID", "actions",
         "actions is empty. Enter at least one of CREATED, UPDATED and DELETED."),
        ({"url": "ftp://x/"}, "INVALID", "url",
         "The URL starts with ftp:, but only https:// and http:// can be delivered to."),
        ({"url": "x"}, "INVALID", "url", "The URL must start with https:// or http://."),
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
         "To allow it, add 10.0.0.1/32 to RINGBACK_DANGEROUS_ALLOW_NETWORKS."),
        ({"url": "https://hooks.example/" + "a" * 2_027}, "TOO_LARGE", "url",
         "url has 2,049 characters. Enter at most 2,048."),
        ({"url": "https://hooks.example/{{ item.id }}" + "a" * 8_158}, "TOO_LARGE", "url",
         "url has 8,193 characters. Enter at most 8,192."),
        ({"url": "https://hooks.example/{{ item.fone }}"}, "INVALID", "url",
         "Unknown field item.fone. Did you mean item.phone? (line 1, column 26)."),
        ({"bodyTemplate": "a\n{{ item.phone"}, "INVALID", "bodyTemplate",
         "'{{' is never closed. Add '}}' (line 2, column 1)."),
        ({"bodyTemplate": "{{ item.phone | foo }}"}, "INVALID", "bodyTemplate",
         "Unknown filter 'foo'. Did you mean 'floor'? (line 1, column 17)."),
        ({"bodyTemplate": "{{ item.fone }}"}, "INVALID", "bodyTemplate",
         "Unknown field item.fone. Did you mean item.phone? (line 1, column 4)."),
        ({"bodyTemplate": "x" * 65_537}, "TOO_LARGE", "bodyTemplate",
         "bodyTemplate has 65,537 bytes. Enter at most 65,536."),
        ({"bodyTemplate": "я" * 32_769}, "TOO_LARGE", "bodyTemplate",
         "bodyTemplate has 65,538 bytes. Enter at most 65,536."),
        ({"bodyTemplate": NUL}, "INVALID", "bodyTemplate", f"bodyTemplate {NOT_STORABLE}"),
        ({"bodyTemplate": LONE}, "INVALID", "bodyTemplate", f"bodyTemplate {NOT_STORABLE}"),
        ({"condition": "item.fone == 1"}, "INVALID", "condition",
         "Unknown field item.fone. Did you mean item.phone? (line 1, column 1)."),
        ({"condition": "item.name > 5"}, "INVALID", "condition",
         'The text item.name is compared with the number 5. Write "5" in quotes (line 1, column 13).'),
        ({"model": "customer_order", "condition": "item.total > '1000'"}, "INVALID", "condition",
         'The number item.total is compared with the text "1000". Write 1000 without quotes (line 1, column 14).'),
        ({"model": "customer_order", "bodyTemplate": "{% if item.items[0].price > 'x' %}{% endif %}"}, "INVALID",
         "bodyTemplate",
         'The number item.items[0].price is compared with the text "x". Compare it with a number, such as 1000 '
         "(line 1, column 29)."),
        ({"bodyTemplate": "{{ event.created_at | date: '%F', 'Mars' }}"}, "INVALID", "bodyTemplate",
         "Unknown time zone 'Mars'. Use a name of the IANA database, such as Europe/Berlin (line 1, column 23)."),
        ({"condition": "=="}, "INVALID", "condition", "Unexpected '==' (line 1, column 1)."),
        ({"condition": f'item.name == "{LONE}"'}, "INVALID", "condition", f"condition {NOT_STORABLE}"),
        ({"condition": f'item.name == "{NUL}"'}, "INVALID", "condition", f"condition {NOT_STORABLE}"),
        ({"condition": "x" * 8_193}, "TOO_LARGE", "condition", "condition has 8,193 characters. Enter at most 8,192."),
        ({"headers": [{"name": "A B", "value": "x"}]}, "INVALID", "headers[0].name",
         "'A B' is not a valid header name. Enter a name such as X-Shop."),
        ({"headers": [{"name": "", "value": "x"}]}, "INVALID", "headers[0].name",
         "'' is not a valid header name. Enter a name such as X-Shop."),
        ({"headers": [{"name": "X" * 257, "value": "x"}]}, "TOO_LARGE", "headers[0].name",
         "headers[0].name has 257 characters. Enter at most 256."),
        ({"headers": [{"name": "X", "value": "x\r\nY: z"}]}, "INVALID", "headers[0].value",
         "headers[0].value contains control characters. Remove them."),
        ({"headers": [{"name": "X", "value": LONE}]}, "INVALID", "headers[0].value",
         "headers[0].value contains a lone surrogate character. Remove it."),
        ({"headers": [{"name": "X", "value": "x" * 4_097}]}, "INVALID", "headers[0].value",
         "headers[0].value has 4,097 characters. Enter at most 4,096."),
        ({"headers": [{"name": "X", "value": "{{ item.fone }}"}]}, "INVALID", "headers[0].value",
         "Unknown field item.fone. Did you mean item.phone? (line 1, column 4)."),
        ({"headers": [{"name": "Host", "value": "x"}]}, "INVALID", "headers[0].name",
         "The header Host cannot be set here. It follows from the URL."),
        ({"headers": [{"name": "PS-WEBHOOK_EVENT-ID", "value": "x"}]}, "INVALID", "headers[0].name",
         "The header PS-WEBHOOK_EVENT-ID cannot be set here. Ringback sets it."),
        ({"headers": [{"name": "X", "value": ""}] * 51}, "TOO_LARGE", "headers",
         "headers has 51 entries. Enter at most 50."),
        ({"retryDelaysSeconds": []}, "INVALID", "retryDelaysSeconds",
         "retryDelaysSeconds is empty. Enter at least one delay: each is one attempt."),
        ({"retryDelaysSeconds": [1] * 21}, "INVALID", "retryDelaysSeconds",
         "retryDelaysSeconds has 21 entries. Enter at most 20: each is one attempt."),
        ({"retryDelaysSeconds": [-1]}, "INVALID", "retryDelaysSeconds[0]",
         "retryDelaysSeconds[0] is -1. Enter 0 to 604,800 seconds (7 days)."),
        ({"retryDelaysSeconds": [0, 604_801]}, "INVALID", "retryDelaysSeconds[1]",
         "retryDelaysSeconds[1] is 604801. Enter 0 to 604,800 seconds (7 days)."),
        ({"timeoutSeconds": 0.09}, "INVALID", "timeoutSeconds", "timeoutSeconds is 0.09. Enter 0.1 to 30 seconds."),
        ({"timeoutSeconds": 30.1}, "INVALID", "timeoutSeconds", "timeoutSeconds is 30.1. Enter 0.1 to 30 seconds."),
        ({"maxConcurrency": 0}, "INVALID", "maxConcurrency",
         "maxConcurrency is 0. Enter 1 to 1,000, or null for the server's default."),
        ({"maxConcurrency": -1}, "INVALID", "maxConcurrency",
         "maxConcurrency is -1. Enter 1 to 1,000, or null for the server's default."),
        ({"maxConcurrency": 1_001}, "INVALID", "maxConcurrency",
         "maxConcurrency is 1001. Enter 1 to 1,000, or null for the server's default."),
        ({"rateLimitPerSecond": 0}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond is 0.0. Enter 0.01 to 10,000 attempts per second, or null for no limit."),
        ({"rateLimitPerSecond": -2.5}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond is -2.5. Enter 0.01 to 10,000 attempts per second, or null for no limit."),
        ({"rateLimitPerSecond": 1e308}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond is 1e+308. Enter 0.01 to 10,000 attempts per second, or null for no limit."),
        ({"rateLimitPerSecond": 0.009}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond is 0.009. Enter 0.01 to 10,000 attempts per second, or null for no limit."),
        ({"rateLimitPerSecond": 10_000.1}, "INVALID", "rateLimitPerSecond",
         "rateLimitPerSecond is 10000.1. Enter 0.01 to 10,000 attempts per second, or null for no limit."),
        ({"name": f"a{NUL}"}, "INVALID", "name", f"name {NOT_A_LINE}"),
        ({"name": LONE}, "INVALID", "name", f"name {NOT_A_LINE}"),
        ({"name": "x" * 201}, "TOO_LARGE", "name", "name has 201 characters. Enter at most 200."),
        ({"contentType": "nonsense"}, "INVALID", "contentType",
         "contentType is 'nonsense'. Enter a media type, such as application/json."),
        ({"contentType": "text/plain; charset=windows-1215"}, "INVALID", "contentType",
         "contentType names the charset 'windows-1215', which is unknown. Enter one such as utf-8 or windows-1251."),
        ({"contentType": "text/xml; charset = windows-1251"}, "INVALID", "contentType",
         "contentType is 'text/xml; charset = windows-1251', whose parameters cannot be read. "
         "Write each as name=value, without spaces, such as charset=utf-8."),
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


async def test_all_errors_of_a_webhook_are_listed(api: Api) -> None:
    given = {**WEBHOOK, "actions": [], "url": "x", "timeoutSeconds": 0}
    assert {field for _, field, _ in await api.refusals("CreateWebhook", input=given)} == {
        "input.actions", "input.url", "input.timeoutSeconds",
    }  # fmt: skip


async def test_values_at_the_limits_are_allowed(api: Api) -> None:
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


async def test_limits_stay_until_they_are_cleared(api: Api) -> None:
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


async def test_null_clears_optional_fields_and_is_refused_for_others(api: Api) -> None:
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
        ("INVALID", f"input.{name}", f"{name} is null. Leave it out to keep the stored value.") for name in strict
    )
    cleared = await api.do("UpdateWebhook", input={"id": key, "name": None, "condition": None, "contentType": None})
    assert {cleared["webhook"][name] for name in ("name", "condition", "contentType")} == {None}


@pytest.mark.parametrize("item", [1, "x", [], [{}], True])
async def test_the_item_of_a_test_fire_must_be_a_json_object(api: Api, item: object) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    assert await api.refusals("TestFireWebhook", input={"webhookId": key, "item": item}) == [
        ("INVALID", "input.item", 'item is not a JSON object. Send an object, such as {"name": "Maria"}.')
    ]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"a": LONE}, "The string at a contains a NUL or lone surrogate character. Remove it."),
        ({NUL: 1}, "A field name of the object contains a NUL or lone surrogate character. Remove it."),
        ({"a": 2**63}, "The integer at a does not fit into 64 bits: 9223372036854775808. Send it as a string."),
        ({"a": float("inf")}, "The number at a is not finite. Send null or a string instead."),
        (nested(65), "JSON may be nested at most 64 levels deep."),
    ],
)
async def test_json_that_cannot_be_stored_is_refused(api: Api, item: dict[str, Any], message: str) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    code, actual = await api.error("TestFireWebhook", input={"webhookId": key, "item": item})
    assert (code, actual) == ("BAD_USER_INPUT", f"Variable '$input' has invalid value at .item: {message}")


async def test_json_at_its_limits_is_stored(api: Api) -> None:
    key = (await api.do("CreateWebhook", input=WEBHOOK))["webhook"]["id"]
    for item in (nested(64), {"id": 2**63 - 1, "x": [-(2**63), 0.5, None, "я"]}, {}):
        fired = await api.do("TestFireWebhook", input={"webhookId": key, "item": item})
        assert fired["event"]["item"] == item


async def test_a_webhook_of_an_untracked_model_can_be_deactivated(api: Api) -> None:
    row = await builders.webhook(model="gone")
    key = (await api.ask("Webhooks", first=1))["nodes"][0]["id"]
    changed = await api.do("UpdateWebhook", input={"id": key, "isActive": False})
    assert changed["webhook"]["isActive"] is False
    assert (await Webhook.get(id=row.id)).is_active is False
    assert await api.refusals("UpdateWebhook", input={"id": key, "bodyTemplate": "{{ item.id }}"}) == [
        ("NOT_FOUND", "input.model", "There is no model 'gone'.")
    ]


async def test_an_own_inbox_is_an_allowed_target_on_any_network(api: Api) -> None:
    url = (await api.do("CreateInbox", input={}))["inbox"]["url"]
    for target in (url, f"{url}?id={{{{ item.id }}}}", f"{url}?a=b"):
        await api.do("CreateWebhook", input={**WEBHOOK, "url": target})
    for target in (f"{url}x", f"{PUBLIC_URL}/inbox/", f"{PUBLIC_URL}/graphql"):
        expected = [("INVALID", "input.url", LOOPBACK)]
        assert await api.refusals("CreateWebhook", input={**WEBHOOK, "url": target}) == expected
