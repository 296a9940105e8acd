"""The HTTP protocol: what it holds for its clients, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.http_protocol import MAX_PIPELINED, STREAM_COPIES
from ringback.graphql_api.listener.byte_budget import ByteBudget, release_request
from ringback.graphql_api.listener.received_requests import HEADER_BYTES, REQUEST_BYTES
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE_SECONDS
from tests.support.websocket_client import serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MEBIBYTE = 1024 * 1024
BODY_BYTES = 60_000
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES + b"x" * BODY_BYTES
#: A header of 5 bytes, and a request with many of them.
HEADER = b"a:b\r\n"
GET_WITH_HEADERS = b"GET / HTTP/1.1\r\n" + HEADER * 90 + b"\r\n"


def head_bytes(*headers: bytes) -> int:
    """Return how much a waiting request for / with these headers counts, besides its body."""
    return REQUEST_BYTES + HEADER_BYTES * len(headers) + head_text_bytes(*headers)


def head_text_bytes(*headers: bytes) -> int:
    """Return the bytes of / and these headers."""
    return sum(len(header) + len(": \r\n") for header in headers) + len("/")


#: How much the requests count.
GET_HEADERS = (b"Hostx",)
POST_HEADERS = (b"Hostx", b"Content-Length60000")
GET_HELD = head_bytes(*GET_HEADERS)
POST_HELD = head_bytes(*POST_HEADERS) + BODY_BYTES
#: A running request whose client is gone.
ABANDONED_GET = REQUEST_BYTES + head_text_bytes(*GET_HEADERS)
HEADERS_HELD = head_bytes(*[b"ab"] * 90)


class Waiting:
    """An application that reads each body, then waits before it responds."""

    def __init__(self) -> None:
        self.may_respond = asyncio.Event()
        self.waiting = self.cancelled = self.responses = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        self.waiting += 1
        try:
            await self.may_respond.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        self.responses += 1
        await respond(send)


async def read_body(receive: Receive) -> None:
    """Read a body to its end."""
    while (await receive()).get("more_body"):
        pass


async def respond_early(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond without reading the body."""
    await respond(send)


async def respond(send: Send) -> None:
    """Send an empty response."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def connected(port: int, sent: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect, and send this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.close()


async def wait_until_held(budget: ByteBudget, expected: int) -> None:
    """Wait until the budget has this total."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while budget.total != expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("first", "heads"), [(GET, GET_HEADERS), (POST, POST_HEADERS)], ids=["waiting", "running"])
async def test_bodies_of_pipelined_requests_are_held(first: bytes, heads: tuple[bytes, ...]) -> None:
    """The head of the running one is not."""
    budget, app = ByteBudget(64 * 1024 * 1024), Waiting()
    sent = first + POST * 2 + GET

    async with serving(app, budget=budget) as port, connected(port, sent) as (reader, _):
        await wait_until_held(budget, sent.count(POST) * POST_HELD + sent.count(GET) * GET_HELD - head_bytes(*heads))
        app.may_respond.set()
        for _ in range(4):
            await reader.readuntil(b"\r\n\r\n")
        assert budget.total == 0


async def test_pipelined_requests_make_room_at_the_limit() -> None:
    budget, app = ByteBudget(300_000), Waiting()

    async with serving(app, budget=budget) as port, connected(port, GET + POST * 3 + GET) as (oldest, _):
        await wait_until_held(budget, 3 * POST_HELD + GET_HELD)
        async with connected(port, GET + POST * 3) as (newest, _):
            assert await oldest.read() == b""
            assert budget.total == 3 * POST_HELD + ABANDONED_GET
            app.may_respond.set()
            for _ in range(4):
                await newest.readuntil(b"\r\n\r\n")
    assert app.responses == 5


async def test_heads_of_pipelined_requests_make_room_at_the_limit() -> None:
    budget, app = ByteBudget(15 * HEADERS_HELD), Waiting()
    sent = GET_WITH_HEADERS * 10

    async with serving(app, budget=budget) as port, connected(port, sent) as (oldest, _):
        await wait_until_held(budget, 9 * HEADERS_HELD)
        async with connected(port, sent) as (newest, _):
            assert await oldest.read() == b""
            assert budget.total == 9 * HEADERS_HELD + REQUEST_BYTES + head_text_bytes(*[b"ab"] * 90)
            app.may_respond.set()
            for _ in range(10):
                await newest.readuntil(b"\r\n\r\n")


