"""The sender against real servers on loopback: every way in which an endpoint can answer, fail or misbehave.

Each test opens its servers on free ports in its own loop, and lets deliveries reach 127.0.0.0/8.
"""

import asyncio
import datetime as dt
import gzip
import ipaddress
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ringback.jobs.connections import SETTLE_SECONDS, trusted_tls
from ringback.jobs.exchange import MAX_RESPONSE_BYTES
from ringback.jobs.failures import outcome_of
from ringback.jobs.names import DnsLookup, LookupFailed, SystemLookup
from ringback.jobs.outcomes import (
    Answer,
    BadResponse,
    Delivered,
    Outcome,
    Rejected,
    RenderFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from ringback.jobs.requests import Headers, OutgoingRequest
from ringback.jobs.sender import Sender, Sent
from ringback.models.addresses import AddressPolicy
from tests.support.http_server import NO_AUTHORITIES, Server, answering, plain
from tests.support.outgoing import outgoing

LOOPBACK = AddressPolicy((ipaddress.ip_network("127.0.0.0/8"),))
URL_OF_NOBODY = URL("http://hooks.example:8080/in")


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(LOOPBACK, tls=NO_AUTHORITIES) as opened:
        yield opened


async def deliver(
    sender: Sender,
    url: URL,
    *,
    method: str = "POST",
    headers: Headers = (),
    body: bytes | None = b"x",
    timeout_seconds: float = 5.0,
) -> Sent:
    request = outgoing(method, url, headers, body)
    return await sender.send(request, timeout_seconds=timeout_seconds, accepts=lambda status: status == 200)


async def outcome_from(sender: Sender, server: Server, method: str = "POST") -> Outcome:
    async with server.running():
        return (await deliver(sender, server.url, method=method)).outcome


# ---------------------------------------------------------------------------------------------------- what is sent


async def test_sends_the_request_as_given_and_returns_the_headers_that_went_out(sender: Sender) -> None:
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
    assert sent.outcome == Delivered(Answer(200, (("Content-Length", "2"),), b"ok"))
    assert sent.headers == expected
    lines = "".join(f"{name}: {value}\r\n" for name, value in expected)
    assert server.requests == [f"POST /in?x=1 HTTP/1.1\r\n{lines}\r\nhello".encode()]


async def test_a_get_without_body_sends_none_and_no_content_type(sender: Sender) -> None:
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url, method="GET", body=None)
    assert sent.headers == (
        ("Host", f"127.0.0.1:{server.port}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, deflate"),
    )
    assert server.requests[0].endswith(b"gzip, deflate\r\n\r\n")


async def test_the_callers_headers_replace_the_automatic_ones(sender: Sender) -> None:
    headers = (("Host", "virtual.example"), ("accept", "application/json"), ("accept-encoding", "identity"))
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url, method="GET", headers=headers, body=None)
    assert sent.headers is not None
    assert {name.lower(): value for name, value in sent.headers} == {
        "host": "virtual.example",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


async def test_the_body_may_be_longer_than_the_sockets_buffers(sender: Sender) -> None:
    body = os.urandom(3_000_000)
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url, body=body)
    assert sent.outcome == Delivered(Answer(200, (("Content-Length", "0"),)))
    assert server.requests[0].endswith(body)


class Names:
    """A resolver to which every name is 127.0.0.1, but for one that hangs and one that is unknown."""

    async def addresses(self, name: str) -> Sequence[str]:
        if name == "hangs.example":
            await asyncio.Event().wait()
        if name == "nohost.example":
            raise LookupFailed(f"The name {name} does not resolve.")
        return ["127.0.0.1"]

    async def close(self) -> None:
        pass


async def test_cookies_are_not_kept() -> None:
    # Under a name, because aiohttp's own jar would take none from an address.
    async with (
        Sender(LOOPBACK, lookup=Names(), tls=NO_AUTHORITIES) as sender,
        answering(plain("200 OK", b"", b"Set-Cookie: a=b; Path=/"), again=True).running() as server,
    ):
        await deliver(sender, server.url.with_host("hooks.example"))
        sent = await deliver(sender, server.url.with_host("hooks.example"))
    assert len(server.requests) == 2
    assert sent.headers is not None and "Cookie" not in dict(sent.headers)
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
    assert sent.headers is not None and "Authorization" not in dict(sent.headers)
    assert proxy.connections == 0


