"""The sender against real servers: responses that are not valid HTTP, incomplete, or over a limit."""

import asyncio
import socket

import pytest

from ringback.jobs.http.sender import Sender
from ringback.jobs.outcomes import BadResponse, HttpResponse
from tests.support.http_server import Server, answering
from tests.support.sending import outcome_from

NOT_HTTP = "127.0.0.1:{port} did not answer with valid HTTP: "


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
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2, 3\r\n\r\n", "Duplicate Content-Length."),
        (b"HTTP/1.1 200 OK\r\nContent-Length 1\r\n\r\n", "Invalid header token."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding\t: chunked\r\n\r\n", "Invalid header token."),
    ],
)
async def test_bytes_that_are_not_http_are_a_bad_response(sender: Sender, answer: bytes, reason: str) -> None:
    server = answering(answer, close=False)
    assert await outcome_from(sender, server) == BadResponse(NOT_HTTP.format(port=server.port) + reason)


async def test_an_invalid_chunk_keeps_the_part_of_the_body_before_it(sender: Sender) -> None:
    server = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", close=False)
    assert await outcome_from(sender, server) == BadResponse(
        NOT_HTTP.format(port=server.port) + "Invalid character in chunk size.",
        HttpResponse(200, (("Transfer-Encoding", "chunked"),), b"ok", body_truncated=True),
    )


async def test_101_is_a_bad_response(sender: Sender) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nframes"
    outcome = await outcome_from(sender, answering(switch, close=False))
    assert outcome == BadResponse(
        "The endpoint answered 101 Switching Protocols, which the request did not ask for.",
        HttpResponse(101, (("Upgrade", "websocket"), ("Connection", "Upgrade"))),
    )


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_a_connection_closed_within_the_headers_is_a_bad_response_without_a_retry(
    sender: Sender, method: str, answer: bytes
) -> None:
    server = answering(answer)
    outcome = await outcome_from(sender, server, method)
    assert outcome == BadResponse(f"127.0.0.1:{server.port} closed the connection before its response was complete.")
    assert len(server.requests) == server.connections == 1


@pytest.mark.parametrize(
    ("head", "header"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", ("Content-Length", "100")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", ("Transfer-Encoding", "chunked")),
    ],
)
async def test_a_body_that_ends_early_is_a_bad_response_with_its_first_part(
    sender: Sender, head: bytes, header: tuple[str, str]
) -> None:
    server = answering(head + b"half")
    assert await outcome_from(sender, server) == BadResponse(
        f"127.0.0.1:{server.port} closed the connection before its response was complete.",
        HttpResponse(200, (header,), b"half", body_truncated=True),
    )


async def test_a_reset_connection_is_a_bad_response(sender: Sender) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()

    server = Server(reset)
    outcome = await outcome_from(sender, server, "PUT")
    assert outcome == BadResponse(f"127.0.0.1:{server.port} closed the connection before its response was complete.")
    assert server.connections == 1