async def test_requests_before_a_refused_one_are_held() -> None:
    budget, app = ByteBudget(64 * MEBIBYTE), Waiting()
    sent = GET_WITH_HEADERS * (MAX_PIPELINED + 2)

    async with serving(app, budget=budget) as port, connected(port, sent) as (reader, _):
        await wait_until_held(budget, MAX_PIPELINED * HEADERS_HELD)
        app.may_respond.set()
        assert (await reader.read()).count(b"HTTP/1.1 200 ") == MAX_PIPELINED + 1
    assert budget.total == 0


async def test_headers_of_an_incomplete_head_are_held() -> None:
    budget, sent = ByteBudget(64 * MEBIBYTE), b"GET / HTTP/1.1\r\n" + HEADER * 90

    async with serving(respond_early, budget=budget) as port, connected(port, sent + b"c"):
        await wait_until_held(budget, len(sent + b"c") + 90 * HEADER_BYTES)


async def test_a_request_that_the_application_has_stored_is_not_held() -> None:
    """Only its own: a request after it waits."""
    budget, app = ByteBudget(64 * 1024 * 1024), Waiting()

    async def release_and_wait(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        release_request(scope)
        assert (scope["headers"], scope["query_string"]) == ([], b"")
        await app.may_respond.wait()
        await respond(send)

    async with serving(release_and_wait, budget=budget) as port, connected(port, POST * 3) as (reader, _):
        await wait_until_held(budget, 2 * POST_HELD)
        app.may_respond.set()
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
        assert budget.total == 0


async def test_an_endless_rest_of_a_body_closes_the_connection() -> None:
    """The response came before it, and the client can read that."""
    sent_bytes = 0

    async def send_rest(writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        while sent_bytes < 64 * MEBIBYTE:
            writer.write(b"1\r\nx\r\n" * 10_000)
            await writer.drain()
            sent_bytes += 60_000
        writer.write_eof()

    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(respond_early) as port, connected(port, head) as (reader, writer):
        response = await reader.readuntil(b"\r\n\r\n")
        sending = asyncio.create_task(send_rest(writer))
        assert await reader.read() == b""
        sending.cancel()

    assert response.startswith(b"HTTP/1.1 200 ")
    assert sent_bytes < 16 * MEBIBYTE


async def test_a_short_rest_of_a_body_keeps_the_connection() -> None:
    async with serving(respond_early) as port, connected(port, POST[:-BODY_BYTES]) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * BODY_BYTES + GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_is_released_after_its_client_is_gone_is_not_held() -> None:
    budget, has_read, is_over = ByteBudget(64 * 1024 * 1024), asyncio.Event(), asyncio.Event()

    async def release_late(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        has_read.set()
        await receive()
        await asyncio.sleep(0.05)
        release_request(scope)
        is_over.set()
        await respond(send)

    async with serving(release_late, budget=budget) as port:
        async with connected(port, POST) as (_, writer), asyncio.timeout(PATIENCE_SECONDS):
            await has_read.wait()
            writer.write(GET[:10])
            await wait_until_held(budget, BODY_BYTES + 10)
        await is_over.wait()
        assert budget.total == 0


async def test_a_request_is_held_until_it_ends_although_its_client_is_gone() -> None:
    budget, app = ByteBudget(64 * MEBIBYTE), Waiting()
    async with serving(app, budget=budget) as port:
        async with connected(port, GET):
            await eventually(lambda: app.waiting == 1)
        await wait_until_held(budget, ABANDONED_GET)

        app.may_respond.set()
        await wait_until_held(budget, 0)


async def test_requests_whose_clients_are_gone_are_cancelled_at_the_limit() -> None:
    budget, app = ByteBudget(3 * REQUEST_BYTES), Waiting()
    async with serving(app, budget=budget) as port:
        for _ in range(4):
            async with connected(port, GET):
                await eventually(lambda: app.waiting > 0)
        await eventually(lambda: app.cancelled > 0)
        assert budget.total <= 3 * REQUEST_BYTES


async def test_responses_that_are_not_read_make_room_at_the_limit() -> None:
    """The piece of a stream that waits for the client counts, too."""
    piece = b"x" * (8 * MEBIBYTE)
    budget = ByteBudget(64 * MEBIBYTE)

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving(stream, budget=budget) as port, connected(port, GET) as (oldest, _):
        await eventually(lambda: budget.total > STREAM_COPIES * len(piece))
        async with connected(port, GET) as (newest, _):
            await eventually(lambda: budget.total > 2 * STREAM_COPIES * len(piece))
            async with connected(port, GET):
                with suppress(ConnectionResetError):
                    assert len(await oldest.read()) < 2 * len(piece)
                assert len(await newest.read(2 * len(piece))) > 0