async def test_the_duration_is_measured_in_whole_milliseconds(sender: Sender) -> None:
    async with answering(b"", plain("200 OK"), pause=0.1).running() as server:
        sent = await deliver(sender, server.url)
    assert isinstance(sent.duration_ms, int)
    assert 100 <= sent.duration_ms < 3_000


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (outgoing("POST", URL("ftp://h/")), "The URL is not one of http:// or https:// with a host."),
        (outgoing("POST", URL("/path")), "The URL is not one of http:// or https:// with a host."),
        (outgoing("POST", URL("http:///x")), "The URL is not one of http:// or https:// with a host."),
        (outgoing("POST", URL("http://u:p@h/")), "The URL carries credentials; they belong in a header."),
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
    assert (sent.outcome, sent.headers) == (RenderFailed(error), None)


async def test_what_only_aiohttp_notices_is_a_failed_rendering_too(sender: Sender) -> None:
    async with answering(plain("200 OK")).running() as server:
        sent = await deliver(sender, server.url.with_host("127.1"))
    error = "The request cannot be sent: 127.1 - is not a canonical IPv4 address."
    assert (sent.outcome, sent.headers) == (RenderFailed(error), None)
    assert server.requests == []


# ----------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_200_is_delivered(sender: Sender, method: str) -> None:
    server = answering(plain("200 OK", b"ok", b"X-Id: 7"))
    assert await outcome_from(sender, server, method) == Delivered(
        Answer(200, (("Content-Length", "2"), ("X-Id", "7")), b"ok")
    )
    assert server.requests[0].startswith(method.encode() + b" /in?x=1 ")


@pytest.mark.parametrize("status", [201, 204, 400, 404, 429, 500, 503, 999])
async def test_any_other_status_is_rejected_with_its_answer(sender: Sender, status: int) -> None:
    outcome = await outcome_from(sender, answering(plain(f"{status} Whatever")))
    assert outcome == Rejected(
        Answer(status, (("Content-Length", "0"),)), f"The endpoint answered {status}; only 200 counts as success."
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sender: Sender, status: int) -> None:
    async with answering(plain("200 OK")).running() as target:
        location = f"Location: {target.url}".encode()
        outcome = await outcome_from(sender, answering(plain(f"{status} There", b"", location)), "GET")
    assert outcome.name == "REJECTED"
    assert outcome.error == (
        f"The endpoint answered {status}; only 200 counts as success, and redirects are not followed."
    )
    assert target.connections == 0


async def test_informational_answers_are_passed_over(sender: Sender) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    outcome = await outcome_from(sender, answering(early, plain("200 OK", b"ok")))
    assert outcome == Delivered(Answer(200, (("Content-Length", "2"),), b"ok"))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nuntil\r\n8\r\n the end\r\n0\r\n\r\n",
    ],
)
async def test_reads_bodies_without_a_length(sender: Sender, answer: bytes) -> None:
    outcome = await outcome_from(sender, answering(answer))
    assert outcome.name == "DELIVERED"
    assert outcome.answer is not None
    assert (outcome.answer.body, outcome.answer.body_truncated) == (b"until the end", False)


@pytest.mark.parametrize(("length", "truncated"), [(MAX_RESPONSE_BYTES, False), (MAX_RESPONSE_BYTES + 1, True)])
async def test_keeps_64_kib_of_the_body(sender: Sender, length: int, truncated: bool) -> None:
    body = os.urandom(length)
    outcome = await outcome_from(sender, answering(plain("200 OK", body)))
    assert outcome == Delivered(
        Answer(200, (("Content-Length", str(length)),), body[:MAX_RESPONSE_BYTES], body_truncated=truncated)
    )


