"""Sends hostile values through every operation that stores or searches them, and collects the answers.

A visit is a function that sends one value, and returns what the program answers.
"""

import asyncio
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from ringback.graphql_api.app import Application
from ringback.graphql_api.transport.requests import MalformedRequest, parse_body
from ringback.jobs.http.sender import Sender
from ringback.jobs.recorder import Recorder
from ringback.models import Settings, bootstrap
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from tests.support import builders
from tests.support.api import Api, open_api
from tests.support.deliverers import Bench, record
from tests.support.hostile_values import BYTES, NUMBERS, TEXTS
from tests.support.http_server import NO_AUTHORITIES, answering
from tests.support.sending import LOOPBACK, deliver
from tests.support.websocket_client import serving

V = TypeVar("V", str, bytes)
Visit = Callable[[Api, V], Awaitable[list[Any]]]

LEAD = {"name": "Ada", "phone": "1"}
ITEM = {"brand": "Bosch", "article": "1", "name": "Pad", "quantity": 1, "price": "1.00"}
ORDER: dict[str, Any] = {"number": "1", "customer": {"name": "Ada"}, "items": [ITEM]}
WEBHOOK: dict[str, Any] = {"model": "lead", "actions": ["UPDATED"], "url": "https://hooks.example/"}
PART: dict[str, Any] = {"name": "part", "label": "Part", "jsonSchema": {"type": "object"}, "sample": {}}
CHANGE: dict[str, Any] = {"model": "part", "action": "UPDATED", "objectId": "1", "item": {"id": "1"}}
SEARCH = "query ($filter: WebhookFilter) { webhooks(first: 100, filter: $filter) { nodes { name url } } }"
MODELS = "{ webhookModels { name label description sample fields { path } } }"
LISTS = ("Webhooks", "Events", "Attempts", "Leads", "CustomerOrders", "Inboxes", "ApiTokens")

