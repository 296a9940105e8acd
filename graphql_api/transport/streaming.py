"""Streamed responses, for clients without a WebSocket.

A stream takes the next response only after the previous one is sent, so a slow reader delays only itself, and the
subscription bounds how much waits for it. A stream ends when its subscription ends, the client disconnects, its token
becomes invalid, or the program stops. In the last case it is cut off, so that clients subscribe again.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from starlette.types import Receive, Send

from ringback.graphql_api.errors import to_graphql_error
from ringback.graphql_api.execution.engine import ExecutionResponse, error_response
from ringback.graphql_api.transport.responses import COMMON_HEADERS

#: Seconds between heartbeats: proxies close connections that are silent for longer. Each also checks the token.
HEARTBEAT_SECONDS = 12.0
#: Without it, nginx buffers responses that it proxies.
_UNBUFFERED = ((b"x-accel-buffering", b"no"),)

Responses = AsyncGenerator[ExecutionResponse, None]


@dataclass(frozen=True, slots=True)
class Framing:
    """The encoding of responses as the bytes of a stream."""

    content_type: bytes
    frame: Callable[[ExecutionResponse], bytes]
    opening: bytes
    heartbeat: bytes
    closing: bytes


class Streams:
    """The open streams of the program."""

    def __init__(self, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self._open: set[asyncio.Task[None]] = set()
        self._ended = False

    def add(self, sending: "asyncio.Task[None]") -> None:
        """Register the task that sends a stream, so that `end` cancels it."""
        self._open.add(sending)
        sending.add_done_callback(self._open.discard)
        if self._ended:
            sending.cancel()

    def end(self) -> None:
        """Cut off all streams, and every stream added later: the program is stopping."""
        self._ended = True
        for sending in self._open:
            sending.cancel()


@dataclass(slots=True)
class Stream:
    """A streamed response. `reauthenticate` raises once the client's token is no longer valid."""

    framing: Framing
    responses: Responses
    reauthenticate: Callable[[], Awaitable[None]]
    streams: Streams
    #: Counts a subscription's connection for its token. None for a single response, which counts for its address.
    connection: ExitStack | None = None
    _sending: bool = False

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Send the stream until it ends."""
        headers = [(b"content-type", self.framing.content_type), *COMMON_HEADERS, *_UNBUFFERED]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _write(send, self.framing.opening)
        sending = asyncio.create_task(self._send_responses(send))
        disconnected = asyncio.create_task(_wait_for_disconnect(receive))
        self.streams.add(sending)
        final_error: ExecutionResponse | None = None
        try:
            final_error = await self._watch(sending, disconnected, send)
        finally:
            sending.cancel()
            disconnected.cancel()
            await asyncio.gather(sending, disconnected, return_exceptions=True)
        if final_error is not None:
            await _write(send, self.framing.frame(final_error) + self.framing.closing)
        await send({"type": "http.response.body"})

    async def _watch(
        self, sending: "asyncio.Task[None]", disconnected: "asyncio.Task[None]", send: Send
    ) -> ExecutionResponse | None:
        """Send heartbeats until the stream is over. Return an error if the token became invalid, else None."""
        while True:
            done, _ = await asyncio.wait(
                (sending, disconnected),
                timeout=self.streams.heartbeat_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done:
                return None
            try:
                await self.reauthenticate()
            except Exception as error:
                return error_response(to_graphql_error(error))
            if not self._sending:
                await _write(send, self.framing.heartbeat)

    async def _send_responses(self, send: Send) -> None:
        try:
            async with aclosing(self.responses) as responses:
                async for response in responses:
                    await self._send_frame(send, self.framing.frame(response))
                    del response  # which would stay in memory until the next one
        except Exception as error:
            await self._send_frame(send, self.framing.frame(error_response(to_graphql_error(error))))
        await self._send_frame(send, self.framing.closing)

    async def _send_frame(self, send: Send, frame: bytes) -> None:
        self._sending = True
        await _write(send, frame)
        self._sending = False


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
