"""GraphQL over HTTP, on the running program: malformed requests get GraphQL errors."""

import datetime as dt
import gzip
import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from ringback.models.ids import Prefix, decode
from tests.support.deliveries import open_database
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

TYPENAME = {"data": {"__typename": "Query"}}
VIEWER = {"query": "{ viewer { token { name } } }"}
NEW_TOKEN = "mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) { secret token { id } } }"
SOURCES = "`ringback token create NAME` creates a token, and `make run` prints one at its first start."
NO_TOKEN = f"The request has no API token. Send the header `Authorization: Bearer <API token>`. {SOURCES}"
INVALID = f"The API token is not valid: it is unknown, was revoked, or has expired. Send another one. {SOURCES}"
NOT_JSON = "Content-Type is not JSON. Send the request as JSON in UTF-8 with Content-Type: application/json."


def unauthenticated(message: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "extensions": {"code": "UNAUTHENTICATED"}}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, NO_TOKEN),
        ("", NO_TOKEN),
        ("Bearer", NO_TOKEN),
        ("Bearer ", NO_TOKEN),
        ("Basic x", NO_TOKEN),
        ("rbk_x", NO_TOKEN),
        ("é", NO_TOKEN),
        ("Bearer nope", INVALID),
        ("Bearer " + "x" * 600, INVALID),
    ],
)
def test_without_a_valid_token_every_request_is_unauthenticated(
    program: Program, value: str | None, message: str
) -> None:
    headers = {"Content-Type": "application/json"} | ({} if value is None else {"Authorization": value})
    for body in (json.dumps(VIEWER).encode(), b"no json", b""):
        status, answered, text = program.request("POST", "/graphql", body, headers)
        assert (status, json.loads(text)) == (401, unauthenticated(message))
        assert answered["WWW-Authenticate"] == "Bearer"


def test_a_revoked_or_expired_token_is_invalid(program: Program) -> None:
    revoked = program.query(NEW_TOKEN, {"input": {"name": "r", "role": "ADMIN"}})["createApiToken"]
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    expired = program.query(NEW_TOKEN, {"input": {"name": "e", "role": "ADMIN", "expiresAt": later}})["createApiToken"]
    bearers = [{"Authorization": f"Bearer {made['secret']}"} for made in (revoked, expired)]
    for bearer in bearers:
        assert program.post(VIEWER, bearer)[0] == 200
    program.query("mutation ($id: ID!) { revokeApiToken(id: $id) { revokedId } }", {"id": revoked["token"]["id"]})
    with open_database(program) as connection:
        passed = str(dt.datetime.now(dt.UTC))
        changed = connection.execute("UPDATE ringback_api_token SET expires_at = ? WHERE name = 'e'", [passed])
        assert changed.rowcount == 1
    for bearer in bearers:
        program.wait_until(lambda bearer=bearer: program.post(VIEWER, bearer)[0] == 401, "the end of the token")
        assert program.post(VIEWER, bearer) == (401, unauthenticated(INVALID))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"null", "The body must be a JSON object,"),
        (b'"x"', "The body must be a JSON object,"),
        (b"42", "The body must be a JSON object,"),
        (b"[]", "Batches are not supported. Send one operation per request,"),
        (b'[{"query": "{ __typename }"}]', "Batches are not supported. Send one operation per request,"),
        (b"", "The body is not valid JSON: "),
        (b"{", "The body is not valid JSON: "),
        (b'{"query": "\xff"}', "The body is not valid JSON: "),
        (b'{"query": "\\ud800"}', "The body is not valid JSON: "),
        (b"[" * 40_000, "The body is not valid JSON: "),
        (b'{"query": "{ viewer { token { name } } }", "variables": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
         "The body is not valid JSON: "),
        (b"{}", "query must be a GraphQL document as a string."),
        (b'{"query": null}', "query must be a GraphQL document as a string."),
        (b'{"query": " "}', "query must be a GraphQL document as a string."),
        (b'{"query": ["{ viewer }"]}', "query must be a GraphQL document as a string."),
        (b'{"query": "{ __typename }", "variables": []}', "variables must be a JSON object."),
        (b'{"query": "{ __typename }", "variables": "x"}', "variables must be a JSON object."),
        (b'{"query": "{ __typename }", "operationName": 1}', "operationName must be a string."),
        (b'{"query": "{ __typename }", "extensions": []}', "extensions must be a JSON object."),
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(program: Program, body: bytes, message: str) -> None:
    status, answer = program.post(body)
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
def test_a_document_that_cannot_be_executed_is_an_error(program: Program, document: str, code: str | None) -> None:
    for accept, expected in (("application/json", 200), ("application/graphql-response+json", 400)):
        status, answer = program.post({"query": document}, {"Accept": accept})
        assert (status, list(answer)) == (expected, ["errors"])
        codes = {error["extensions"]["code"] for error in answer["errors"]}
        assert "INTERNAL" not in codes
        assert code is None or codes == {code}


