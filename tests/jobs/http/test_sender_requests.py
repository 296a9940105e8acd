"""The sender against real servers: the bytes that it sends, and the requests that it refuses."""

import os
import time
from pathlib import Path

import pytest
from yarl import URL

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.http.sender import Sender
from ringback.jobs.outcomes import Delivered, HttpResponse, RenderFailed
from tests.support.http_server import NO_AUTHORITIES, answering, plain
from tests.support.outgoing import outgoing
from tests.support.sending import LOOPBACK, Names, deliver


async def test_sends_the_request_as_given_and_returns_the_sent_headers(sender: Sender) -> None:
    headers = (("User-Agent", "Ringback/1"), ("Content-Type", "text/plain"), ("X-Twice", "a"), ("X-Twice", "b"))
    async with answering(plain("200 OK", b"ok")).running() as server:
        sent = await deliver(sender, server.url, headers=headers, body=b"hello")
    expected = (
        ("Host", f"127.0.0.1:{server.port}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, deflate"),
        *headers,
        ("Content-Length", "5"),
    )
    assert sent.outcome == Delivered(HttpResponse(200, (("Content-Length", "2"),), b"ok"))
    assert sent.request is not None
    assert sent.request.sent_headers == expected
    lines = "".join(f"{name}: {value}\r\n" for name, value in expected)
    assert server.requests == [f"POST /in?x=1 HTTP/1.1\r\n{lines}\r\nhello".encode()]


async def test_a_get_without_body_sends_none_and_no_content_type(sender: Sender) -> None:
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url, method="GET", body=None)
    assert sent.request is not None
    assert sent.request.sent_headers == (
        ("Host", f"127.0.0.1:{server.port}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, deflate"),
    )
    assert server.requests[0].endswith(b"gzip, deflate\r\n\r\n")


async def test_the_callers_headers_replace_the_automatic_ones(sender: Sender) -> None:
    headers = (("Host", "virtual.example"), ("accept", "application/json"), ("accept-encoding", "identity"))
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url, method="GET", headers=headers, body=None)
    assert sent.request is not None
    assert {name.lower(): value for name, value in sent.request.sent_headers} == {
        "host": "virtual.example",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


async def test_the_body_may_be_longer_than_the_sockets_buffers(sender: Sender) -> None:
    body = os.urandom(3_000_000)
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url, body=body)
    assert sent.outcome == Delivered(HttpResponse(200, (("Content-Length", "0"),)))
    assert server.requests[0].endswith(body)


async def test_cookies_are_not_stored() -> None:
    # Under a name, because aiohttp's cookie jar ignores cookies of IP addresses.
    async with (
        Sender(LOOPBACK, lookup=Names(), tls=NO_AUTHORITIES) as sender,
        answering(plain("200 OK", b"", b"Set-Cookie: a=b; Path=/"), again=True).running() as server,
    ):
        await deliver(sender, server.url.with_host("hooks.example"))
        sent = await deliver(sender, server.url.with_host("hooks.example"))
    assert len(server.requests) == 2
    assert sent.request is not None and "Cookie" not in dict(sent.request.sent_headers)
    assert all(b"cookie" not in request.lower() for request in server.requests)


async def test_proxies_and_netrc_of_the_environment_are_not_used(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret")
    async with answering(plain("502 Proxy")).running() as proxy, answering(plain("200 OK")).running() as server:
        monkeypatch.setenv("HTTP_PROXY", str(proxy.url))
        monkeypatch.setenv("http_proxy", str(proxy.url))
        monkeypatch.setenv("NETRC", str(netrc))
        sent = await deliver(sender, server.url)
    assert sent.outcome.name == "DELIVERED"
    assert sent.request is not None and "Authorization" not in dict(sent.request.sent_headers)
    assert proxy.connections == 0


async def test_the_duration_is_measured_in_whole_milliseconds(sender: Sender) -> None:
    async with answering(b"", plain("200 OK"), pause=0.1).running() as server:
        before = time.monotonic()
        sent = await deliver(sender, server.url)
        took = time.monotonic() - before
    assert isinstance(sent.duration_ms, int)
    assert 100 <= sent.duration_ms <= took * 1_000 + 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (outgoing("POST", URL("ftp://h/")), "The URL must start with http:// or https:// and have a host."),
        (outgoing("POST", URL("/path")), "The URL must start with http:// or https:// and have a host."),
        (outgoing("POST", URL("http:///x")), "The URL must start with http:// or https:// and have a host."),
        (outgoing("POST", URL("http://u:p@h/")), "The URL contains credentials; put them into a header."),
        (outgoing("PO ST", URL("http://h/")), "'PO ST' is not an HTTP method."),
        (outgoing("POST", URL("http://h/"), (("X: y\r\nZ", "v"),)), "'X: y\\r\\nZ' is not a header name."),
        (outgoing("POST", URL("http://h/"), (("", "v"),)), "'' is not a header name."),
        (
            outgoing("POST", URL("http://h/"), (("X", "a\r\nY: b"),)),
            "The value of the header X contains a line break or another control character.",
        ),
        (
            outgoing("POST", URL("http://h/"), (("X", "a\x00"),)),
            "The value of the header X contains a line break or another control character.",
        ),
        (
            outgoing("POST", URL("http://h/"), (("X", "lone surrogate \ud800"),)),
            "The value of the header X contains a line break or another control character.",
        ),
        (
            outgoing("POST", URL("http://h/"), (("Content-Length", "3"),)),
            "The header Content-Length is set by Ringback itself.",
        ),
        (
            outgoing("POST", URL("http://h/"), (("transfer-encoding", "chunked"),)),
            "The header transfer-encoding is set by Ringback itself.",
        ),
    ],
)
async def test_a_request_that_cannot_be_sent_is_a_failed_rendering(
    sender: Sender, request_: OutgoingRequest, error: str
) -> None:
    sent = await sender.send(request_, timeout_seconds=1, accepts=lambda _: True)
    assert (sent.outcome, sent.request) == (RenderFailed(error), None)


async def test_a_url_that_only_aiohttp_refuses_is_a_failed_rendering(sender: Sender) -> None:
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url.with_host("127.1"))
    error = "The request cannot be sent: 127.1 - is not a canonical IPv4 address."
    assert (sent.outcome, sent.request) == (RenderFailed(error), None)
    assert server.requests == []
