"""WebSocket connections below the messages: uvicorn's protocol, whose connections always end with a code.

uvicorn closes the TCP connection at once when a frame is too long or malformed. While the client still sends, its
system then answers with a reset, and the client sees 1006 instead of the reason. Here the client's rest is read and
dropped until it hangs up too. And a peer that is gone, or reads nothing, is let go whatever it has not taken yet.
"""

import asyncio
from typing import Any

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

#: Bytes that are taken at a time: up to some hundred frames, a few milliseconds.
PIECE = 16_384
#: How long a peer may take to read that the program stops, in seconds; less than what the server gives to all.
SHUTDOWN_SECONDS = 1.0


class FramesProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol for WebSockets, for peers of any behaviour."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._failed = False
        self._pieces = bytearray()
        self._backlog = bytearray()
        self._abort_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection has ended."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of frames; many at once are taken piece by piece, with turns of others in between."""
        if self._backlog or len(data) > PIECE:
            if not self._backlog:
                self.loop.call_soon(self._take_some)
            self._backlog += data
            self._pause()
        else:
            self._take(data)

    def _take_some(self) -> None:
        piece = bytes(self._backlog[:PIECE])
        del self._backlog[:PIECE]
        if self not in self.connections:
            self._backlog.clear()
            return
        self._take(piece)
        if self._backlog:
            self.loop.call_soon(self._take_some)
        elif self.queue.empty():
            self._resume()

    def _take(self, data: bytes) -> None:
        if self._failed:
            return
        super().data_received(data)
        if self._failed and self.transport.can_write_eof():
            self.transport.write_eof()

    async def receive(self) -> ASGIReceiveEvent:
        """The next event; bytes are read again when all that were received are taken."""
        event = await self.queue.get()
        if self.queue.empty() and not self._backlog:
            self._resume()
        return event

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        """A further piece of a message; pieces can be empty and any number, so they are not kept one by one."""
        self._pieces += event.data
        if event.fin:
            self.frames.append(bytes(self._pieces))
            self._pieces.clear()
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """A whole message; text that is not UTF-8 fails the connection (RFC 6455, 8.1)."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self._fail(CloseCode.INVALID_DATA, "the text is not UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """A frame that is too long, or malformed; websockets has said so to the client already."""
        self._hang_up()

    def keepalive_timeout(self) -> None:
        """A peer that does not answer. 1001: one that comes back tries again, which it does not after 1011."""
        self.pong_timer = None
        if not self.close_sent and not self.transport.is_closing():
            self._fail(CloseCode.GOING_AWAY, "no answer to a ping")
            self.transport.close()

    def shutdown(self) -> None:
        """The program stops; peers that do not read do not hold it up."""
        super().shutdown()
        self.disconnected = True
        self.writable.set()
        self.close_timeout = SHUTDOWN_SECONDS
        self._abort_later()

    async def run_asgi(self) -> None:
        """Serve the connection; when that is over, the peer has some time to take what it was sent."""
        await super().run_asgi()
        self._abort_later()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self._hang_up()

    def _hang_up(self) -> None:
        """Send what tells the peer, and tell the application that it is gone."""
        self._failed = self.disconnected = self.close_sent = True
        self.stop_keepalive()
        closing = self.conn.close_sent
        assert closing is not None, "the connection has failed"
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.writable.set()
        self._resume()
        self._abort_later()
        # While there is this timer, uvicorn leaves the closing to it.
        self.close_timer = self._abort_timer

    def _abort_later(self) -> None:
        if self._abort_timer is None and self in self.connections:
            self._abort_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
