"""Streams: in order, at the reader's pace, with signs of life, and gone with whatever ends them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from structlog.testing import capture_logs

from ringback.graphql_api.errors import unauthenticated
from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.sse import EVENT_STREAM
from ringback.graphql_api.transport.streaming import Answers, Stream, Streams
from tests.support.patience import PATIENCE_SECONDS

OPENING, CLOSING, HEARTBEAT = b":\n\n", b"event: complete\ndata:\n\n", b":\n\n"


def frame(number: int) -> bytes:
    return b'event: next\ndata: {"data":{"n":%d}}\n\n' % number


class Connection:
    """Stands in for the server's side of one request, whose client reads when it is told to."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.went = asyncio.Event()
        self.messages: list[Any] = []

    async def receive(self) -> Any:
        await self.went.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0)
        await self.reads.wait()
        self.messages.append(message)

    @property
    def chunks(self) -> list[bytes]:
        """Return all bodies that were sent after the head, except the one that ends the response."""
        return [message["body"] for message in self.messages[1:] if message.get("more_body")]

    @property
    def ended(self) -> bool:
        return bool(self.messages[-1] == {"type": "http.response.body"})


class Source:
    """Answers that count up, to an end or for ever; says how far it came and whether it was closed."""

    def __init__(self, total: int | None = None, *, then: Exception | None = None) -> None:
        self.total, self.then = total, then
        self.given = 0
        self.begun = self.closed = False

    async def answers(self) -> AsyncGenerator[ExecutionResponse, None]:
        self.begun = True
        try:
            while self.given != self.total:
                self.given += 1
                yield ExecutionResponse({"n": self.given})
            if self.then is not None:
                raise self.then
            if self.total is None or self.total == 0:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def allowed() -> None:
    """Accept the token."""


async def run(
    connection: Connection,
    answers: Answers,
    streams: Streams | None = None,
    reauthenticate: Callable[[], Awaitable[None]] = allowed,
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        stream = Stream(EVENT_STREAM, answers, reauthenticate, streams or Streams())
        await stream(connection.receive, connection.send)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_all_answers_and_the_end() -> None:
    connection, source = Connection(), Source(3)
    await run(connection, source.answers())
    assert connection.messages[0]["status"] == 200
    assert dict(connection.messages[0]["headers"]) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-store",
        b"access-control-allow-origin": b"*",
        b"vary": b"Accept",
        b"x-accel-buffering": b"no",
    }
    assert connection.chunks == [OPENING, frame(1), frame(2), frame(3), CLOSING]
    assert connection.ended
    assert source.closed


async def test_a_slow_reader_holds_up_its_own_source_only() -> None:
    slow, quick = Connection(), Connection()
    endless, short = Source(), Source(1_000)
    running = asyncio.create_task(run(slow, endless.answers()))
    await until(lambda: frame(10) in slow.chunks)
    slow.reads.clear()
    await asyncio.sleep(0)
    given = endless.given
    await run(quick, short.answers())
    assert short.given == 1_000
    assert endless.given <= given + 1
    assert len(slow.chunks) <= given + 1
    slow.reads.set()
    await until(lambda: frame(given + 100) in slow.chunks)
    slow.went.set()
    await running
    assert slow.chunks[1 : given + 101] == [frame(number) for number in range(1, given + 101)]


async def test_a_client_that_goes_ends_the_source_at_once() -> None:
    connection, source = Connection(), Source(0)
    running = asyncio.create_task(run(connection, source.answers()))
    await until(lambda: source.begun and connection.chunks == [OPENING])
    assert not source.closed
    connection.went.set()
    await running
    assert source.closed
    assert CLOSING not in connection.chunks


async def test_a_client_that_goes_without_reading_ends_the_source_too() -> None:
    connection, source = Connection(), Source()
    running = asyncio.create_task(run(connection, source.answers()))
    await until(lambda: frame(3) in connection.chunks)
    connection.reads.clear()
    connection.went.set()
    await until(lambda: source.closed)
    # A server lets go of what waits to be sent to a client that went.
    connection.reads.set()
    await running


async def test_silence_is_filled_with_signs_of_life() -> None:
    connection, source = Connection(), Source(0)
    running = asyncio.create_task(run(connection, source.answers(), Streams(heartbeat_seconds=0.01)))
    await until(lambda: len(connection.chunks) >= 4)
    assert set(connection.chunks) == {HEARTBEAT}
    connection.went.set()
    await running


async def test_nothing_piles_up_for_a_client_that_does_not_read() -> None:
    connection, source, looks = Connection(), Source(), list[None]()

    async def looked() -> None:
        looks.append(None)

    running = asyncio.create_task(run(connection, source.answers(), Streams(heartbeat_seconds=0.01), looked))
    await until(lambda: frame(3) in connection.chunks)
    connection.reads.clear()
    sent = list(connection.chunks)
    await until(lambda: len(looks) >= 3)
    connection.went.set()
    connection.reads.set()
    await running
    assert HEARTBEAT not in connection.chunks[len(sent) :]


async def test_a_token_that_is_valid_no_more_ends_the_stream() -> None:
    connection, source, looks = Connection(), Source(0), list[None]()

    async def revoked() -> None:
        looks.append(None)
        if len(looks) == 3:
            raise unauthenticated()

    await run(connection, source.answers(), Streams(heartbeat_seconds=0.01), revoked)
    *before, last = connection.chunks
    assert before == [OPENING, HEARTBEAT, HEARTBEAT]
    error = ExecutionResponse(None, (unauthenticated(),), executed=False)
    assert last == b"event: next\ndata: " + error.json + b"\n\n" + CLOSING
    assert (source.closed, connection.ended) == (True, True)


async def test_an_unexpected_error_is_masked_and_ends_the_stream() -> None:
    connection = Connection()
    with capture_logs() as logged:
        await run(connection, Source(1, then=RuntimeError("a secret")).answers())
    (line,) = logged
    assert line["action"] == "execute"
    opening, first, last, closing = connection.chunks
    assert (opening, first, closing) == (OPENING, frame(1), CLOSING)
    assert b"a secret" not in last
    assert b'"code":"INTERNAL","id":"%b"' % line["error_id"].encode() in last
    assert connection.ended


async def test_the_program_stops() -> None:
    """What is cut off has no closing: clients take it for a lost connection, and subscribe again."""
    streams, connection, late = Streams(), Connection(), Connection()
    source, never = Source(0), Source(0)
    running = asyncio.create_task(run(connection, source.answers(), streams))
    await until(lambda: source.begun)
    streams.end()
    await running
    assert (connection.chunks, connection.ended) == ([OPENING], True)
    assert source.closed
    await run(late, never.answers(), streams)
    assert (late.chunks, late.ended, never.begun) == ([OPENING], True, False)


async def test_a_server_that_gives_up_a_request_ends_its_source() -> None:
    connection, source = Connection(), Source(0)
    running = asyncio.create_task(run(connection, source.answers()))
    await until(lambda: source.begun)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert source.closed