async def test_a_body_without_end_is_cut_off_and_its_connection_closed(sender: Sender) -> None:
    written = 0
    closed = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                written += 65_536
        finally:
            closed.set()

    server = Server(pour)
    async with server.running():
        sent = await deliver(sender, server.url)
        await asyncio.wait_for(closed.wait(), 5)
    assert sent.outcome == Delivered(Answer(200, (), b"x" * MAX_RESPONSE_BYTES, body_truncated=True))
    assert written < 20_000_000


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzip.compress(b"plain text", mtime=0)),
        ("X-GZIP", gzip.compress(b"plain text", mtime=0)),
        ("deflate", zlib.compress(b"plain text")),
        ("deflate", zlib.compress(b"plain text", wbits=-zlib.MAX_WBITS)),
        ("identity", b"plain text"),
    ],
)
async def test_decodes_a_compressed_body(sender: Sender, encoding: str, encoded: bytes) -> None:
    outcome = await outcome_from(sender, answering(plain("200 OK", encoded, f"Content-Encoding: {encoding}".encode())))
    assert outcome == Delivered(
        Answer(200, (("Content-Length", str(len(encoded))), ("Content-Encoding", encoding)), b"plain text")
    )


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", b"\x8b\x02\x80"), ("gzip", b"no gzip"), ("deflate", b"xx no deflate"), ("gzip, gzip", b"twice")],
)
async def test_keeps_a_body_that_cannot_be_decoded_as_it_came(sender: Sender, encoding: str, body: bytes) -> None:
    outcome = await outcome_from(sender, answering(plain("200 OK", body, f"Content-Encoding: {encoding}".encode())))
    assert outcome.name == "DELIVERED"
    assert outcome.answer is not None and outcome.answer.body == body


async def test_a_gzip_bomb_is_decoded_to_64_kib_only(sender: Sender) -> None:
    bomb = gzip.compress(bytes(60_000_000))
    assert len(bomb) < MAX_RESPONSE_BYTES
    outcome = await outcome_from(sender, answering(plain("200 OK", bomb, b"Content-Encoding: gzip")))
    assert outcome.answer is not None
    assert outcome.answer.body == bytes(MAX_RESPONSE_BYTES)
    assert outcome.answer.body_truncated


async def test_a_compressed_body_that_ends_early_is_marked_as_truncated(sender: Sender) -> None:
    half = gzip.compress(os.urandom(1_000))[:500]
    outcome = await outcome_from(sender, answering(plain("200 OK", half, b"Content-Encoding: gzip")))
    assert outcome.answer is not None
    assert outcome.answer.body_truncated


# --------------------------------------------------------------------------------------------------- bad answers

NOT_HTTP = "What 127.0.0.1:{port} answered is not valid HTTP: "


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "Bad status line."),
        (b"\x00\xff\x12\r\n\r\n", "Bad status line."),
        (b"HTTP/2 200 OK\r\n\r\n", "Bad status line."),
        (b"HTTP/1.1 99 Low\r\n\r\n", "Bad status line."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Invalid character in Content-Length."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Invalid character in Content-Length."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Duplicate Content-Length."),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "Too many headers received."),
    ],
)
async def test_what_is_no_http_is_a_bad_response(sender: Sender, answer: bytes, reason: str) -> None:
    server = answering(answer, close=False)
    assert await outcome_from(sender, server) == BadResponse(NOT_HTTP.format(port=server.port) + reason)


async def test_a_body_that_turns_out_to_be_no_http_leaves_what_came_before(sender: Sender) -> None:
    server = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", close=False)
    assert await outcome_from(sender, server) == BadResponse(
        NOT_HTTP.format(port=server.port) + "Invalid character in chunk size.",
        Answer(200, (("Transfer-Encoding", "chunked"),), b"ok", body_truncated=True),
    )


async def test_a_header_that_is_too_long_is_a_bad_response(sender: Sender) -> None:
    server = answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000 + b"\r\n\r\n", close=False)
    outcome = await outcome_from(sender, server)
    assert outcome.name == "BAD_RESPONSE"
    assert outcome.error is not None and "Got more than 8190 bytes" in outcome.error


async def test_headers_that_are_too_many_bytes_together_are_a_bad_response(sender: Sender) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 8_000) for number in range(5))
    outcome = await outcome_from(sender, answering(b"HTTP/1.1 200 OK\r\n" + many + b"\r\n"))
    assert outcome == BadResponse("The endpoint answered 200 with more than 32 KiB of headers.")


async def test_101_is_a_bad_response(sender: Sender) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nframes"
    outcome = await outcome_from(sender, answering(switch, close=False))
    assert outcome == BadResponse(
        "The endpoint answered 101 and switched protocols; nobody asked it to.",
        Answer(101, (("Upgrade", "websocket"), ("Connection", "Upgrade"))),
    )


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_a_connection_closed_before_the_headers_end_is_a_bad_response_and_not_tried_again(
    sender: Sender, method: str, answer: bytes
) -> None:
    server = answering(answer)
    outcome = await outcome_from(sender, server, method)
    assert outcome == BadResponse(f"127.0.0.1:{server.port} closed the connection before its answer was complete.")
    assert len(server.requests) == server.connections == 1