#: What differs between two runs, and what stands for it in the answers.
_VOLATILE = (
    (re.compile(r"\b([a-z]{3,4})_[0-9a-hjkmnp-tv-z]{26}\b"), r"\1_ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "TIME"),
    (re.compile(r'"(endCursor|secret|signingSecret)":"[^"]*"'), r'"\1":"VALUE"'),
    (re.compile(r"/inbox/[\w-]+"), "/inbox/TOKEN"),
    (re.compile(r"v1,[\w+/=]+"), "SIGNATURE"),
    (re.compile(r'"webhook-timestamp","value":"\d+"'), "TIMESTAMP"),
    (re.compile(r"127\.0\.0\.1:\d+"), "PEER"),
)


async def visit_all(settings: Settings) -> dict[tuple[str, str], str]:
    """Open a migrated database and return the answers as JSON, by the name of the visit and of the value."""
    answers: dict[tuple[str, str], str] = {}
    async with bootstrap.open_database(settings), open_api() as api:
        await api.do("UpdateSiteSettings", input={"trackLeads": True})
        await api.do("DeclareModel", input=PART)
        for model in ("part", "lead", "customer_order"):
            await api.do("CreateWebhook", input={**WEBHOOK, "model": model, "actions": ["CREATED", "UPDATED"]})
        await _visit_each(answers, api, TEXT_VISITS, TEXTS)
        await _visit_each(answers, api, NUMBER_VISITS, {number: number for number in NUMBERS})
        await _visit_each(answers, api, BYTE_VISITS, BYTES)
    return answers


async def _visit_each(
    answers: dict[tuple[str, str], str], api: Api, visits: tuple[Visit[V], ...], values: Mapping[str, V]
) -> None:
    for visit in visits:
        for name, value in values.items():
            text = orjson.dumps(await visit(api, value)).decode()
            for pattern, replacement in _VOLATILE:
                text = pattern.sub(replacement, text)
            assert "Internal error" not in text, (visit.__name__, name, text[:10_000])
            answers[visit.__name__, name] = text


async def ask(api: Api, operation: str, /, **variables: Any) -> Any:
    """Return the answer to an operation. It must not be an internal error."""
    response = await api.execute(operation, **variables)
    codes = [(error.extensions or {}).get("code") for error in response.errors]
    assert "INTERNAL" not in codes, (operation, response.errors)
    return orjson.loads(response.json)


async def ask_each(api: Api, operation: str, *inputs: Any) -> list[Any]:
    """Return the answers to a mutation with each of the inputs."""
    return [await ask(api, operation, input=given) for given in inputs]


def spellings_of(text: str) -> list[str]:
    """Return the text in all spellings that some collation takes to be equal to it."""
    spellings = [text, text.upper(), text.lower(), text.casefold(), text.swapcase(), f"{text} ", text.strip()]
    normalized = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC")]
    return list(dict.fromkeys(spellings + normalized))


async def visit_leads(api: Api, text: str) -> list[Any]:
    answers = await ask_each(api, "RequestCallback", {**LEAD, "name": text}, {**LEAD, "phone": text}, LEAD)
    key = answers[-1]["data"]["requestCallback"]["lead"]["id"]
    answers += await ask_each(api, "UpdateLead", {"id": key, "comment": text}, {"id": key, "name": text})
    return [*answers, await ask(api, "Leads", first=2)]


async def visit_orders(api: Api, text: str) -> list[Any]:
    answers = await ask_each(
        api,
        "CreateCustomerOrder",
        {**ORDER, "number": text},
        {**ORDER, "comment": text},
        {**ORDER, "customer": {"name": text}},
        {**ORDER, "customer": {"name": "Ada", "phone": text, "email": f"{text}@example.com"}},
        {**ORDER, "items": [{**ITEM, "brand": text, "article": text, "name": text}]},
    )
    return [*answers, await ask(api, "CustomerOrders", first=1)]


async def visit_webhooks(api: Api, text: str) -> list[Any]:
    answers = await ask_each(
        api,
        "CreateWebhook",
        {**WEBHOOK, "name": text},
        {**WEBHOOK, "url": f"https://hooks.example/{text}?{text}"},
        {**WEBHOOK, "url": f"https://{text}/"},
        {**WEBHOOK, "headers": [{"name": "X-Text", "value": text}]},
        {**WEBHOOK, "headers": [{"name": text, "value": "1"}]},
        {**WEBHOOK, "bodyTemplate": text},
        {**WEBHOOK, "condition": f'item.name == "{text}"'},
        {**WEBHOOK, "contentType": text},
        {**WEBHOOK, "model": text},
    )
    return [*answers, await ask(api, "Webhooks", first=2)]


async def visit_searches(api: Api, text: str) -> list[Any]:
    return [await ask(api, SEARCH, filter={"search": spelling}) for spelling in spellings_of(text)]


async def visit_declarations(api: Api, text: str) -> list[Any]:
    described = {"type": "object", "properties": {text: {"type": "string", "enum": [text], "description": text}}}
    with_pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": text}}}
    answers = await ask_each(
        api,
        "DeclareModel",
        {**PART, "name": text},
        {**PART, "name": "texts", "label": text},
        {**PART, "name": "texts", "description": text},
        {**PART, "name": "texts", "sample": {text: text, "a": [text]}},
        {**PART, "name": "texts", "jsonSchema": described, "sample": {text: text}},
        {**PART, "name": "texts", "jsonSchema": with_pattern},
    )
    return [*answers, await ask(api, MODELS)]


async def visit_changes(api: Api, text: str) -> list[Any]:
    spellings = spellings_of(text)
    changes = [
        {**CHANGE, "objectId": text},
        {**CHANGE, "item": {"id": "1", text: text, "a": {text: [text]}}},
        {**CHANGE, "changedFields": [text]},
        {**CHANGE, "model": text},
        *[{**CHANGE, "idempotencyKey": spelling} for spelling in spellings],
    ]
    together = [{**CHANGE, "objectId": spelling, "idempotencyKey": spelling} for spelling in spellings]
    inputs = [{"changes": [change]} for change in changes]
    answers = await ask_each(api, "PublishChanges", *inputs, {"changes": together})
    return [*answers, await ask(api, "Events", first=3)]


async def visit_filters(api: Api, text: str) -> list[Any]:
    answers = []
    for spelling in spellings_of(text):
        answers.append(await ask(api, "Events", first=5, filter={"objectId": spelling}))
        answers.append(await ask(api, "Events", first=5, filter={"models": [spelling, "texts"]}))
    answers += [await ask(api, name, after=text) for name in LISTS]
    return [*answers, await ask(api, "Node", id=text), await ask(api, "Webhook", id=text)]


async def visit_test_fires(api: Api, text: str) -> list[Any]:
    (made,) = await ask_each(api, "CreateWebhook", WEBHOOK)
    key = made["data"]["createWebhook"]["webhook"]["id"]
    inputs = [{"webhookId": key, "item": item} for item in ({text: text}, {"id": text}, text)]
    return [*await ask_each(api, "TestFireWebhook", *inputs), await ask(api, "Events", first=1)]


async def visit_inboxes(api: Api, text: str) -> list[Any]:
    answers = await ask_each(
        api,
        "CreateInbox",
        {"name": text},
        {"responses": [{"body": text}]},
        {"responses": [{"contentType": text}]},
        {"signingSecret": text},
    )
    return [*answers, await ask(api, "Inboxes", first=1)]


async def visit_tokens(api: Api, text: str) -> list[Any]:
    answers = await ask_each(api, "CreateApiToken", {"name": text, "role": "ADMIN"})
    return [*answers, await ask(api, "ApiTokens", first=1)]


async def visit_rendered_requests(api: Api, text: str) -> list[Any]:
    """Render an event whose snapshot, or whose template, has the text; store the request, or why there is none."""
    if re.search("[\0\ud800-\udfff]", text):
        return []  # no snapshot has such a text
    hidden = "{{ item.text | url_encode | append: '%00%ED%A0%80' | url_decode }}"
    answers = []
    for given in (
        {"body_template": f"{{{{ item.text }}}}{hidden}"},
        {"url": f"https://hooks.example/{hidden}"},
        {"headers": [["X-Text", hidden]]},
        {"send_json": True},
    ):
        event = await builders.event(await builders.webhook(**given))
        await Change.filter(id=event.change_id).update(item={"id": "1", "text": text})
        recorder = Recorder()
        recording = asyncio.create_task(recorder.run())
        bench = Bench(recorder)
        await bench.register()
        await bench.start(event)
        await bench.wait_until_idle()
        recording.cancel()
        answers += await read_attempts(api, event)
    return answers


async def read_attempts(api: Api, event: Event) -> list[Any]:
    """Return what the API, and the delivery log, say of an event's attempts."""
    entries = await LogEntry.filter(event_id=event.id).order_by("id").values_list("kind", "message")
    return [await ask(api, "Event", id=encode(Prefix.EVENT, event.id)), list(entries)]


async def visit_json_numbers(api: Api, number: str) -> list[Any]:
    """Send a number as variables in the body of a request, so that it is parsed as a client's."""
    requests: list[tuple[str, dict[str, Any]]] = [
        ("PublishChanges", {"input": {"changes": [{**CHANGE, "item": {"a": "NUMBER"}}]}}),
        ("DeclareModel", {"input": {**PART, "name": "numbers", "sample": {"a": "NUMBER"}}}),
        ("DeclareModel", {"input": {**PART, "name": "limits", "jsonSchema": {"minimum": "NUMBER"}}}),
        ("Attempts", {"filter": {"statusCode": "NUMBER"}}),
    ]
    answers = []
    for operation, variables in requests:
        body = orjson.dumps({"query": "{ __typename }", "variables": variables})
        try:
            request = parse_body(body.replace(b'"NUMBER"', number.encode()))
        except MalformedRequest as refused:
            answers.append(str(refused))
        else:
            answers.append(await ask(api, operation, **(request.variables or {})))
    orders = [{**ORDER, "items": [{**ITEM, "price": number}]}]
    answers += await ask_each(api, "CreateCustomerOrder", *orders)
    return [*answers, await ask(api, "Events", first=1), await ask(api, "CustomerOrders", first=1)]


async def visit_received_requests(api: Api, value: bytes) -> list[Any]:
    """Send an inbox requests with these bytes in their path, headers and body."""
    (made,) = await ask_each(api, "CreateInbox", {})
    inbox = made["data"]["createInbox"]["inbox"]
    path = inbox["url"].partition("//")[2].partition("/")[2].encode()
    answers: list[Any] = []
    async with serving(Application(api.services, api.engine)) as port:
        for url, header in ((path, b""), (path + b"?" + value, b""), (path, b"X-Text: " + value + b"\r\n")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            length = b"Content-Length: %d\r\nConnection: close\r\n" % len(value)
            writer.write(b"POST /" + url + b" HTTP/1.1\r\nHost: a\r\n" + header + length + b"\r\n" + value)
            status_line, _, _ = (await reader.read()).partition(b"\r\n")
            writer.close()
            answers.append(status_line.decode())
    return [*answers, await ask(api, "InboxRequests", id=inbox["id"])]


async def visit_responses(api: Api, value: bytes) -> list[Any]:
    """Record responses of an endpoint with these bytes in their reason, headers and body, and instead of them."""
    head = b"HTTP/1.1 500 "
    responses = (
        head + value + b"\r\nContent-Length: 0\r\n\r\n",
        head + b"No\r\nX-Text: " + value + b"\r\nContent-Length: 0\r\n\r\n",
        head + b"No\r\n" + value + b": 1\r\nContent-Length: 0\r\n\r\n",
        head + b"No\r\nContent-Length: %d\r\n\r\n" % len(value) + value,
        head + b"No\r\nTransfer-Encoding: chunked\r\n\r\n" + value,
        value,
    )
    recorder = Recorder()
    recording = asyncio.create_task(recorder.run())
    answers = []
    async with Sender(LOOPBACK, tls=NO_AUTHORITIES) as sender:
        for response in responses:
            event = await builders.event(await builders.webhook())
            lease = await builders.claim(event)
            server = answering(response)
            async with server.running():
                sent = await deliver(sender, server.url)
            result = builders.result(event, lease, sent.outcome, ended_at=await clock.now())
            await record(recorder, replace(result, request=sent.request))
            answers += await read_attempts(api, event)
    recording.cancel()
    return answers


TEXT_VISITS: tuple[Visit[str], ...] = (
    visit_leads, visit_orders, visit_webhooks, visit_searches, visit_declarations, visit_changes, visit_filters,
    visit_test_fires, visit_inboxes, visit_tokens, visit_rendered_requests,
)  # fmt: skip
NUMBER_VISITS: tuple[Visit[str], ...] = (visit_json_numbers,)
BYTE_VISITS: tuple[Visit[bytes], ...] = (visit_received_requests, visit_responses)
