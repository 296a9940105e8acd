"""The pool: it keeps reusable connections, gives free slots in order, and closes connections that are old or broken."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from ringback.jobs.http import pool as pool_module
from ringback.jobs.http.connection import LONG_BODY_BYTES, HttpConnection
from ringback.jobs.http.dns import SystemLookup
from ringback.jobs.http.guarded_resolver import GuardedResolver
from ringback.jobs.http.pool import SETTLE_SECONDS, Pool
from ringback.jobs.http.response_reader import InvalidResponse
from tests.support.eventually import eventually
from tests.support.http_server import NO_AUTHORITIES, Server, answering, plain
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stopped import StoppedTime

#: A deadline that never passes.
LATER = float("inf")
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
OK = plain("200 OK", b"ok")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    opened = Pool(GuardedResolver(SystemLookup(), None), NO_AUTHORITIES, None, limit=2)
    yield opened
    await opened.close()


async def connect_and_send(pool: Pool, url: URL) -> HttpConnection:
    connection = await pool.connect(url.origin())
    await connection.send(REQUEST, None, LATER)
    return connection


def keep_alive_server() -> Server:
    return answering(OK, again=True)


@pytest.mark.usefixtures("_long_keep_alive")
async def test_a_full_pool_closes_the_longest_idle_connection(pool: Pool) -> None:
    async with (
        keep_alive_server().running() as first,
        keep_alive_server().running() as second,
        keep_alive_server().running() as third,
    ):
        for server in (first, second, third):
            pool.release(await connect_and_send(pool, server.url))
        await asyncio.sleep(SETTLE_SECONDS * 2)
        assert pool.take_idle(first.url.origin()) is None
        assert pool.take_idle(second.url.origin()) is not None
        assert pool.take_idle(third.url.origin()) is not None


async def test_waiting_requests_get_free_slots_in_order(pool: Pool) -> None:
    async with keep_alive_server().running() as server, keep_alive_server().running() as other:
        used = [await pool.connect(server.url.origin()) for _ in range(2)]
        turns: list[int] = []

        async def use(number: int) -> None:
            connection = await connect_and_send(pool, other.url)
            turns.append(number)
            pool.release(connection)

        waiting = [asyncio.create_task(use(number)) for number in range(4)]
        await asyncio.sleep(0.05)
        assert turns == []
        waiting.pop(0).cancel()
        for connection in used:
            pool.release(connection)
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_SECONDS)
        assert turns == [1, 2, 3]


async def test_a_connection_that_ends_while_in_use_frees_its_slot(pool: Pool) -> None:
    async with answering(b"").running() as server:
        for _ in range(3):
            connection = await pool.connect(server.url.origin())
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await connection.send(REQUEST, None, LATER)
    async with keep_alive_server().running() as server:
        await asyncio.wait_for(connect_and_send(pool, server.url), PATIENCE_SECONDS)


async def test_connections_idle_for_long_are_closed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "KEEP_ALIVE_SECONDS", 0.2)
    time = StoppedTime()
    monkeypatch.setattr(pool_module, "time", time)
    async with keep_alive_server().running() as server:
        first = await connect_and_send(pool, server.url)
        second = await connect_and_send(pool, server.url)
        pool.release(first)
        time.advance(0.15)
        pool.release(second)
        time.advance(0.1)
        await eventually(lambda: not first.is_connected())
        assert second.is_connected()
        time.advance(0.15)
        await eventually(lambda: not second.is_connected())


async def test_unsolicited_bytes_end_an_idle_connection(pool: Pool) -> None:
    async with answering(OK, plain("408 Request Timeout"), pause=0.05, again=True).running() as server:
        connection = await connect_and_send(pool, server.url)
        pool.release(connection)
        await eventually(lambda: connection.has_unsolicited_bytes)
        await asyncio.sleep(SETTLE_SECONDS * 2)
        assert pool.take_idle(server.url.origin()) is None
        assert not connection.is_connected()


async def test_bytes_before_the_request_count_as_the_response(pool: Pool) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with Server(greet).running() as server:
        connection = await pool.connect(server.url.origin())
        await eventually(lambda: connection.has_unsolicited_bytes)
        with pytest.raises(InvalidResponse, match="Bad status line"):
            await connection.send(REQUEST, None, LATER)


async def test_an_informational_response_alone_is_no_response(pool: Pool) -> None:
    async with answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").running() as server:
        connection = await pool.connect(server.url.origin())
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await connection.send(REQUEST, None, LATER)


async def test_trailers_are_ignored(pool: Pool) -> None:
    trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: late\r\n\r\n"
    async with answering(trailers, again=True).running() as server:
        connection = await connect_and_send(pool, server.url)
        assert (connection.response.headers, connection.response.body) == ([("Transfer-Encoding", "chunked")], b"ok")
        assert connection.is_reusable()


@pytest.mark.parametrize(
    ("answer", "body", "reusable"),
    [
        (OK, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", True),
        (OK + b"HTTP/1.1 200 OK\r\n", b"ok", False),
        (OK + plain("500 Error", b"more"), b"ok", False),
        (plain("200 OK", b"ok", b"Connection: close") + b"more", b"ok", False),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, b"ok", True),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"ok", True),
        (CHUNKED + b"2\nok\n0\n\n", b"ok", False),
        (CHUNKED + b"2\r\nok\n0\r\n\r\n", b"ok", False),
        (plain("200 OK", b"ok", b"Content-Length: 2"), b"ok", False),
        (plain("200 OK", b"", b"Content-Length: 0") + OK, b"", False),
        (OK + b"\x00", b"ok", False),
    ],
)
async def test_a_connection_is_reusable_if_nothing_follows_the_response(
    pool: Pool, answer: bytes, body: bytes, reusable: bool
) -> None:
    async with answering(answer, again=True).running() as server:
        connection = await pool.connect(server.url.origin())
        await connection.send(REQUEST, None, LATER)
        assert connection.response.body == body
        assert connection.response.status in (200, 204, 304)
        assert connection.is_reusable() is reusable


def server_with_responses(*answers: bytes) -> Server:
    """Return a server that sends these responses on one connection, with a pause at each `~`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await server.read_request(reader)
            for part in answer.split(b"~"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)

    server = Server(handle)
    return server


