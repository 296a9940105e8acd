"""Streams: in order, at the reader's pace, with heartbeats, and closed by everything that ends them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from structlog.testing import capture_logs

from ringback.graphql_api.errors import unauthenticated_error
from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.sse import EVENT_STREAM
from ringback.graphql_api.transport.streaming import Responses, Stream, Streams
from tests.support.patience import PATIENCE_SECONDS

OPENING, CLOSING, HEARTBEAT = b":\n\n", b"event: complete\ndata:\n\n", b":\n\n"


def frame(number: int) -> bytes:
    return b'event: next\ndata: {"data":{"n":%d}}\n\n' % number


class Connection:
    """Fake server side of one request, whose client reads while `reads` is set."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.disconnected = asyncio.Event()
        self.messages: list[Any] = []

    async def receive(self) -> Any:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0)
        await self.reads.wait()
        self.messages.append(message)

    @property
    def chunks(self) -> list[bytes]:
        """The body messages, except the one that ends the response."""
        return [message["body"] for message in self.messages[1:] if message.get("more_body")]

    @property
    def ended(self) -> bool:
        return bool(self.messages[-1] == {"type": "http.response.body"})


class Source:
    """A source of responses that count up to `total`, or forever. Records its progress and whether it was closed."""

    def __init__(self, total: int | None = None, *, then: Exception | None = None) -> None:
        self.total, self.then = total, then
        self.given = 0
        self.started = self.closed = False

    async def responses(self) -> AsyncGenerator[ExecutionResponse, None]:
        self.started = True
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
    responses: Responses,
    streams: Streams | None = None,
    reauthenticate: Callable[[], Awaitable[None]] = allowed,
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        stream = Stream(EVENT_STREAM, responses, reauthenticate, streams or Streams())
        await stream(connection.receive, connection.send)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_all_responses_are_sent_and_the_stream_is_closed() -> None:
    connection, source = Connection(), Source(3)
    await run(connection, source.responses())
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


async def test_a_slow_reader_delays_only_its_own_source() -> None:
    slow, quick = Connection(), Connection()
    endless, short = Source(), Source(1_000)
    running = asyncio.create_task(run(slow, endless.responses()))
    await until(lambda: frame(10) in slow.chunks)
    slow.reads.clear()
    await asyncio.sleep(0)
    given = endless.given
    await run(quick, short.responses())
    assert short.given == 1_000
    assert endless.given <= given + 1
    assert len(slow.chunks) <= given + 1
    slow.reads.set()
    await until(lambda: frame(given + 100) in slow.chunks)
    slow.disconnected.set()
    await running
    assert slow.chunks[1 : given + 101] == [frame(number) for number in range(1, given + 101)]


async def test_a_disconnect_closes_the_source_at_once() -> None:
    connection, source = Connection(), Source(0)
    running = asyncio.create_task(run(connection, source.responses()))
    await until(lambda: source.started and connection.chunks == [OPENING])
    assert not source.closed
    connection.disconnected.set()
    await running
    assert source.closed
    assert CLOSING not in connection.chunks


async def test_a_disconnect_without_reading_closes_the_source() -> None:
    connection, source = Connection(), Source()
    running = asyncio.create_task(run(connection, source.responses()))
    await until(lambda: frame(3) in connection.chunks)
    connection.reads.clear()
    connection.disconnected.set()
    await until(lambda: source.closed)
    # A server drops messages that wait for a disconnected client.
    connection.reads.set()
    await running


async def test_heartbeats_are_sent_while_nothing_happens() -> None:
    connection, source = Connection(), Source(0)
    running = asyncio.create_task(run(connection, source.responses(), Streams(heartbeat_seconds=0.01)))
    await until(lambda: len(connection.chunks) >= 4)
    assert set(connection.chunks) == {HEARTBEAT}
    connection.disconnected.set()
    await running


async def test_no_heartbeats_pile_up_for_a_client_that_does_not_read() -> None:
    connection, source, checks = Connection(), Source(), list[None]()

    async def count_check() -> None:
        checks.append(None)

    running = asyncio.create_task(run(connection, source.responses(), Streams(heartbeat_seconds=0.01), count_check))
    await until(lambda: frame(3) in connection.chunks)
    connection.reads.clear()
    sent = list(connection.chunks)
    await until(lambda: len(checks) >= 3)
    connection.disconnected.set()
    connection.reads.set()
    await running
    assert HEARTBEAT not in connection.chunks[len(sent) :]


async def test_an_invalid_token_ends_the_stream_with_an_error() -> None:
    connection, source, checks = Connection(), Source(0), list[None]()

    async def revoked() -> None:
        checks.append(None)
        if len(checks) == 3:
            raise unauthenticated_error()

    await run(connection, source.responses(), Streams(heartbeat_seconds=0.01), revoked)
    *before, last = connection.chunks
    assert before == [OPENING, HEARTBEAT, HEARTBEAT]
    error = ExecutionResponse(None, (unauthenticated_error(),), executed=False)
    assert last == b"event: next\ndata: " + error.json + b"\n\n" + CLOSING
    assert (source.closed, connection.ended) == (True, True)


async def test_an_unexpected_error_is_masked_and_ends_the_stream() -> None:
    connection = Connection()
    with capture_logs() as logged:
        await run(connection, Source(1, then=RuntimeError("a secret")).responses())
    (line,) = logged
    assert line["action"] == "execute"
    opening, first, last, closing = connection.chunks
    assert (opening, first, closing) == (OPENING, frame(1), CLOSING)
    assert b"a secret" not in last
    assert b'"code":"INTERNAL","id":"%b"' % line["error_id"].encode() in last
    assert connection.ended


async def test_stopping_the_program_cuts_streams_off() -> None:
    """Without a closing event, clients assume a lost connection and subscribe again."""
    streams, connection, late = Streams(), Connection(), Connection()
    source, never = Source(0), Source(0)
    running = asyncio.create_task(run(connection, source.responses(), streams))
    await until(lambda: source.started)
    streams.end()
    await running
    assert (connection.chunks, connection.ended) == ([OPENING], True)
    assert source.closed
    await run(late, never.responses(), streams)
    assert (late.chunks, late.ended, never.started) == ([OPENING], True, False)


async def test_a_cancelled_request_closes_its_source() -> None:
    connection, source = Connection(), Source(0)
    running = asyncio.create_task(run(connection, source.responses()))
    await until(lambda: source.started)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert source.closed