@pytest.mark.parametrize(
    ("head", "header"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", ("Content-Length", "100")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", ("Transfer-Encoding", "chunked")),
    ],
)
async def test_a_body_that_ends_early_is_a_bad_response_with_what_came(
    sender: Sender, head: bytes, header: tuple[str, str]
) -> None:
    server = answering(head + b"half")
    assert await outcome_from(sender, server) == BadResponse(
        f"127.0.0.1:{server.port} closed the connection before its answer was complete.",
        Answer(200, (header,), b"half", body_truncated=True),
    )


async def test_a_reset_connection_is_a_bad_response(sender: Sender) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()

    server = Server(reset)
    outcome = await outcome_from(sender, server, "PUT")
    assert outcome == BadResponse(f"127.0.0.1:{server.port} closed the connection before its answer was complete.")
    assert server.connections == 1


# ---------------------------------------------------------------------------------------------- time and cancellation


async def test_an_endpoint_that_never_answers_times_out(sender: Sender) -> None:
    async with answering(close=False).running() as server:
        sent = await deliver(sender, server.url, timeout_seconds=0.2)
    assert sent.outcome == TimedOut("No complete answer within 0.2 s.")
    assert sent.headers is not None
    assert 200 <= sent.duration_ms < 3_000


async def test_a_listener_that_never_accepts_times_out(sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        sent = await deliver(sender, url, timeout_seconds=0.2)
    assert sent.outcome == TimedOut("No complete answer within 0.2 s.")


async def test_a_dripping_body_times_out_with_what_came(sender: Sender) -> None:
    drops = [plain("200 OK", b"x" * 100)[:-100], *[b"x"] * 100]
    async with answering(*drops, pause=0.02).running() as server:
        sent = await deliver(sender, server.url, timeout_seconds=0.3)
    assert sent.outcome.name == "TIMED_OUT"
    assert sent.outcome.error == "No complete answer within 0.3 s."
    answer = sent.outcome.answer
    assert answer is not None
    assert (answer.status, answer.headers, answer.body_truncated) == (200, (("Content-Length", "100"),), True)
    assert 1 <= len(answer.body) <= 20


async def test_dripping_headers_time_out(sender: Sender) -> None:
    drops = [bytes([byte]) for byte in plain("200 OK", b"", b"X: " + b"y" * 100)]
    async with answering(*drops, pause=0.02).running() as server:
        sent = await deliver(sender, server.url, timeout_seconds=0.3)
    assert sent.outcome == TimedOut("No complete answer within 0.3 s.")


async def test_a_name_that_hangs_times_out_and_holds_up_no_other() -> None:
    async with (
        Sender(LOOPBACK, lookup=Names(), tls=NO_AUTHORITIES) as sender,
        answering(plain("200 OK")).running() as server,
    ):
        hanging = URL("http://hangs.example/")
        hung = [asyncio.create_task(deliver(sender, hanging, timeout_seconds=30)) for _ in range(50)]
        sent = await deliver(sender, hanging, timeout_seconds=0.1)
        assert (sent.outcome, sent.headers) == (TimedOut("No complete answer within 0.1 s."), None)
        assert (await deliver(sender, server.url.with_host("healthy.example"))).outcome.name == "DELIVERED"
        assert not any(task.done() for task in hung)
        for task in hung:
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*hung, return_exceptions=True)} == {asyncio.CancelledError}


async def test_cancellation_passes_through_and_closes_the_connection(sender: Sender) -> None:
    closed = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        await reader.read()
        closed.set()

    server = Server(wait_for_the_end)
    async with server.running():
        task = asyncio.create_task(deliver(sender, server.url))
        while not server.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 5)


# ---------------------------------------------------------------------------------------------------------- connecting


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_a_refused_connection_is_unreachable(sender: Sender) -> None:
    port = free_port()
    sent = await deliver(sender, URL(f"http://127.0.0.1:{port}/"))
    assert sent.outcome == Unreachable(f"Connection refused by 127.0.0.1:{port}.")
    assert sent.headers is None


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    async with Sender(LOOPBACK, lookup=Names(), tls=NO_AUTHORITIES) as sender:
        sent = await deliver(sender, URL("http://nohost.example/"))
    assert sent.outcome == Unreachable("The name nohost.example does not resolve.")
    assert sent.headers is None


