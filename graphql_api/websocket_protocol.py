"""uvicorn's WebSocket protocol, hardened against peers that do not read, do not answer, or send floods of tiny frames.

uvicorn closes a connection only after the peer has read everything written to it, so a peer that reads nothing keeps
its connection open and delays the shutdown. Here such connections are aborted after a timeout.
"""

import asyncio
import logging
import sys
from collections import deque
from http import HTTPStatus
from typing import Any, cast

from starlette.types import Scope
from uvicorn import Config
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, WebSocketResponseStartEvent, WebSocketSendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ringback.graphql_api.listener.byte_budget import UNCOUNTED_UNREAD_BYTES, add_budget
from ringback.graphql_api.listener.client_slots import ClientSlot, add_slot
from ringback.graphql_api.listener.config import ListenerConfig
from ringback.graphql_api.listener.refusals import Refusal

#: A read longer than this ends the connection's turn: uvloop reads up to 32 × 256,000 bytes in one turn, and handling
#: that many empty frames took 3 s.
LONG_READ_BYTES = 16_384
#: Bytes that are parsed before reading can pause: an empty message takes 6 bytes, and 190 once it is parsed.
PIECE_BYTES = 1_024
#: Seconds that a peer has to read its close frame while the program stops; less than the server's grace period.
SHUTDOWN_SECONDS = 1.0
#: The longest message that a client can send before connection_init, in bytes.
MAX_UNAUTHENTICATED_BYTES = 65_536
#: Times its length that a message takes in memory while it waits for the peer to read: the application keeps the
#: response too.
MESSAGE_COPIES = 6

_INVALID = Refusal(400, "The WebSocket handshake is invalid. Send it without a body.")


