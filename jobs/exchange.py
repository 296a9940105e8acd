"""One request and its answer, on a connection of aiohttp's pool: what goes out is made here, and written in one piece.

aiohttp's client makes a request object, a task that writes the body and a response object for each exchange, which
take as much time as all that a delivery does besides. Here its pool (names, addresses, TLS, kept-alive connections) and
its parser do their work, and nothing stands around them: no cookies, no proxies, no redirects, no decoding, and no
second try when a connection breaks.
"""

import asyncio
import contextlib
from functools import lru_cache
from typing import TypeAlias

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.streams import StreamReader
from yarl import URL

Headers: TypeAlias = tuple[tuple[str, str], ...]

#: Headers that go out although the caller did not give them, besides Host and Content-Length.
AUTOMATIC_HEADERS = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"))
#: Bytes of a request body from which it is written in pieces, between which others run.
LONG_BODY_BYTES = 256 * 1024
#: Bytes of an answer's body that are buffered before the endpoint is made to wait.
READ_BUFFER_BYTES = 32 * 1024
#: Methods whose requests say nothing of a body that they do not have (RFC 9110, section 8.6).
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


class Pool:
    """Kept-alive connections to all endpoints, made, used and closed on one loop."""

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._connector = connector
        self._loop = asyncio.get_running_loop()
        self._endpoints = lru_cache(4_096)(self._endpoint)

    async def connect(self, url: URL) -> Connection:
        """A connection to the endpoint of a URL; raises what aiohttp and the system raise.

        Release it when the answer was read to its end, and close it otherwise.
        """
        return await self._connector.connect(self._endpoints(url), [], _NO_TIMEOUT)

    async def close(self) -> None:
        """Close all connections, those in use as well."""
        await self._connector.close()

    def _endpoint(self, url: URL) -> aiohttp.ClientRequest:
        """What the connector knows an endpoint by; nothing of it is sent."""
        return aiohttp.ClientRequest("GET", url, loop=self._loop)


def sent_headers(method: str, url: URL, headers: Headers, body: bytes | None) -> Headers:
    """The headers that go out with a request: those given, and what they lack."""
    given = {name.lower() for name, _ in headers}
    automatic = (("Host", url.host_port_subcomponent or ""), *AUTOMATIC_HEADERS)
    before = [(name, value) for name, value in automatic if name.lower() not in given]
    length = [] if body is None and method in _BODILESS else [("Content-Length", str(len(body or b"")))]
    return (*before, *headers, *length)


def write(
    connection: Connection, method: str, url: URL, headers: Headers, body: bytes | None
) -> asyncio.Task[None] | None:
    """Write a request with exactly these headers; returns the task that goes on to write a long body."""
    protocol = _protocol(connection)
    protocol.set_response_params(
        skip_payload=method == "HEAD", read_until_eof=True, auto_decompress=False, read_bufsize=READ_BUFFER_BYTES
    )
    transport = connection.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ServerDisconnectedError
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    head = f"{method} {url.raw_path_qs} HTTP/1.1\r\n{lines}\r\n".encode()
    if body is None or len(body) <= LONG_BODY_BYTES:
        transport.write(head + body if body else head)
        return None
    transport.write(head)
    return asyncio.create_task(_write_pieces(StreamWriter(protocol, asyncio.get_running_loop()), body))


async def _write_pieces(writer: StreamWriter, body: bytes) -> None:
    # An endpoint that went away says so to whoever reads its answer.
    with contextlib.suppress(ConnectionError, aiohttp.ClientConnectionError):
        for start in range(0, len(body), LONG_BODY_BYTES):
            await writer.write(body[start : start + LONG_BODY_BYTES])
            await writer.drain()


async def read_head(connection: Connection) -> tuple[RawResponseMessage, StreamReader]:
    """Status and headers of the answer, and where its body comes from; informational answers are passed over."""
    while True:
        message, body = await _protocol(connection).read()
        if not 100 <= message.code <= 199 or message.code == 101:
            return message, body


def _protocol(connection: Connection) -> ResponseHandler:
    protocol = connection.protocol
    if protocol is None:
        raise aiohttp.ServerDisconnectedError
    return protocol
