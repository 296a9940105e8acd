"""The sender against real servers: all kinds of responses, and how much of them is stored."""

import asyncio
import gzip
import os
import zlib

import pytest

from ringback.jobs.http.response_reader import MAX_RESPONSE_BYTES
from ringback.jobs.http.sender import Sender
from ringback.jobs.outcomes import Delivered, HttpResponse, Rejected
from tests.support.http_server import Server, answering, plain
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sending import deliver, outcome_from


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_200_is_delivered(sender: Sender, method: str) -> None:
    server = answering(plain("200 OK", b"ok", b"X-Id: 7"))
    assert await outcome_from(sender, server, method) == Delivered(
        HttpResponse(200, (("Content-Length", "2"), ("X-Id", "7")), b"ok")
    )
    assert server.requests[0].startswith(method.encode() + b" /in?x=1 ")


@pytest.mark.parametrize("status", [201, 204, 400, 404, 429, 500, 503, 999])
async def test_any_other_status_is_rejected_with_its_answer(sender: Sender, status: int) -> None:
    outcome = await outcome_from(sender, answering(plain(f"{status} Whatever")))
    assert outcome == Rejected(
        HttpResponse(status, (("Content-Length", "0"),)), f"The endpoint answered {status}; only 200 counts as success."
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
    assert outcome == Delivered(HttpResponse(200, (("Content-Length", "2"),), b"ok"))


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
    assert outcome.response is not None
    assert (outcome.response.body, outcome.response.body_truncated) == (b"until the end", False)


@pytest.mark.parametrize(("length", "truncated"), [(MAX_RESPONSE_BYTES, False), (MAX_RESPONSE_BYTES + 1, True)])
async def test_keeps_64_kib_of_the_body(sender: Sender, length: int, truncated: bool) -> None:
    body = os.urandom(length)
    outcome = await outcome_from(sender, answering(plain("200 OK", body)))
    assert outcome == Delivered(
        HttpResponse(200, (("Content-Length", str(length)),), body[:MAX_RESPONSE_BYTES], body_truncated=truncated)
    )


@pytest.mark.parametrize("lines", [b"X: " + b"y" * 10_000, b"\r\n".join([b"X: y"] * 500), b"X: " + b"y" * 60_000])
async def test_headers_over_a_limit_are_cut_and_the_response_counts(sender: Sender, lines: bytes) -> None:
    async with answering(plain("200 OK", b"ok", lines), again=True).running() as server:
        sent = await deliver(sender, server.url)
    assert sent.outcome.name == "DELIVERED"
    assert sent.outcome.response is not None
    assert (sent.outcome.response.body, sent.outcome.response.body_truncated) == (b"ok", False)
    assert sent.outcome.response.headers_truncated


async def test_headers_without_end_are_cut_off_and_the_status_counts(sender: Sender) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nX: ", *[b"y" * 50_000] * 10, close=False).running() as server:
        sent = await deliver(sender, server.url)
    assert sent.outcome == Delivered(HttpResponse(200, (), b"", body_truncated=True, headers_truncated=True))


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
        await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)
    assert sent.outcome == Delivered(HttpResponse(200, (), b"x" * MAX_RESPONSE_BYTES, body_truncated=True))
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
        HttpResponse(200, (("Content-Length", str(len(encoded))), ("Content-Encoding", encoding)), b"plain text")
    )


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", b"\x8b\x02\x80"), ("gzip", b"no gzip"), ("deflate", b"xx no deflate"), ("gzip, gzip", b"twice")],
)
async def test_keeps_a_body_that_cannot_be_decoded_as_it_came(sender: Sender, encoding: str, body: bytes) -> None:
    outcome = await outcome_from(sender, answering(plain("200 OK", body, f"Content-Encoding: {encoding}".encode())))
    assert outcome.name == "DELIVERED"
    assert outcome.response is not None and outcome.response.body == body


async def test_a_gzip_bomb_is_decoded_to_64_kib_only(sender: Sender) -> None:
    bomb = gzip.compress(bytes(60_000_000))
    assert len(bomb) < MAX_RESPONSE_BYTES
    outcome = await outcome_from(sender, answering(plain("200 OK", bomb, b"Content-Encoding: gzip")))
    assert outcome.response is not None
    assert outcome.response.body == bytes(MAX_RESPONSE_BYTES)
    assert outcome.response.body_truncated


async def test_a_compressed_body_that_ends_early_is_marked_as_truncated(sender: Sender) -> None:
    half = gzip.compress(os.urandom(1_000))[:500]
    outcome = await outcome_from(sender, answering(plain("200 OK", half, b"Content-Encoding: gzip")))
    assert outcome.response is not None
    assert outcome.response.body_truncated