async def test_a_repeated_response_is_read_like_the_first(pool: Pool) -> None:
    other = plain("202 Accepted", b"later", b"X: y")
    answers = (OK, OK, other, OK, OK, b"HTTP/1.1 200 OK~" + OK[15:], OK, other, other)
    async with server_with_responses(*answers).running() as server:
        connection = await pool.connect(server.url.origin())
        for answer in answers:
            await connection.send(REQUEST, None, LATER)
            status, headers, body = (202, [("Content-Length", "5"), ("X", "y")], b"later")
            if answer != other:
                status, headers, body = (200, [("Content-Length", "2")], b"ok")
            assert (connection.response.status, connection.response.headers, connection.response.body) == (
                status,
                headers,
                body,
            )
            assert connection.is_reusable()


async def test_bytes_after_a_repeated_response_end_the_connection(pool: Pool) -> None:
    async with server_with_responses(OK, OK + b"~HTTP/1.1 500 Error", OK).running() as server:
        connection = await connect_and_send(pool, server.url)
        await connection.send(REQUEST, None, LATER)
        assert (connection.response.status, connection.response.body) == (200, b"ok")
        await eventually(lambda: not connection.is_reusable())


async def test_a_response_that_ends_at_close_makes_the_connection_unusable(pool: Pool) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\nok"
    async with server_with_responses(OK, endless).running() as server:
        connection = await connect_and_send(pool, server.url)
        await connection.send(REQUEST, None, LATER)
        assert (connection.response.status, connection.response.headers, connection.response.body) == (200, [], b"ok")
        assert not connection.is_reusable()


async def test_a_response_before_the_end_of_the_request_ends_the_connection(pool: Pool) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(plain("413 Content Too Large"))
        await asyncio.Event().wait()

    async with Server(refuse).running() as server:
        connection = await pool.connect(server.url.origin())
        # The endpoint reads no more, so the whole body can never be written.
        answer = connection.send(b"POST / HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n", b"x" * 30_000_000, LATER)
        await asyncio.wait_for(answer, PATIENCE_SECONDS)
        assert connection.response.status == 413
        assert not connection.is_reusable()
        assert LONG_BODY_BYTES < 30_000_000
