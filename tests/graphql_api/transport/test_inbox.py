"""Inboxes over HTTP, on the running program: methods, responses, and isolation from GraphiQL's origin."""

import base64
import http.client
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from ringback.models.security.signing import new_signing_secret
from tests.contract import operations
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.signatures import signature_headers

BODY = "phone=%2B7&name=Ада".encode()
EVENT_ID = "evt_01h455vb4pex5vsknk084sn02q"


def make_inbox(program: Program, **given: Any) -> dict[str, Any]:
    made = program.query(operations()["CreateInbox"], {"input": given})["createInbox"]
    assert made["errors"] == []
    return dict(made["inbox"])


def received(program: Program, inbox: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests of an inbox, oldest first."""
    stored = program.query(operations()["InboxRequests"], {"id": inbox["id"], "first": 100})["inbox"]
    return list(reversed(stored["requests"]["nodes"]))


def path(inbox: dict[str, Any]) -> str:
    return str(urlsplit(inbox["url"]).path)


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE", "M-SEARCH", "QUERY"]
)
def test_http_and_webdav_methods_are_stored_and_answered(program: Program, method: str) -> None:
    inbox = make_inbox(program, responses=[{"statusCode": 202, "body": "taken", "contentType": "text/html"}])
    status, headers, text = program.request(
        method, f"{path(inbox)}?a=%20b&a=c", BODY, {"X-Shop": "Ада".encode().decode("latin-1")}
    )
    assert (status, text) == (202, b"" if method == "HEAD" else b"taken")
    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"
    (request,) = received(program, inbox)
    assert (request["method"], request["url"]) == (method, f"{path(inbox)}?a=%20b&a=c")
    assert (request["body"], base64.b64decode(request["bodyBase64"])) == (BODY.decode(), BODY)
    assert {"name": "x-shop", "value": "Ада"} in request["headers"]
    assert (request["remoteAddress"], request["responseStatusCode"]) == ("127.0.0.1", 202)
    assert (request["signature"], request["event"]) == ("ABSENT", None)


def test_a_response_is_sent_in_the_charset_of_its_content_type(program: Program) -> None:
    content_type = "text/plain; charset=windows-1251"
    inbox = make_inbox(program, responses=[{"body": "жук", "contentType": content_type}])
    status, headers, text = program.request("POST", path(inbox), b"x")
    assert (status, headers["Content-Type"], text) == (200, content_type, b"\xe6\xf3\xea")


@pytest.mark.parametrize("method", ["RING", "X-RING", "get", "!"])
def test_an_unknown_method_is_refused_and_not_stored(program: Program, method: str) -> None:
    inbox = make_inbox(program)

    status, _, text = program.request(method, path(inbox), BODY)

    assert (status, text) == (400, b"Invalid HTTP request received.")
    assert received(program, inbox) == []


def test_what_is_no_http_at_all(program: Program) -> None:
    where = urlsplit(program.url)
    for nonsense in (
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"RI NG / HTTP/1.1\r\n\r\n",
        b"(RING) / HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(nonsense)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "Traceback" not in program.log()


def test_it_answers_in_order_and_repeats_the_last(program: Program) -> None:
    inbox = make_inbox(program, responses=[{"statusCode": 500, "body": "no"}, {"statusCode": 503}, {}])
    assert inbox["responses"][2] == {"statusCode": 200, "body": "", "contentType": "text/plain", "delayMs": 0}
    assert [program.request("POST", path(inbox), b"")[0] for _ in range(4)] == [500, 503, 200, 200]
    assert [r["responseStatusCode"] for r in received(program, inbox)] == [500, 503, 200, 200]
    cleared = program.query(operations()["ClearInbox"], {"id": inbox["id"]})["clearInbox"]
    assert cleared == {"deletedCount": 4, "errors": []}
    assert received(program, inbox) == []
    assert program.request("POST", path(inbox), b"")[0] == 500
    deleted = program.query(operations()["DeleteInbox"], {"id": inbox["id"]})["deleteInbox"]
    assert deleted == {"deletedId": inbox["id"], "errors": []}
    assert program.request("POST", path(inbox), b"")[0] == 404


def test_it_waits_before_it_answers(program: Program) -> None:
    inbox = make_inbox(program, responses=[{}, {"delayMs": 400}])
    moments = [time.monotonic()]
    for _ in range(2):
        assert program.request("POST", path(inbox), b"")[0] == 200
        moments.append(time.monotonic())
    at_once, delayed = moments[1] - moments[0], moments[2] - moments[1]
    assert 0.4 <= delayed < 2 + 5 * at_once


@pytest.mark.parametrize("status", [204, 205, 304])
def test_answers_without_a_body(program: Program, status: int) -> None:
    inbox = make_inbox(program, responses=[{"statusCode": status, "body": "not sent"}])
    for _ in range(2):
        received_status, headers, text = program.request("GET", path(inbox))
        assert (received_status, text, headers["Content-Security-Policy"]) == (status, b"", "sandbox")


def test_bytes_that_are_no_text(program: Program) -> None:
    inbox = make_inbox(program)
    body = bytes(range(256))
    assert program.request("POST", path(inbox), body)[0] == 200
    (request,) = received(program, inbox)
    assert request["body"] is None
    assert base64.b64decode(request["bodyBase64"]) == body


def test_a_body_over_one_mebibyte_is_refused_and_not_kept(program: Program) -> None:
    inbox = make_inbox(program)
    assert program.request("POST", path(inbox), b"x" * 1_048_576)[0] == 200
    status, headers, text = program.request("POST", path(inbox), b"x" * 1_048_577)
    assert (status, text) == (413, b"The body is longer than 1,048,576 bytes, a fixed limit.\n")
    assert headers["Content-Security-Policy"] == "sandbox"
    assert [len(r["body"]) for r in received(program, inbox)] == [1_048_576]


def test_an_unknown_address_is_not_found(program: Program) -> None:
    for unknown in ("/inbox/nope", "/inbox/%00", "/inbox/%FF", "/inbox/" + "x" * 5_000):
        status, headers, text = program.request("POST", unknown, b"")
        assert (status, text) == (404, b"There is no inbox at this address.\n")
        assert headers["Content-Security-Policy"] == "sandbox"


def test_the_signature_is_checked_by_the_inbox_s_secret(program: Program) -> None:
    secret = new_signing_secret()
    inbox = make_inbox(program, signingSecret=secret)
    good = signature_headers(event_id="evt_x", timestamp=1_700_000_000, body=BODY, secret=secret)
    program.request("POST", path(inbox), BODY, good)
    program.request("POST", path(inbox), BODY + b"!", good)
    program.request("POST", path(inbox), BODY, {**good, "webhook-timestamp": "x"})
    program.request("POST", path(inbox), BODY)
    assert [r["signature"] for r in received(program, inbox)] == ["VALID", "INVALID", "INVALID", "ABSENT"]


def test_without_a_secret_there_is_nothing_to_check_with(program: Program) -> None:
    inbox = make_inbox(program)
    signed = signature_headers(event_id=EVENT_ID, timestamp=1_700_000_000, body=b"", secret=new_signing_secret())
    program.request("POST", path(inbox), b"", signed)
    program.request("POST", path(inbox), b"", {**signed, "PS-WEBHOOK_EVENT-ID": EVENT_ID})
    program.request("POST", path(inbox), b"", {"PS-WEBHOOK_EVENT-ID": "no id"})
    signatures = [(request["signature"], request["event"]) for request in received(program, inbox)]
    assert signatures == [("NOT_CHECKED", None), ("NOT_CHECKED", None), ("ABSENT", None)]


def test_a_delivery_of_ours_verifies_and_leads_to_its_event(program: Program) -> None:
    inbox = make_inbox(program)
    target = {"model": "lead", "actions": ["CREATED"], "url": inbox["url"], "sendJson": True}
    made = program.query(operations()["CreateWebhook"], {"input": target})["createWebhook"]
    fired = program.query(operations()["TestFireWebhook"], {"input": {"webhookId": made["webhook"]["id"]}})
    event_id = fired["testFireWebhook"]["event"]["id"]
    (request,) = program.wait_until(lambda: received(program, inbox), "the delivery")
    assert (request["signature"], request["event"]) == ("VALID", {"id": event_id})
    # The same request once more, altered: the event's webhook still says what its signature is worth.
    headers = {h["name"]: h["value"] for h in request["headers"] if h["name"].startswith(("webhook-", "ps-webhook"))}
    program.request("POST", path(inbox), b"{}", headers)
    assert [(r["signature"], r["event"]) for r in received(program, inbox)][1] == ("INVALID", {"id": event_id})


def test_a_client_that_leaves_early_leaves_nothing(program: Program) -> None:
    inbox = make_inbox(program)
    where = urlsplit(inbox["url"])
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_SECONDS)
    connection.putrequest("POST", where.path)
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"half")
    connection.close()
    assert program.request("POST", path(inbox), b"whole")[0] == 200
    assert [r["body"] for r in received(program, inbox)] == ["whole"]
