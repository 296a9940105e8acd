"""Numbers in JSON keep their digits or are refused with their path, wherever a client sends them."""

import json
from typing import Any

import pytest

from ringback.graphql_api.transport.graphql_transport_ws import Subscribe, parse
from ringback.graphql_api.transport.requests import parse_body, parse_query_string
from ringback.models.event import Change
from tests.support.api import Api, contents
from tests.support.inputs import WEBHOOK

PART = {
    "name": "part",
    "label": "Part",
    "jsonSchema": {"type": "object", "properties": {"id": {"type": "string"}}},
    "sample": {"id": "1"},
}
#: Mutations that take JSON, by the path of the value: a document, in which `JSON` stands for it.
DOCUMENTS = {
    "$input.changes[0].item": 'mutation { publishChanges(input: {changes: [{model: "part", action: CREATED, '
    'objectId: "1", item: JSON}]}) { errors { message } } }',
    "$input.item": 'mutation { testFireWebhook(input: {webhookId: "whk_01h455vb4pex5vsknk084sn02q", item: JSON}) '
    "{ errors { message } } }",
    "$input.sample": 'mutation { declareModel(input: {name: "part", label: "Part", jsonSchema: {}, sample: JSON}) '
    "{ errors { message } } }",
    "$input.jsonSchema": 'mutation { declareModel(input: {name: "part", label: "Part", jsonSchema: JSON, sample: {}}) '
    "{ errors { message } } }",
}
#: What is sent, and what is said of it. The value is at `a[0]`.
REFUSED = [
    (
        "40702810900000012345",
        "The integer at a[0] does not fit into 64 bits: 40702810900000012345. Send it as a string.",
    ),
    (
        "-9223372036854775809",
        "The integer at a[0] does not fit into 64 bits: -9223372036854775809. Send it as a string.",
    ),
    ("9223372036854775808", "The integer at a[0] does not fit into 64 bits: 9223372036854775808. Send it as a string."),
    (
        "18446744073709551616",
        "The integer at a[0] does not fit into 64 bits: 18446744073709551616. Send it as a string.",
    ),
    ("1" * 309, f"The integer at a[0] does not fit into 64 bits: {'1' * 40}. Send it as a string."),
]
KEPT = ["9223372036854775807", "-9223372036854775808", "1e+20", "0.1", '"40702810900000012345"']


def send(transport: str, document: str, variables: str) -> tuple[str, dict[str, Any]]:
    """Return a request as the transport parses it."""
    text = f'{{"query": {json.dumps(document)}, "variables": {variables}}}'
    if transport == "GET":
        query = f"query={document}&variables={variables.replace('+', '%2B')}".encode()
        request = parse_query_string(query)
    elif transport == "POST":
        request = parse_body(text.encode())
    else:
        message = parse(f'{{"id": "1", "type": "subscribe", "payload": {text}}}')
        assert isinstance(message, Subscribe)
        return message.query, dict(message.variables or {})
    return request.query, request.variables or {}


@pytest.mark.parametrize("transport", ["GET", "POST", "WebSocket", "inline"])
@pytest.mark.parametrize(("number", "message"), REFUSED)
@pytest.mark.parametrize("document", DOCUMENTS.values())
async def test_an_integer_that_would_lose_digits_is_refused(
    api: Api, document: str, number: str, message: str, transport: str
) -> None:
    before = await contents()
    variables: dict[str, Any] = {}
    if transport == "inline":
        document = document.replace("JSON", f"{{a: [{number}]}}")
    else:
        document = document.replace("JSON", "$v").replace("mutation", "mutation($v: JSON!)")
        document, variables = send(transport, document, f'{{"v": {{"a": [{number}]}}}}')

    code, shown = await api.error(document, **variables)

    assert (code in ("BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"), message in shown) == (True, True), (code, shown)
    assert await contents() == before


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 310, "1" * 5_000])
@pytest.mark.parametrize("document", DOCUMENTS.values())
async def test_an_inline_number_beyond_a_floats_range_is_refused(api: Api, document: str, number: str) -> None:
    code, message = await api.error(document.replace("JSON", f"{{a: [{number}]}}"))

    assert code in ("BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED")
    assert " at a[0] " in message or "Exceeds the limit" in message, message


@pytest.mark.parametrize("transport", ["GET", "POST", "WebSocket", "inline"])
@pytest.mark.parametrize("number", KEPT)
async def test_a_number_that_every_part_can_hold_is_kept(api: Api, number: str, transport: str) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input={**WEBHOOK, "model": "part"})
    document = DOCUMENTS["$input.changes[0].item"]
    variables: dict[str, Any] = {}
    if transport == "inline":
        document = document.replace("JSON", f'{{id: "1", a: [{number}]}}')
    else:
        document = document.replace("JSON", "$v").replace("mutation", "mutation($v: JSON!)")
        document, variables = send(transport, document, f'{{"v": {{"id": "1", "a": [{number}]}}}}')

    assert await api.do(document, **variables) == {"errors": []}

    assert repr((await Change.get()).item["a"]) == repr([json.loads(number)])
    response = await api.execute("{ events(first: 1) { nodes { change { item } } } }")
    (node,) = json.loads(response.json)["data"]["events"]["nodes"]
    assert json.dumps(node["change"]["item"]["a"]) == f"[{number}]"
