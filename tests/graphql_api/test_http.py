"""GraphQL over HTTP on the really started program: what is malformed is refused in GraphQL's own form."""

import datetime as dt
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from ringback.models.ids import Prefix, decode
from tests.deliveries import database
from tests.program import Program

VIEWER = {"query": "{ viewer { token { name } } }"}
NEW_TOKEN = "mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) { secret token { id } } }"
SEND_A_TOKEN = "Send a valid API token: the header `Authorization: Bearer <token>`, or the same in connection_init."
UNAUTHENTICATED = {"errors": [{"message": SEND_A_TOKEN, "extensions": {"code": "UNAUTHENTICATED"}}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program, started once for all of these tests."""
    with Program(tmp_path_factory.mktemp("program")) as started:
        yield started


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Bearer nope", "Basic x", "Bearer " + "x" * 600, "é"])
def test_without_a_valid_token_there_is_nothing_but_the_error(served: Program, value: str | None) -> None:
    headers = {"Content-Type": "application/json"} | ({} if value is None else {"Authorization": value})
    for body in (json.dumps(VIEWER).encode(), b"no json", b""):
        status, answered, text = served.request("POST", "/graphql", body, headers)
        assert (status, json.loads(text)) == (401, UNAUTHENTICATED)
        assert answered["WWW-Authenticate"] == "Bearer"


def test_a_revoked_or_expired_token_is_none(served: Program) -> None:
    revoked = served.query(NEW_TOKEN, {"input": {"name": "r", "role": "ADMIN"}})["createApiToken"]
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)).isoformat()
    expired = served.query(NEW_TOKEN, {"input": {"name": "e", "role": "ADMIN", "expiresAt": soon}})["createApiToken"]
    bearers = [{"Authorization": f"Bearer {made['secret']}"} for made in (revoked, expired)]
    for bearer in bearers:
        assert served.post(VIEWER, bearer)[0] == 200
    served.query("mutation ($id: ID!) { revokeApiToken(id: $id) { revokedId } }", {"id": revoked["token"]["id"]})
    time.sleep(1.6)
    for bearer in bearers:
        assert served.post(VIEWER, bearer) == (401, UNAUTHENTICATED)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"null", "The body must be a JSON object,"),
        (b'"x"', "The body must be a JSON object,"),
        (b"42", "The body must be a JSON object,"),
        (b"[]", "The body must be a JSON object,"),
        (b"", "The body is no JSON: "),
        (b"{", "The body is no JSON: "),
        (b'{"query": "\xff"}', "The body is no JSON: "),
        (b'{"query": "\\ud800"}', "The body is no JSON: "),
        (b"[" * 100_000, "The body is no JSON: "),
        (b'{"query": "{ viewer { token { name } } }", "variables": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
         "The body is no JSON: "),
        (b"{}", "query must be a GraphQL document as a string."),
        (b'{"query": null}', "query must be a GraphQL document as a string."),
        (b'{"query": " "}', "query must be a GraphQL document as a string."),
        (b'{"query": ["{ viewer }"]}', "query must be a GraphQL document as a string."),
        (b'{"query": "{ __typename }", "variables": []}', "variables must be a JSON object."),
        (b'{"query": "{ __typename }", "variables": "x"}', "variables must be a JSON object."),
        (b'{"query": "{ __typename }", "operationName": 1}', "operationName must be a string."),
        (b'{"query": "{ __typename }", "extensions": []}', "extensions must be a JSON object."),
        (b'{"query": "subscription { deliveryLog { at } }"}',
         "Subscriptions need a WebSocket (graphql-transport-ws) on this same address."),
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(served: Program, body: bytes, message: str) -> None:
    status, answer = served.post(body)
    assert status == 400, answer
    ((error),) = answer.pop("errors")
    assert answer == {}
    assert error["message"].startswith(message)
    assert error["extensions"] == {"code": "BAD_REQUEST"}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{ viewer {", "GRAPHQL_PARSE_FAILED"),
        ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
        ("query a { __typename } query b { __typename }", "BAD_REQUEST"),
        ("query ($first: Int!) { leads(first: $first) { nodes { id } } }", "BAD_USER_INPUT"),
        ("{" + "a{" * 3_000 + "a" + "}" * 3_001, None),
        ("{ " + "a:viewer{token{id}} " * 4_000 + "}", None),
    ],
)
def test_a_document_that_cannot_be_executed(served: Program, document: str, code: str | None) -> None:
    for accept, expected in (("application/json", 200), ("application/graphql-response+json", 400)):
        status, answer = served.post({"query": document}, {"Accept": accept})
        assert (status, list(answer)) == (expected, ["errors"])
        found = {error["extensions"]["code"] for error in answer["errors"]}
        assert "INTERNAL" not in found
        assert code is None or found == {code}


def test_an_operation_that_the_document_lacks(served: Program) -> None:
    for accept, expected in (("application/json", 200), ("application/graphql-response+json", 400)):
        status, answer = served.post({"query": "{ __typename }", "operationName": "x"}, {"Accept": accept})
        message = "operationName must name one of the document's operations."
        assert (status, answer) == (expected, {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]})


def test_the_media_type_of_the_answer_follows_accept(served: Program) -> None:
    for accept in ("application/json", "application/graphql-response+json"):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {served.token}", "Accept": accept}
        status, answered, text = served.request("POST", "/graphql", json.dumps(VIEWER).encode(), headers)
        assert (status, answered["Content-Type"]) == (200, f"{accept}; charset=utf-8")
        assert json.loads(text) == {"data": {"viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN"}}}}


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_only_json_is_understood(served: Program, content_type: str) -> None:
    status, answer = served.post(json.dumps(VIEWER).encode(), {"Content-Type": content_type})
    message = "Send the request as JSON, with Content-Type: application/json."
    assert (status, answer) == (415, {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]})


def test_a_request_over_one_mebibyte_is_refused(served: Program) -> None:
    exact = json.dumps(VIEWER).encode()
    assert served.post(exact + b" " * (1_048_576 - len(exact)))[0] == 200
    expected = {"errors": [{"message": "The request is over 1,048,576 bytes.", "extensions": {"code": "TOO_LARGE"}}]}
    assert served.post(exact + b" " * (1_048_577 - len(exact))) == (413, expected)
    assert chunked(served, exact + b" " * 1_048_577) == (413, expected)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods(served: Program, method: str) -> None:
    status, answered, _ = served.request(method, "/graphql", b"{}", {"Content-Type": "application/json"})
    assert (status, sorted(answered["Allow"].split(", "))) == (405, ["GET", "HEAD", "OPTIONS", "POST"])


def test_options_outside_of_a_browser(served: Program) -> None:
    status, answered, text = served.request("OPTIONS", "/graphql")
    assert (status, answered["Allow"], text) == (204, "GET, HEAD, OPTIONS, POST", b"")


def test_one_of_several_operations_is_run_by_its_name(served: Program) -> None:
    document = "query a { __typename } query b { viewer { token { name } } }"
    status, answer = served.post({"query": document, "operationName": "b"})
    assert (status, list(answer["data"])) == (200, ["viewer"])


def test_browsers_on_other_sites_may_ask(served: Program) -> None:
    status, answered, _ = served.request("OPTIONS", "/graphql", headers={
        "Origin": "https://admin.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    })  # fmt: skip
    assert status == 200
    assert answered["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answered["Access-Control-Allow-Methods"]
    assert {"authorization", "content-type"} <= set(answered["Access-Control-Allow-Headers"].lower().split(", "))
    assert answered["Access-Control-Allow-Credentials"] is None


def test_an_unexpected_error_shows_an_id_that_the_log_has_too(served: Program) -> None:
    made = served.query("mutation { createInbox(input: {}) { inbox { id } } }")["createInbox"]["inbox"]["id"]
    with database(served) as connection:
        broken = ('[{"nope": 1}]', str(decode(Prefix.INBOX, made)))
        assert connection.execute("UPDATE ringback_inbox SET responses = ? WHERE id = ?", broken).rowcount == 1
    answer = served.execute("query ($id: ID!) { inbox(id: $id) { id } viewer { token { name } } }", {"id": made})
    assert answer["data"] == {"inbox": None, "viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN"}}}
    ((error),) = answer["errors"]
    error_id = error["extensions"]["id"]
    assert error["extensions"] == {"code": "INTERNAL", "id": error_id}
    assert error["path"] == ["inbox"]
    assert error["message"] == f"Something went wrong on the server; its log has the details under the id {error_id}."
    logged = [json.loads(line) for line in served.log().splitlines() if error_id in line]
    assert [(line["event"], line["action"]) for line in logged] == [("internal error", "execute")]
    assert "nope" in logged[0]["exception"]
    assert served.token not in served.log()


def chunked(program: Program, body: bytes) -> tuple[int, Any]:
    """POST without a declared length; the answer may come before all was sent."""
    where = urlsplit(program.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {program.token}"}
    try:
        chunks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
        connection.request("POST", "/graphql", chunks, headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