def test_an_unknown_operation_name_is_an_error(program: Program) -> None:
    for accept, expected in (("application/json", 200), ("application/graphql-response+json", 400)):
        status, answer = program.post({"query": "{ __typename }", "operationName": "x"}, {"Accept": accept})
        message = "operationName must name one of the document's operations."
        assert (status, answer) == (expected, {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]})


def test_the_media_type_of_the_answer_follows_accept(program: Program) -> None:
    for accept in ("application/json", "application/graphql-response+json"):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {program.token}", "Accept": accept}
        status, answered, text = program.request("POST", "/graphql", json.dumps(VIEWER).encode(), headers)
        assert (status, answered["Content-Type"]) == (200, f"{accept}; charset=utf-8")
        assert json.loads(text) == {"data": {"viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN"}}}}


@pytest.mark.parametrize("content_type", [
    "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data", "application/graphql", "application",
    "application/json; charset=iso-8859-1", "application/json; charset=utf-16", "application/json, application/json",
])  # fmt: skip
def test_a_content_type_other_than_utf_8_json_is_refused(program: Program, content_type: str) -> None:
    status, answer = program.post(json.dumps(VIEWER).encode(), {"Content-Type": content_type})
    assert (status, answer) == (415, bad(NOT_JSON))


@pytest.mark.parametrize("content_type", [
    "application/json", "Application/JSON", "application/json;charset=UTF-8", 'application/json ; charset="utf-8"',
])  # fmt: skip
def test_spellings_of_the_json_content_type_are_accepted(program: Program, content_type: str) -> None:
    assert program.post({"query": "{ __typename }"}, {"Content-Type": content_type}) == (200, TYPENAME)


def test_a_compressed_body_is_refused(program: Program) -> None:
    headers = bearer(program) | {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, answered, text = program.request("POST", "/graphql", gzip.compress(json.dumps(VIEWER).encode()), headers)
    assert (status, json.loads(text)) == (415, bad("Content-Encoding is not supported. Send the body uncompressed."))
    assert answered["Accept-Encoding"] == "identity"


def test_a_request_over_one_mebibyte_is_refused(program: Program) -> None:
    exact = json.dumps(VIEWER).encode()
    assert program.post(exact + b" " * (1_048_576 - len(exact)))[0] == 200
    message = "The request body is longer than 1,048,576 bytes, the limit (RINGBACK_API_MAX_BODY_BYTES)."
    expected = {"errors": [{"message": message, "extensions": {"code": "TOO_LARGE"}}]}
    assert program.post(exact + b" " * (1_048_577 - len(exact))) == (413, expected)
    assert chunked(program, exact + b" " * 1_048_577) == (413, expected)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "QUERY", "PROPFIND"])
def test_other_methods_are_refused(program: Program, method: str) -> None:
    status, answered, text = program.request(method, "/graphql", b"{}", {"Content-Type": "application/json"})
    message = (
        "Method not allowed. Send operations by POST; queries and subscriptions also by GET. The single connection "
        "mode of graphql-sse is not supported: open one connection for each subscription."
    )
    assert (status, answered["Allow"], json.loads(text)) == (405, "GET, HEAD, OPTIONS, POST", bad(message))


def test_get_executes_a_query(program: Program) -> None:
    document = "query One { __typename } query Type($name: String!) { __type(name: $name) { name } }"
    asked = {"query": document, "operationName": "Type", "variables": '{"name": "Order🏃"}', "extensions": "{}"}
    assert get(program, asked) == (200, {"data": {"__type": None}})
    assert get(program, {"query": "{ __typename }", "operationName": "", "variables": "null"}) == (200, TYPENAME)


def test_head_is_a_get_without_its_body(program: Program) -> None:
    address = "/graphql?" + urlencode({"query": "{ __typename }"})
    status, answered, text = program.request("HEAD", address, headers=bearer(program))
    assert (status, answered["Content-Length"], text) == (200, str(len(b'{"data":{"__typename":"Query"}}')), b"")


