"""Headers and addresses of every response, read from the socket: nothing that a client of ours would repair."""

import re
import socket
from urllib.parse import urlsplit

import pytest

from tests.graphql_api.transport.test_inbox import make_inbox, path
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

BROWSER = "Accept: text/html\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
HANDSHAKE = f"{UPGRADE}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
#: Requests by what they ask for: the request line without the version, and headers.
REQUESTS = {
    "the page": ("GET /graphql", BROWSER),
    "the page with a slash": ("GET /graphql/", BROWSER),
    "the way to the page": ("GET /", BROWSER),
    "nothing for a browser": ("GET /nothing", BROWSER),
    "nothing": ("GET /nothing", ""),
    "a file": ("GET /graphql/static/icon.svg", ""),
    "no file": ("GET /graphql/static/nothing.js", ""),
    "a file by a wrong method": ("POST /graphql/static/icon.svg", "Content-Length: 0\r\n"),
    "the icon": ("GET /favicon.ico", ""),
    "health": ("GET /healthz", ""),
    "health by a wrong method": ("POST /healthz", "Content-Length: 0\r\n"),
    "readiness": ("GET /readyz", ""),
    "metrics, which there are not": ("GET /metrics", ""),
    "an operation without a token": ("POST /graphql", "Content-Length: 0\r\n"),
    "an operation by a wrong method": ("PUT /graphql", "Content-Length: 0\r\n"),
    "a preflight": ("OPTIONS /graphql", "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"),
    "no inbox": ("GET /inbox/nothing", ""),
    "an unknown upgrade": ("GET /graphql", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "a WebSocket": ("GET /graphql", f"{HANDSHAKE}Sec-WebSocket-Protocol: graphql-transport-ws\r\n"),
    "a WebSocket without its subprotocol": ("GET /graphql", HANDSHAKE),
    "a WebSocket at a wrong address": ("GET /nothing", HANDSHAKE),
    "a malformed handshake": ("GET /graphql", f"{UPGRADE}Sec-WebSocket-Version: 13\r\n"),
    "a handshake of an old version": ("GET /graphql", f"{HANDSHAKE}".replace("13", "8")),
    "a handshake with a body": ("GET /graphql", f"{HANDSHAKE}Content-Length: 3\r\n"),
    "no HTTP": ("\x00", ""),
}


def read_head(program: Program, request: str, headers: str = "", host: str = "") -> tuple[int, dict[str, str]]:
    """Send a request and return the status and the headers of its response."""
    where = urlsplit(program.url)
    assert where.hostname is not None
    with socket.create_connection((where.hostname, where.port or 80), PATIENCE_SECONDS) as connection:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: {host or where.netloc}\r\n{headers}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65_536)
            assert received, head
            head += received
    status, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    fields = [line.partition(":") for line in lines]
    names = [name.lower() for name, _, _ in fields]
    assert names.count("x-content-type-options") <= 1
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields}


@pytest.mark.parametrize("what", REQUESTS)
def test_every_response_forbids_to_guess_its_type(program: Program, what: str) -> None:
    request, headers = REQUESTS[what]

    status, answered = read_head(program, request, headers)

    assert answered.get("x-content-type-options") == "nosniff", (status, answered)


def test_a_response_of_an_inbox_forbids_to_guess_its_type(program: Program) -> None:
    inbox = make_inbox(program, responses=[{"contentType": "text/javascript", "body": "1"}])

    status, answered = read_head(program, f"GET {path(inbox)}")

    assert (status, answered["content-type"]) == (200, "text/javascript")
    assert (answered["x-content-type-options"], answered["content-security-policy"]) == ("nosniff", "sandbox")


@pytest.mark.parametrize("headers", ["", BROWSER, "X-Forwarded-Host: evil.example\r\n"])
@pytest.mark.parametrize(
    "target", ["/graphql/", "/graphql//", "/graphql/static", "/healthz/", "/readyz/", "/inbox/", "/inbox/x/", "//", "/"]
)
def test_no_response_leads_to_the_host_of_the_request(program: Program, target: str, headers: str) -> None:
    status, answered = read_head(program, f"GET {target}", headers, host="evil.example")

    assert re.fullmatch("/graphql|", answered.get("location", ""))
    assert "evil.example" not in str({name: answered[name] for name in answered if name != "content-security-policy"})
    assert status != 500


@pytest.mark.parametrize("second", ["Host: b.example\r\n", "hOST: a.example\r\n"])
@pytest.mark.parametrize("request_line", ["GET /healthz", "GET /graphql"])
def test_a_request_with_two_hosts_is_refused(program: Program, request_line: str, second: str) -> None:
    status, _ = read_head(program, request_line, second, host="a.example")

    assert status == 400


def test_an_address_with_a_slash_at_the_end_serves_the_api(program: Program) -> None:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {program.token}"}

    status, _, body = program.request("POST", "/graphql/", b'{"query": "{ __typename }"}', sent)

    assert (status, body) == (200, b'{"data":{"__typename":"Query"}}')
