"""The pool must keep what can serve another request, give places away fairly, and close what is old or strange."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from ringback.jobs.http import pool as pool_module
from ringback.jobs.http.connection import LONG_BODY_BYTES, BadAnswer, Exchange
from ringback.jobs.http.dns import SystemLookup
from ringback.jobs.http.pool import SETTLE_SECONDS, GuardedResolver, Pool
from tests.support.eventually import eventually
from tests.support.http_server import NO_AUTHORITIES, Server, answering, plain
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stopped import StoppedTime

#: A deadline that never passes.
LATER = float("inf")
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
OK = plain("200 OK", b"ok")


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    opened = Pool(GuardedResolver(SystemLookup(), None), NO_AUTHORITIES, None, limit=2)
    yield opened
    await opened.close()


async def asked(pool: Pool, url: URL) -> Exchange:
    exchange = await pool.connect(url)
    await exchange.ask(REQUEST, None, LATER)
    return exchange


def kept() -> Server:
    return answering(OK, again=True)


@pytest.mark.usefixtures("_kept_for_long")
async def test_an_idle_connection_gives_its_place_to_another_endpoint(pool: Pool) -> None:
    async with kept().running() as first, kept().running() as second, kept().running() as third:
        for server in (first, second, third):
            pool.give_back(await asked(pool, server.url))
        await asyncio.sleep(SETTLE_SECONDS * 2)
        assert pool.idle(first.url) is None
        assert pool.idle(second.url) is not None
        assert pool.idle(third.url) is not None


async def test_whoever_waits_for_a_place_has_the_next_in_turn(pool: Pool) -> None:
    async with kept().running() as server, kept().running() as other:
        used = [await pool.connect(server.url) for _ in range(2)]
        turns: list[int] = []

        async def use(number: int) -> None:
            exchange = await asked(pool, other.url)
            turns.append(number)
            pool.give_back(exchange)

        waiting = [asyncio.create_task(use(number)) for number in range(4)]
        await asyncio.sleep(0.05)
        assert turns == []
        waiting.pop(0).cancel()
        for exchange in used:
            pool.give_back(exchange)
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_SECONDS)
        assert turns == [1, 2, 3]


async def test_a_connection_that_ends_while_it_is_used_frees_its_place(pool: Pool) -> None:
    async with answering(b"").running() as server:
        for _ in range(3):
            exchange = await pool.connect(server.url)
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await exchange.ask(REQUEST, None, LATER)
    async with kept().running() as server:
        await asyncio.wait_for(asked(pool, server.url), PATIENCE_SECONDS)


async def test_what_has_long_been_idle_is_closed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "KEEP_ALIVE_SECONDS", 0.2)
    time = StoppedTime()
    monkeypatch.setattr(pool_module, "time", time)
    async with kept().running() as server:
        first = await asked(pool, server.url)
        second = await asked(pool, server.url)
        pool.give_back(first)
        time.advance(0.15)
        pool.give_back(second)
        time.advance(0.1)
        await eventually(lambda: not first.is_connected())
        assert second.is_connected()
        time.advance(0.15)
        await eventually(lambda: not second.is_connected())


async def test_what_nobody_asked_for_ends_an_idle_connection(pool: Pool) -> None:
    async with answering(OK, plain("408 Request Timeout"), pause=0.05, again=True).running() as server:
        exchange = await asked(pool, server.url)
        pool.give_back(exchange)
        await eventually(lambda: not exchange.is_quiet())
        await asyncio.sleep(SETTLE_SECONDS * 2)
        assert pool.idle(server.url) is None
        assert not exchange.is_connected()


async def test_what_an_endpoint_says_before_it_is_asked_is_its_answer(pool: Pool) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with Server(greet).running() as server:
        exchange = await pool.connect(server.url)
        await eventually(lambda: not exchange.is_quiet())
        with pytest.raises(BadAnswer, match="Bad status line"):
            await exchange.ask(REQUEST, None, LATER)


async def test_a_header_without_end_is_given_up(pool: Pool) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nX: ", *[b"y" * 10_000] * 8, close=False).running() as server:
        exchange = await pool.connect(server.url)
        with pytest.raises(BadAnswer, match="Its headers do not end within 64 KiB"):
            await asyncio.wait_for(exchange.ask(REQUEST, None, LATER), PATIENCE_SECONDS)


async def test_an_informational_answer_alone_is_no_answer(pool: Pool) -> None:
    async with answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").running() as server:
        exchange = await pool.connect(server.url)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await exchange.ask(REQUEST, None, LATER)


async def test_headers_after_the_body_are_left_out(pool: Pool) -> None:
    trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: late\r\n\r\n"
    async with answering(trailers, again=True).running() as server:
        exchange = await asked(pool, server.url)
        assert (exchange.headers, exchange.body) == ([("Transfer-Encoding", "chunked")], b"ok")
        assert exchange.is_reusable()


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
    ],
)
async def test_says_whether_it_can_serve_another_request(
    pool: Pool, answer: bytes, body: bytes, reusable: bool
) -> None:
    async with answering(answer, again=True).running() as server:
        exchange = await pool.connect(server.url)
        await exchange.ask(REQUEST, None, LATER)
        assert exchange.body == body
        assert exchange.status in (200, 204, 304)
        assert exchange.is_reusable() is reusable


def one_by_one(*answers: bytes) -> Server:
    """Return a server that gives these answers on one connection, a moment between the parts of each."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await server.read_request(reader)
            for part in answer.split(b"~"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)

    server = Server(handle)
    return server