class _Connection(ServerProtocol):
    """A connection whose refusals have the headers of every response, which uvicorn adds only when it accepts."""

    def __init__(self, config: Config) -> None:
        super().__init__(max_size=config.ws_max_size, logger=logging.getLogger("uvicorn.error"))
        self._default_headers = config.headers

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        """Return the response that refuses the handshake."""
        response = super().reject(status, text)
        for name, value in self._default_headers:
            response.headers[name] = value
        return response


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection of uvicorn that always closes in time and shares the event loop fairly."""

    def __init__(
        self,
        config: ListenerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Connection(config)
        self._abort_timer: asyncio.TimerHandle | None = None
        self._guard = config.guard
        self._slot: ClientSlot | None = None
        self._max_message_bytes = config.ws_max_size
        #: Bytes received while messages wait for the application.
        self._unparsed = bytearray()
        #: Bytes of memory of each message in the queue.
        self._queued_sizes: deque[int] = deque()
        #: The fragments of an incomplete message, after the second one arrived.
        self._fragments = bytearray()
        #: Since when a message has been incomplete, by the loop's clock.
        self._incomplete_since: float | None = None
        #: The answers to the latest pings, while the peer does not read.
        self._pongs = b""
        #: Bytes of memory of messages that wait for the peer to read those before them.
        self._waiting_bytes = 0
        self.conn.max_message_size = min(MAX_UNAUTHENTICATED_BYTES, config.ws_max_size)

    def take_slot(self, slot: ClientSlot | None) -> None:
        """Take over the slot of the HTTP connection, whose request was the handshake."""
        self._slot = slot
        if not self.handshake_initiated:
            # websockets has refused the request, and uvicorn leaves the response unsent and the connection open.
            # There is no response to a handshake with a body.
            response = b"".join(self.conn.data_to_send())
            self.transport.write(response or _INVALID.write(self.default_headers))
            self.transport.close()
        elif not self.close_sent:
            scope = cast(Scope, self.scope)
            add_slot(scope, self)
            add_budget(scope, self._guard.budget)

    def exempt(self) -> None:
        """Stop counting the connection for its client, and accept long messages: its token was checked."""
        self.conn.max_message_size = self._max_message_bytes
        if self._slot is not None:
            self._slot.exempt()

    def count_again(self) -> None:
        """Count the connection for its client while it closes, because it no longer counts for its token."""
        if self._slot is not None and self in self.connections:
            self._slot.count_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the abort timer, and release what the connection holds."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._guard.budget.release(self)
        if self._slot is not None:
            self._slot.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle frames. After a long read, read on in the next turn of the event loop."""
        self._unparsed += data
        self._parse()
        held_bytes = self.count_held_bytes()
        if held_bytes > 0:
            self._guard.budget.hold(self, held_bytes)
        if len(data) > LONG_READ_BYTES and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_soon(self._resume_reading)

    def _parse(self) -> None:
        """Parse until there is a message for the application. Drop the rest if the connection closes."""
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece = bytes(self._unparsed[:PIECE_BYTES])
            del self._unparsed[:PIECE_BYTES]
            super().data_received(piece)
        if self.transport.is_closing():
            self._unparsed.clear()

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message. After the last one that is parsed, parse on."""
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._queued_sizes.popleft()
        self._parse()
        if self.count_held_bytes() == 0:
            self._guard.budget.release(self)
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message. A response that refuses the handshake has the headers of every response, too."""
        if message["type"] == "websocket.http.response.start":
            headers = [*message["headers"], *self.config.encoded_headers]
            message = WebSocketResponseStartEvent(type=message["type"], status=message["status"], headers=headers)
        if self.writable.is_set() or message["type"] != "websocket.send":
            await super().send(message)
        else:
            await self._send_later(message)
        if self.transport.get_write_buffer_size() > UNCOUNTED_UNREAD_BYTES:
            self._guard.budget.hold(self, self.count_held_bytes())

    async def _send_later(self, message: WebSocketSendEvent) -> None:
        """Send a message once the peer reads. Count it until then."""
        waiting_bytes = MESSAGE_COPIES * len(message.get("text") or "")
        self._waiting_bytes += waiting_bytes
        self._guard.budget.hold(self, self.count_held_bytes())
        try:
            await super().send(message)
        finally:
            self._waiting_bytes -= waiting_bytes

    def _resume_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def check_time(self, now: float) -> None:
        """Close the connection if the rest of a message does not arrive. Count what the peer has not read."""
        if self.transport.get_write_buffer_size() > 0:
            self._guard.budget.hold(self, self.count_held_bytes())
        if self.read_paused or self._count_unread_bytes() == 0:
            self._incomplete_since = None
        elif self._incomplete_since is None:
            self._incomplete_since = now
        elif now >= self._incomplete_since + self._guard.limits.body_seconds:
            self._fail(CloseCode.POLICY_VIOLATION, "the message did not arrive in time")

    def count_held_bytes(self) -> int:
        """Return the bytes of messages that are incomplete, or wait to be parsed, taken by the application or read."""
        unsent_bytes = self._count_unsent_bytes()
        if unsent_bytes <= UNCOUNTED_UNREAD_BYTES:
            unsent_bytes = 0
        return self._count_unread_bytes() + sum(self._queued_sizes) + unsent_bytes

    def _count_unsent_bytes(self) -> int:
        """Return the bytes that the peer has not read."""
        return self.transport.get_write_buffer_size() + self._waiting_bytes

    def _count_unread_bytes(self) -> int:
        """Return the bytes of an incomplete message, and those that wait to be parsed."""
        incomplete_bytes = len(self.conn.reader.buffer) + len(self._fragments) + sum(map(len, self.frames))
        return len(self._unparsed) + incomplete_bytes

    def free_held_bytes(self) -> bool:
        """Close the connection, whose messages are incomplete or wait. Abort it if the peer has not read them."""
        self._drop_queued_messages()
        if self._count_unsent_bytes() > UNCOUNTED_UNREAD_BYTES:
            self.transport.abort()
        self._fail(CloseCode.TRY_AGAIN_LATER, "the server holds too many bytes")
        self._unparsed.clear()
        self.frames = []
        self._fragments.clear()
        return True

    def handle_connect(self, event: Request) -> None:
        """Start the application. Only its scope has the head of the handshake."""
        super().handle_connect(event)
        del self.request

    def _drop_queued_messages(self) -> None:
        self._queued_sizes.clear()
        for _ in range(self.queue.qsize()):
            event = self.queue.get_nowait()
            if event["type"] != "websocket.receive":
                self.queue.put_nowait(event)

    def handle_text(self, event: Frame) -> None:
        """Handle a text frame, and take its data out: websockets keeps the last frame of each connection."""
        super().handle_text(event)
        event.data = b""

    def handle_bytes(self, event: Frame) -> None:
        """Handle a binary frame in the same way."""
        super().handle_bytes(event)
        event.data = b""

    def handle_cont(self, event: Frame) -> None:
        """Add a fragment to those before it: a list of tiny fragments takes many times their size."""
        for first in self.frames:
            self._fragments += first
        self._fragments += event.data
        event.data = b""
        self.frames = []
        if event.fin:
            self.frames = [bytes(self._fragments)]
            self._fragments.clear()
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Pass a message on. Invalid UTF-8 closes with 1007, without the traceback that uvicorn logs."""
        self._incomplete_since = None
        message = b"".join(self.frames)
        size = len(message)
        try:
            if self.curr_msg_data_type == "text":
                # Text takes up to four bytes for a character that is one byte of UTF-8.
                size = sys.getsizeof(message.decode())
        except UnicodeDecodeError:
            self.frames = []
            self._fail(CloseCode.INVALID_DATA, "the text is not UTF-8")
        else:
            super().send_receive_event_to_app()
            if not self.close_sent:
                self._queued_sizes.append(size)

    def handle_ping(self) -> None:
        """Answer pings. While the peer does not read, keep the answers to the latest only (RFC 6455, 5.5.3)."""
        pongs = b"".join(self.conn.data_to_send())
        if self.writable.is_set() or self.conn.close_rcvd is not None:
            self.transport.write(pongs)
        elif pongs:
            self._pongs = pongs

    def resume_writing(self) -> None:
        """Send the pongs that waited for the peer to read."""
        super().resume_writing()
        # A peer that reads is the last to make room.
        self._guard.budget.release(self)
        self.transport.write(self._pongs)
        self._pongs = b""

    def keepalive_timeout(self) -> None:
        """Close the connection of a peer that does not answer pings. Clients reconnect after 1001, not after 1011."""
        self._fail(CloseCode.GOING_AWAY, "no answer to a ping")

    def _fail(self, code: CloseCode, reason: str) -> None:
        if not self.handshake_complete:
            self.transport.abort()
        elif not self.close_sent and not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Close a failed connection, and abort it if the peer does not read."""
        super().handle_parser_exception()
        self._abort_after(self.close_timeout)

    def shutdown(self) -> None:
        """Close the connection because the program is stopping."""
        super().shutdown()
        self._abort_after(SHUTDOWN_SECONDS)

    async def run_asgi(self) -> None:
        """Run the application, then drop messages it has not read, and close within the close timeout."""
        await super().run_asgi()
        self.queue = asyncio.Queue()
        self._queued_sizes.clear()
        self._parse()
        self._abort_after(self.close_timeout)

    def _abort_after(self, seconds: float) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if self in self.connections:
            self._abort_timer = self.loop.call_later(seconds, self.transport.abort)