async def test_a_kept_connection_is_used_again(sender: Sender) -> None:
    async with answering(plain("200 OK", b"ok"), again=True).running() as server:
        for _ in range(3):
            assert (await deliver(sender, server.url)).outcome.name == "DELIVERED"
            await asyncio.sleep(SETTLE_SECONDS * 2)
    assert (len(server.requests), server.connections) == (3, 1)


async def test_an_endpoint_may_say_the_same_over_and_over(sender: Sender) -> None:
    packed = gzip.compress(b"ok")
    same = plain("200 OK", packed, b"Content-Encoding: gzip")
    expected = Answer(200, (("Content-Length", str(len(packed))), ("Content-Encoding", "gzip")), b"ok")
    async with answering(same, again=True).running() as server:
        for _ in range(3):
            sent = await deliver(sender, server.url)
            assert sent.outcome == Delivered(expected)
            await asyncio.sleep(SETTLE_SECONDS * 2)
        unwanted = await sender.send(outgoing("POST", server.url), timeout_seconds=5, accepts=lambda _: False)
    assert server.connections == 1
    assert unwanted.outcome == Rejected(expected, "The endpoint answered 200; only 200 counts as success.")


@pytest.mark.parametrize("pause", [0.0, SETTLE_SECONDS / 4])
async def test_an_endpoint_that_closes_without_saying_so_loses_no_request(sender: Sender, pause: float) -> None:
    # With aiohttp's own connector every second one of these is lost. Should the machine stand still between an answer
    # and its connection's end, one may be lost here too; nothing can be done about that.
    async with answering(plain("200 OK", b"ok"), pause=pause).running() as server:
        outcomes = [(await deliver(sender, server.url)).outcome.name for _ in range(40)]
    assert outcomes.count("DELIVERED") >= 36


async def test_a_busy_loop_does_not_send_into_a_closed_connection(sender: Sender) -> None:
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        listener.settimeout(2)

        def answer_and_close(times: int) -> None:
            for _ in range(times):
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.sendall(plain("200 OK"))
                connection.close()
                closed.set()

        served = thread.submit(answer_and_close, 10)
        url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        for _ in range(10):
            assert (await deliver(sender, url, method="GET", body=None)).outcome.name == "DELIVERED"
            # What other work on the loop may do: meanwhile it sees no connection end.
            assert closed.wait(2)
            closed.clear()
            time.sleep(SETTLE_SECONDS * 1.5)
        served.result(2)


async def test_a_failed_connection_leaves_its_place_in_the_pool() -> None:
    async with Sender(LOOPBACK, tls=NO_AUTHORITIES) as sender:
        url = URL(f"http://127.0.0.1:{free_port()}/")
        for _ in range(3):
            outcomes = await asyncio.gather(*[deliver(sender, url) for _ in range(400)])
            assert {sent.outcome.name for sent in outcomes} == {"UNREACHABLE"}


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("kind", [DnsLookup, SystemLookup])
async def test_both_resolvers_know_localhost_and_say_that_a_name_does_not_resolve(
    kind: type[DnsLookup | SystemLookup],
) -> None:
    lookup = kind()
    try:
        assert "127.0.0.1" in await lookup.addresses("localhost")
        with pytest.raises(LookupFailed, match=r"^The name a\.\.b (does not resolve|could not be looked up: .+)\.$"):
            await lookup.addresses("a..b")
    finally:
        await lookup.close()


# ------------------------------------------------------------------------------------------------------------------ TLS


class Authority:
    """A certificate authority that signs certificates for one host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Ringback test authority")])
        self.file = directory / "ca.pem"
        certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=0), 1)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, host: str, *, days: int = 1) -> ssl.SSLContext:
        """Return a server's context with a certificate for `host` that ends in `days` days."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        try:
            subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        certificate = self._sign(name, key.public_key(), x509.SubjectAlternativeName([subject]), days)
        file = self._directory / f"{host}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType, days: int
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=30))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