async def test_an_answer_that_is_the_same_again_means_the_same(pool: Pool) -> None:
    other = plain("202 Accepted", b"later", b"X: y")
    answers = (OK, OK, other, OK, OK, b"HTTP/1.1 200 OK~" + OK[15:], OK, other, other)
    async with one_by_one(*answers).running() as server:
        exchange = await pool.connect(server.url)
        for answer in answers:
            await exchange.ask(REQUEST, None, LATER)
            status, headers, body = (202, [("Content-Length", "5"), ("X", "y")], b"later")
            if answer != other:
                status, headers, body = (200, [("Content-Length", "2")], b"ok")
            assert (exchange.status, exchange.headers, exchange.body) == (status, headers, body)
            assert exchange.is_reusable()


async def test_what_follows_an_answer_that_is_the_same_again_ends_the_connection(pool: Pool) -> None:
    async with one_by_one(OK, OK + b"~HTTP/1.1 500 Error", OK).running() as server:
        exchange = await asked(pool, server.url)
        await exchange.ask(REQUEST, None, LATER)
        assert (exchange.status, exchange.body) == (200, b"ok")
        await eventually(lambda: not exchange.is_reusable())


async def test_an_answer_that_ends_with_the_connection_is_never_taken_for_a_whole_one(pool: Pool) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\nok"
    async with one_by_one(OK, endless).running() as server:
        exchange = await asked(pool, server.url)
        await exchange.ask(REQUEST, None, LATER)
        assert (exchange.status, exchange.headers, exchange.body) == (200, [], b"ok")
        assert not exchange.is_reusable()


async def test_an_answer_that_comes_before_the_request_was_read_ends_the_connection(pool: Pool) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(plain("413 Content Too Large"))
        await asyncio.Event().wait()

    async with Server(refuse).running() as server:
        exchange = await pool.connect(server.url)
        # The endpoint reads no more, so the whole body can never be written.
        answer = exchange.ask(b"POST / HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n", b"x" * 30_000_000, LATER)
        await asyncio.wait_for(answer, PATIENCE_SECONDS)
        assert exchange.status == 413
        assert not exchange.is_reusable()
        assert LONG_BODY_BYTES < 30_000_000
