"""Answers without an end: one response that goes on, for clients that have no WebSocket.

A stream takes the next answer only when the one before is with the network: who reads slowly holds up only itself, and
what waits for it is bounded by the subscription. It ends when the subscription does, when the client goes, when its
token is valid no more, and when the program stops; then it is cut off, so that clients subscribe again.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from starlette.types import Receive, Send

from ringback.graphql_api.errors import to_graphql_error
from ringback.graphql_api.execution.engine import ExecutionResponse, error_response
from ringback.graphql_api.transport.responses import SHARED

#: Between two signs of life, in seconds: proxies cut off what is silent for longer. The token is looked at then, too.
HEARTBEAT_SECONDS = 12.0
#: nginx keeps what it proxies until there is more of it, unless told otherwise.
_UNBUFFERED = ((b"x-accel-buffering", b"no"),)

Answers = AsyncGenerator[ExecutionResponse, None]


@dataclass(frozen=True, slots=True)
class Framing:
    """How answers become the bytes of a stream."""

    content_type: bytes
    frame: Callable[[ExecutionResponse], bytes]
    opening: bytes
    heartbeat: bytes
    closing: bytes


class Streams:
    """The streams under way."""

    def __init__(self, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self._under_way: set[asyncio.Task[None]] = set()
        self._ended = False

    def add(self, sending: "asyncio.Task[None]") -> None:
        """Have a stream cut off with the others."""
        self._under_way.add(sending)
        sending.add_done_callback(self._under_way.discard)
        if self._ended:
            sending.cancel()

    def end(self) -> None:
        """Cut off all streams, and those that begin from now on: the program stops."""
        self._ended = True
        for sending in self._under_way:
            sending.cancel()


@dataclass(slots=True)
class Stream:
    """One stream; `reauthenticate` raises when its client may get no more."""

    framing: Framing
    answers: Answers
    reauthenticate: Callable[[], Awaitable[None]]
    streams: Streams
    _sending: bool = False

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Send all of it."""
        headers = [(b"content-type", self.framing.content_type), *SHARED, *_UNBUFFERED]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _write(send, self.framing.opening)
        sending = asyncio.create_task(self._send_answers(send))
        gone = asyncio.create_task(_gone(receive))
        self.streams.add(sending)
        last: ExecutionResponse | None = None
        try:
            last = await self._watch(sending, gone, send)
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        if last is not None:
            await _write(send, self.framing.frame(last) + self.framing.closing)
        await send({"type": "http.response.body"})

    async def _watch(
        self, sending: "asyncio.Task[None]", gone: "asyncio.Task[None]", send: Send
    ) -> ExecutionResponse | None:
        """Give signs of life until there is nothing more to send; an answer that ends the stream before its time."""
        while True:
            done, _ = await asyncio.wait(
                (sending, gone), timeout=self.streams.heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return None
            try:
                await self.reauthenticate()
            except Exception as error:
                return error_response(to_graphql_error(error))
            if not self._sending:
                await _write(send, self.framing.heartbeat)

    async def _send_answers(self, send: Send) -> None:
        try:
            async with aclosing(self.answers) as answers:
                async for answer in answers:
                    await self._send_frame(send, self.framing.frame(answer))
        except Exception as error:
            await self._send_frame(send, self.framing.frame(error_response(to_graphql_error(error))))
        await self._send_frame(send, self.framing.closing)

    async def _send_frame(self, send: Send, frame: bytes) -> None:
        self._sending = True
        await _write(send, frame)
        self._sending = False


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