async def test_delivers_over_tls_and_keeps_the_connection(authority: Authority) -> None:
    server = answering(plain("200 OK", b"ok"), again=True)
    async with Sender(LOOPBACK, tls=trusting(authority)) as sender, server.running(authority.server("127.0.0.1")):
        for _ in range(2):
            sent = await deliver(sender, server.url.with_scheme("https"))
            assert sent.outcome == Delivered(Answer(200, (("Content-Length", "2"),), b"ok"))
            await asyncio.sleep(SETTLE_SECONDS * 2)
    assert (len(server.requests), server.connections) == (2, 1)


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        ("127.0.0.1", -1, True, "certificate has expired"),
        ("127.0.0.1", 1, False, "unable to get local issuer certificate"),
        ("other.example", 1, True, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
async def test_a_certificate_that_is_not_accepted_fails_before_anything_is_sent(
    authority: Authority, host: str, days: int, trusted: bool, reason: str
) -> None:
    server = answering(plain("200 OK"))
    tls = trusting(authority) if trusted else NO_AUTHORITIES
    async with Sender(LOOPBACK, tls=tls) as sender, server.running(authority.server(host, days=days)):
        sent = await deliver(sender, server.url.with_scheme("https"))
    assert sent.outcome == TlsFailed(f"TLS with 127.0.0.1:{server.port} failed: {reason}.")
    assert sent.headers is None
    assert server.requests == []


async def test_https_to_a_plain_server_fails_in_tls(sender: Sender) -> None:
    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    server = Server(speak_first)
    async with server.running():
        sent = await deliver(sender, server.url.with_scheme("https"))
    assert sent.outcome == TlsFailed(f"TLS with 127.0.0.1:{server.port} failed: wrong version number.")


async def test_http_to_a_tls_server_is_a_bad_response(sender: Sender, authority: Authority) -> None:
    server = answering(plain("200 OK"))
    async with server.running(authority.server("127.0.0.1")):
        sent = await deliver(sender, server.url)
    assert sent.outcome.name == "BAD_RESPONSE"


async def test_a_server_that_asks_for_a_client_certificate_fails_in_tls(authority: Authority) -> None:
    server = answering(plain("200 OK"))
    context = authority.server("127.0.0.1")
    context.load_verify_locations(cafile=authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the handshake is over before the server can object
    async with Sender(LOOPBACK, tls=trusting(authority)) as sender, server.running(context):
        sent = await deliver(sender, server.url.with_scheme("https"))
    assert sent.outcome == TlsFailed(
        f"TLS with 127.0.0.1:{server.port} failed: the connection was closed during the handshake."
    )
    assert server.requests == []


def test_ssl_cert_file_adds_an_authority_and_removes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("added", "system", "empty"):
        (tmp_path / name).mkdir()
    added, system = Authority(tmp_path / "added"), Authority(tmp_path / "system")
    store = ssl.get_default_verify_paths()._replace(
        openssl_cafile=str(system.file), openssl_capath=str(tmp_path / "empty")
    )
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert len(trusted_tls(store).get_ca_certs()) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(added.file))
    assert len(trusted_tls(store).get_ca_certs()) == 2


def test_tls_checks_certificates_and_names() -> None:
    context = trusted_tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


# --------------------------------------------------------------------------------------------------- foreign errors

KEY = ConnectionKey("hooks.example", 8080, False, True, None, None, None)
INFO = aiohttp.RequestInfo(URL_OF_NOBODY, "POST", CIMultiDictProxy(CIMultiDict()), URL_OF_NOBODY)
NO_ROUTE = OSError(113, "No route to host")
CLOSED = BadResponse("hooks.example:8080 closed the connection before its answer was complete.")
INVALID = BadResponse("What hooks.example:8080 answered is not valid HTTP: Bad thing.")
UNROUTED = Unreachable("No connection to hooks.example:8080: No route to host.")
TLS = TlsFailed("TLS with hooks.example:8080 failed: handshake failed.")
LATE = TimedOut("hooks.example:8080 did not answer in time.")
UNSENDABLE = RenderFailed("The request cannot be sent: bad url.")

MAPPED: list[tuple[aiohttp.ClientError, Outcome]] = [
    (aiohttp.ClientResponseError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.ContentTypeError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.WSServerHandshakeError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.ClientHttpProxyError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.TooManyRedirects(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.ClientConnectionError("x"), CLOSED),
    (aiohttp.ClientConnectionResetError("x"), CLOSED),
    (aiohttp.ClientOSError(104, "Connection reset by peer"), CLOSED),
    (aiohttp.ServerConnectionError("x"), CLOSED),
    (aiohttp.ServerDisconnectedError(), CLOSED),
    (aiohttp.ClientPayloadError("x"), CLOSED),
    (client_exceptions.UploadAbortedError("x"), CLOSED),
    (aiohttp.ClientConnectorError(KEY, NO_ROUTE), UNROUTED),
    (aiohttp.ClientConnectorDNSError(KEY, NO_ROUTE), UNROUTED),
    (aiohttp.ClientProxyConnectionError(KEY, NO_ROUTE), UNROUTED),
    (client_exceptions.UnixClientConnectorError("/run/x", KEY, NO_ROUTE), UNROUTED),
    (aiohttp.ClientSSLError(KEY, OSError()), TLS),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError()), TLS),
    (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError()), TLS),
    (aiohttp.ServerFingerprintMismatch(b"", b"", "hooks.example", 8080), TLS),
    (aiohttp.ServerTimeoutError(), LATE),
    (aiohttp.ConnectionTimeoutError(), LATE),
    (aiohttp.SocketTimeoutError(), LATE),
    (aiohttp.InvalidURL("bad url"), UNSENDABLE),
    (aiohttp.InvalidUrlClientError("bad url"), UNSENDABLE),
    (aiohttp.RedirectClientError("bad url"), UNSENDABLE),
    (aiohttp.NonHttpUrlClientError("bad url"), UNSENDABLE),
    (aiohttp.InvalidUrlRedirectClientError("bad url"), UNSENDABLE),
    (aiohttp.NonHttpUrlRedirectClientError("bad url"), UNSENDABLE),
]


