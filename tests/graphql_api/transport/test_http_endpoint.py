"""/graphql as an ASGI callable: every request gets a response that the specifications define."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tortoise.exceptions import DBConnectionError

from ringback.graphql_api.transport.http import GraphQLEndpoint
from ringback.graphql_api.transport.streaming import Streams
from ringback.models.services import api_tokens
from tests.support.api import Api

SECRET = "rbk_an-admin-token-of-these-tests"
Headers = Sequence[tuple[bytes, bytes]]
JSON: Headers = ((b"content-type", b"application/json"),)
BEARER = (b"authorization", f"Bearer {SECRET}".encode())


async def ask(
    api: Api, method: str, *headers: tuple[bytes, bytes], query_string: bytes = b"", body: bytes = b""
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, headers and body of the response to a client that then disconnects."""
    sent: list[Any] = []
    inbound = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(inbound, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": "/graphql", "query_string": query_string, "headers": [*headers],
        "extensions": {},
    }  # fmt: skip
    await GraphQLEndpoint(api.engine, api.services, Streams())(scope, receive, send)
    start, *chunks = sent
    assert start["type"] == "http.response.start"
    assert [chunk.get("more_body", False) for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    return start["status"], dict(start["headers"]), b"".join(chunk.get("body", b"") for chunk in chunks)


async def test_repeated_headers_are_joined(api: Api) -> None:
    await api_tokens.ensure_admin(SECRET, "fuzz")
    body = b'{"query": "{ __typename }"}'
    accept = [(b"accept", b"text/html"), (b"accept", b"application/graphql-response+json")]
    status, headers, _ = await ask(api, "POST", BEARER, *JSON, *accept, body=body)
    assert (status, headers[b"content-type"]) == (200, b"application/graphql-response+json; charset=utf-8")
    assert (await ask(api, "POST", BEARER, BEARER, *JSON, body=body))[0] == 401
    assert (await ask(api, "POST", BEARER, *JSON, *JSON, body=body))[0] == 415


@pytest.mark.logs_errors
async def test_a_stranger_does_not_learn_that_the_database_is_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(header: str) -> None:
        raise DBConnectionError("cannot connect to db.internal:5432")

    monkeypatch.setattr(api.services.authenticator, "authenticate", fail)

    status, _, text = await ask(api, "POST", (b"authorization", b"Bearer wrong"), *JSON, body=b"{}")

    (error,) = json.loads(text)["errors"]
    error_id = error["extensions"]["id"]
    assert (status, error["extensions"]) == (503, {"code": "INTERNAL", "id": error_id})
    assert error["message"] == (
        f"The server cannot check the token now. Try again. Its log has the details under id {error_id}."
    )


async def test_the_last_of_two_equal_keys_counts(api: Api) -> None:
    await api_tokens.ensure_admin(SECRET, "fuzz")
    status, _, text = await ask(api, "POST", BEARER, *JSON, body=b'{"query": "{ nope }", "query": "{ __typename }"}')
    assert (status, text) == (200, b'{"data":{"__typename":"Query"}}')


WORDS = st.sampled_from(
    [b"query", b"variables", b"operationName", b"extensions", b"{__typename}", b"=", b"&", b"%", b"+"]
)
TYPES = st.sampled_from(
    [b"application/json", b"application/graphql-response+json", b"text/event-stream", b"multipart/mixed", b"text/html",
     b"*/*", b"application/*",
     b";", b",", b"q=0", b"q=0.5", b"charset=utf-8", b"subscriptionSpec=1.0", b'"', b"\\", b" "]
)  # fmt: skip
DOCUMENTS = st.sampled_from([
    "{ __typename }", "{ nope }", "{", "", "mutation { __typename }",
    'subscription { deliveryLog(after: "x") { at } }',
    "query ($n: Int!) { leads(first: $n) { nodes { id } } }", "query a { __typename } query b { __typename }",
])  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | DOCUMENTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = (
    st.binary()
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"query": DOCUMENTS}, optional={"variables": VALUES, "operationName": VALUES, "extensions": VALUES}
    ).map(lambda value: json.dumps(value).encode())
)
KNOWN = {200, 400, 401, 405, 406, 415}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT", "BREW"]),
    accept=st.none() | st.binary() | st.lists(TYPES).map(b"".join),
    content_type=st.none() | st.binary() | st.just(b"application/json"),
    bearer=st.sampled_from([BEARER[1], BEARER[1], b"", b"Bearer \xff"]),
    query_string=st.binary() | st.lists(WORDS | st.binary(max_size=3)).map(b"".join),
    body=BODIES,
)
async def test_every_request_gets_a_defined_response(
    api: Api,
    method: str,
    accept: bytes | None,
    content_type: bytes | None,
    bearer: bytes,
    query_string: bytes,
    body: bytes,
) -> None:
    await api_tokens.ensure_admin(SECRET, "fuzz")
    headers = [(b"authorization", bearer)]
    headers += [(b"accept", accept)] if accept is not None else []
    headers += [(b"content-type", content_type)] if content_type is not None else []
    status, answered, text = await ask(api, method, *headers, query_string=query_string, body=body)
    assert status in KNOWN
    kind = answered[b"content-type"].partition(b";")[0].decode()
    if status != 200 or kind.endswith("json"):
        answer = json.loads(text)
        assert set(answer) <= {"data", "errors"}
        assert status == 200 or list(answer) == ["errors"]
        codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
        assert "INTERNAL" not in codes
    else:
        assert kind in ("text/event-stream", "multipart/mixed", "text/html")
        assert b"INTERNAL" not in text
    assert (status == 405) == (b"allow" in answered)
    assert (status == 401) == (b"www-authenticate" in answered)