@pytest.mark.parametrize(
    ("query_string", "message"),
    [
        ("query=", "query must be a GraphQL document as a string."),
        ("query=%20", "query must be a GraphQL document as a string."),
        ("query=%ff", "The query string must be UTF-8."),
        ("query={__typename}&query={__typename}", "query must not appear twice in the query string."),
        ("query={__typename}&variables=1&variables=1", "variables must not appear twice in the query string."),
        (f"query=a&{'x' * 50}=1&{'x' * 50}=2", f"{'x' * 40}… must not appear twice in the query string."),
        ("query={__typename}&variables=[]", "variables must be a JSON object."),
        ("query={__typename}&variables=1", "variables must be a JSON object."),
        ("query={__typename}&extensions=1", "extensions must be a JSON object."),
    ],
)
def test_a_malformed_get_is_refused(program: Program, query_string: str, message: str) -> None:
    status, _, text = program.request("GET", f"/graphql?{query_string}", headers=bearer(program))
    assert (status, json.loads(text)) == (400, bad(message))


@pytest.mark.parametrize("value", ["", "{", "[" * 20_000, "{'a': 1}"])
def test_variables_in_a_query_string_must_be_json(program: Program, value: str) -> None:
    status, answer = get(program, {"query": "{ __typename }", "variables": value})
    ((error),) = answer["errors"]
    assert (status, error["message"][:24]) == (400, "variables must be JSON: ")


def test_a_setting_limits_the_length_of_requests(tmp_path: Path, migrated: Path) -> None:
    too_long = {"query": "{ __typename }" + " " * 2_048}
    with Program(tmp_path, env={"RINGBACK_API_MAX_BODY_BYTES": "2048"}, migrated=migrated) as program:
        for status, answer, what in (
            (413, program.post(too_long), "request body"),
            (414, get(program, too_long), "query string"),
        ):
            message = f"The {what} is longer than 2,048 bytes, the limit (RINGBACK_API_MAX_BODY_BYTES)."
            assert answer == (status, {"errors": [{"message": message, "extensions": {"code": "TOO_LARGE"}}]})
        fits = {"query": "{ __typename }" + " " * 1_000}
        assert [program.post(fits), get(program, fits)] == [(200, TYPENAME)] * 2


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream"])
def test_a_mutation_by_get_is_refused(program: Program, accept: str) -> None:
    address = "/graphql?" + urlencode({"query": 'mutation { createInbox(input: {name: "by GET"}) { inbox { id } } }'})
    for method in ("GET", "HEAD"):
        status, answered, text = program.request(method, address, headers=bearer(program) | {"Accept": accept})
        assert (status, answered["Allow"]) == (405, "POST")
        assert text == b"" if method == "HEAD" else json.loads(text) == bad("Mutations must be sent by POST.")
    inboxes = program.query("{ inboxes(first: 100) { nodes { name } } }")["inboxes"]["nodes"]
    assert "by GET" not in [inbox["name"] for inbox in inboxes]


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/graphql-response+json",
        "application/json, multipart/mixed",
        'multipart/mixed;deferSpec="20220824", */*',
    ],
)
def test_a_subscription_needs_a_stream(program: Program, accept: str | None) -> None:
    headers = bearer(program) | {"Content-Type": "application/json"} | ({} if accept is None else {"Accept": accept})
    body = b'{"query": "subscription { deliveryLog { at } }"}'
    status, _, text = program.request("POST", "/graphql", body, headers)
    message = (
        "Subscriptions need a stream. Use a WebSocket (graphql-transport-ws) at this address, or send Accept: "
        'text/event-stream (graphql-sse) or Accept: multipart/mixed;subscriptionSpec="1.0".'
    )
    assert (status, json.loads(text)) == (406, bad(message))