def below(kind: type[aiohttp.ClientError]) -> set[type[aiohttp.ClientError]]:
    return {kind for direct in kind.__subclasses__() for kind in (direct, *below(direct))}


def test_no_error_of_aiohttp_is_unmapped() -> None:
    assert {type(error) for error, _ in MAPPED} == below(aiohttp.ClientError)


@pytest.mark.parametrize(("error", "outcome"), MAPPED, ids=lambda value: type(value).__name__)
def test_maps_each_error_of_aiohttp(error: aiohttp.ClientError, outcome: Outcome) -> None:
    assert outcome_of(error, URL_OF_NOBODY) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Unreachable("Connection refused by hooks.example:8080.")),
        (OSError(24, "Too many open files"), Unreachable("No connection to hooks.example:8080: Too many open files.")),
        (RuntimeError("unable to connect"), Unreachable("No connection to hooks.example:8080: unable to connect.")),
        (ConnectionResetError(), Unreachable("No connection to hooks.example:8080: it was closed at once.")),
        (UnicodeError("label too long"), RenderFailed("The request cannot be sent: label too long.")),
        (
            http_exceptions.LineTooLong("x", 1),
            BadResponse("What hooks.example:8080 answered is not valid HTTP: Got more than 1 bytes when reading: 'x'."),
        ),
    ],
)
def test_maps_the_systems_errors(error: Exception, outcome: Outcome) -> None:
    assert outcome_of(error, URL_OF_NOBODY) == outcome


def test_keeps_what_had_arrived_before_a_connection_broke() -> None:
    answer = Answer(200, (), b"half", body_truncated=True)
    for error in (
        aiohttp.ClientOSError(104, "reset"),
        RuntimeError("Connection closed."),
        aiohttp.ClientPayloadError(),
    ):
        assert outcome_of(error, URL_OF_NOBODY, answer) == BadResponse(CLOSED.error, answer)


def test_a_tls_alert_that_comes_after_the_handshake_is_a_tls_failure() -> None:
    error = aiohttp.ClientOSError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    error.__cause__ = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    error.__cause__.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert outcome_of(error, URL_OF_NOBODY) == TlsFailed(
        "TLS with hooks.example:8080 failed: tlsv13 alert certificate required."
    )


def test_a_foreign_message_is_cut_to_one_short_line() -> None:
    outcome = outcome_of(OSError(1, "first line.\nsecond line"), URL_OF_NOBODY)
    assert outcome == Unreachable("No connection to hooks.example:8080: first line.")
    long = outcome_of(OSError(1, "x" * 10_000), URL_OF_NOBODY).error
    assert long is not None and len(long) < 300


def test_an_error_that_is_a_defect_of_ours_is_raised() -> None:
    with pytest.raises(KeyError):
        outcome_of(KeyError("ours"), URL_OF_NOBODY)
