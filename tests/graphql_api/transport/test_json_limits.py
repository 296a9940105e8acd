"""The limit on the values in a client's JSON."""

import json

import pytest

from ringback.graphql_api.transport import graphql_transport_ws
from ringback.graphql_api.transport.json_limits import (
    UNCHECKED_BYTES,
    VALUE_BYTES,
    estimate_memory,
    has_too_many_values,
)
from ringback.graphql_api.transport.requests import MalformedRequest, parse_body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[" + b"[]," * 60_000 + b"[]]", True),
        (b"[" + b"[],  " * 16_000 + b"[]]", False),
        (b"[" + b"1," * 450_000 + b"1]", True),
        (json.dumps({"text": '[{,"' * 200_000}).encode(), False),
        (b"[" * 10_000, False),
    ],
    ids=["many lists", "fewer lists", "numbers", "text", "small"],
)
def test_values_outside_strings_are_counted(text: bytes, expected: bool) -> None:
    assert has_too_many_values(text) is expected


def test_the_memory_of_parsed_values_is_estimated() -> None:
    numbers, text = "[" + "1," * 1_000 + "1]", '"' + "," * 2_000 + '"'

    assert estimate_memory(numbers) > 1_000 * VALUE_BYTES
    assert estimate_memory(text) < 2_100
    assert estimate_memory(text + "😀") > 8_000


def test_a_request_with_too_many_values_is_refused_before_it_is_parsed() -> None:
    body = b'{"query": "{ __typename }", "variables": {"x": [' + b"[]," * 60_000 + b"[]]}}"
    with pytest.raises(MalformedRequest) as refusal:
        parse_body(body)
    assert refusal.value.status == 413
    assert refusal.value.error.extensions == {"code": "TOO_LARGE"}
    assert "150,000 JSON values, a fixed limit;" in refusal.value.error.message


def test_a_short_message_is_not_copied_to_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(graphql_transport_ws, "has_too_many_values", lambda text: counted.append(len(text)))
    for size in (16, UNCHECKED_BYTES, UNCHECKED_BYTES + 1):
        graphql_transport_ws.parse('{"type": "ping"}'.ljust(size))

    assert counted == [UNCHECKED_BYTES + 1]