def test_a_subscription_by_head_is_refused(program: Program) -> None:
    address = "/graphql?" + urlencode({"query": "subscription { deliveryLog { at } }"})
    status, answered, _ = program.request("HEAD", address, headers=bearer(program) | {"Accept": "text/event-stream"})
    assert (status, answered["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "nonsense", "a" * 5_000])
def test_an_accept_without_a_supported_type_is_refused(program: Program, accept: str) -> None:
    message = (
        "Accept names no supported media type, or is longer than 512 bytes. Send Accept: "
        "application/graphql-response+json, application/json or text/event-stream."
    )
    assert program.post(VIEWER, {"Accept": accept}) == (406, bad(message))


def test_a_query_is_refused_if_only_streams_are_accepted(program: Program) -> None:
    message = "Queries and mutations return JSON. Add application/json to Accept."
    assert program.post(VIEWER, {"Accept": "multipart/mixed;subscriptionSpec=1.0"}) == (406, bad(message))


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("query_string", "accept"), [("", None), ("", "*/*"), ("", BROWSER), ("?query={__typename}", BROWSER)]
)
def test_browsers_get_the_page(program: Program, query_string: str, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    status, answered, text = program.request("GET", f"/graphql{query_string}", headers=headers)
    assert (status, answered["Content-Type"], answered["Vary"]) == (200, "text/html; charset=utf-8", "Accept")
    assert b"<!doctype html>" in text.lower()
    status, answered, text = program.request("HEAD", f"/graphql{query_string}", headers=headers)
    assert (status, answered["Content-Type"], text) == (200, "text/html; charset=utf-8", b"")


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/plain, */*", "text/event-stream"])
def test_a_get_without_a_document_by_a_program(program: Program, accept: str) -> None:
    status, _, text = program.request("GET", "/graphql", headers=bearer(program) | {"Accept": accept})
    assert (status, json.loads(text)) == (400, bad("query must be a GraphQL document as a string."))


def test_options_outside_of_a_browser(program: Program) -> None:
    status, answered, text = program.request("OPTIONS", "/graphql")
    assert (status, answered["Allow"], text) == (204, "GET, HEAD, OPTIONS, POST", b"")


def test_one_of_several_operations_is_run_by_its_name(program: Program) -> None:
    document = "query a { __typename } query b { viewer { token { name } } }"
    status, answer = program.post({"query": document, "operationName": "b"})
    assert (status, list(answer["data"])) == (200, ["viewer"])


def test_browsers_on_other_sites_may_ask(program: Program) -> None:
    status, answered, _ = program.request("OPTIONS", "/graphql", headers={
        "Origin": "https://admin.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    })  # fmt: skip
    assert status == 200
    assert answered["Access-Control-Allow-Origin"] == "*"
    assert answered["Access-Control-Allow-Methods"] == "GET, POST"
    assert {"authorization", "content-type"} <= set(answered["Access-Control-Allow-Headers"].lower().split(", "))
    assert answered["Access-Control-Max-Age"] == "3600"
    assert answered["Access-Control-Allow-Credentials"] is None


@pytest.mark.logs_errors
def test_an_unexpected_error_shows_an_id_that_the_log_has_too(program: Program) -> None:
    made = program.query("mutation { createInbox(input: {}) { inbox { id } } }")["createInbox"]["inbox"]["id"]
    with open_database(program) as connection:
        broken = ('[{"nope": 1}]', str(decode(Prefix.INBOX, made)))
        assert connection.execute("UPDATE ringback_inbox SET responses = ? WHERE id = ?", broken).rowcount == 1
    answer = program.execute("query ($id: ID!) { inbox(id: $id) { id } viewer { token { name } } }", {"id": made})
    assert answer["data"] == {"inbox": None, "viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN"}}}
    ((error),) = answer["errors"]
    error_id = error["extensions"]["id"]
    assert error["extensions"] == {"code": "INTERNAL", "id": error_id}
    assert error["path"] == ["inbox"]
    assert error["message"] == f"Something went wrong on the server. Its log has the details under id {error_id}."
    logged = [json.loads(line) for line in program.log().splitlines() if error_id in line]
    assert [(line["event"], line["action"]) for line in logged] == [("internal error", "execute")]
    assert "nope" in logged[0]["exception"]
    assert program.token not in program.log()


def test_every_response_allows_any_origin_and_forbids_caching(program: Program) -> None:
    for body in (b'{"query": "{ __typename }"}', b"{"):
        headers = bearer(program) | {"Content-Type": "application/json", "Origin": "https://admin.example"}
        _, answered, _ = program.request("POST", "/graphql", body, headers)
        assert answered["Access-Control-Allow-Origin"] == "*"
        assert answered["Access-Control-Allow-Credentials"] is None
        assert (answered["Cache-Control"], answered["Vary"]) == ("no-store", "Accept")


def test_a_client_that_disconnects_early_is_not_logged(program: Program) -> None:
    where = urlsplit(program.url)
    head = f"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {program.token}\r\n"
    for rest in (
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"q\r\n',
    ):
        before = program.log()
        with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
            connection.sendall((head + rest).encode())
        assert program.post({"query": "{ __typename }"}) == (200, TYPENAME)
        assert program.log() == before


def bearer(program: Program) -> dict[str, str]:
    return {"Authorization": f"Bearer {program.token}"}


def bad(message: str) -> dict[str, Any]:
    """Return the body of the response to a malformed request."""
    return {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]}


def get(program: Program, parameters: dict[str, str]) -> tuple[int, Any]:
    status, _, text = program.request("GET", f"/graphql?{urlencode(parameters)}", headers=bearer(program))
    return status, json.loads(text)


def chunked(program: Program, body: bytes) -> tuple[int, Any]:
    """POST without a Content-Length. The response may arrive before the whole body is sent."""
    where = urlsplit(program.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_SECONDS)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {program.token}"}
    try:
        chunks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
        connection.request("POST", "/graphql", chunks, headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
