"""uvicorn's WebSocket protocol, hardened against peers that do not read, do not answer, or send floods of tiny frames.

uvicorn closes a connection only after the peer has read everything written to it, so a peer that reads nothing keeps
its connection open and delays the shutdown. Here such connections are aborted after a timeout.
"""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

#: A read longer than this ends the connection's turn: uvloop reads up to 32 × 256,000 bytes in one turn, and handling
#: that many empty frames took 3 s.
LONG_READ_BYTES = 16_384
#: Seconds that a peer has to read its close frame while the program stops; less than the server's grace period.
SHUTDOWN_SECONDS = 1.0


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection of uvicorn that always closes in time and shares the event loop fairly."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._abort_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the abort timer."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle frames. After a long read, read on in the next turn of the event loop."""
        super().data_received(data)
        if len(data) > LONG_READ_BYTES and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_soon(self._resume_reading)

    def _resume_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        """Store a fragment. Empty ones are skipped, because the size limit would not bound their number."""
        if event.data or event.fin:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Pass a message on. Invalid UTF-8 closes with 1007, without the traceback that uvicorn logs."""
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:
            self.frames = []
            self._fail(CloseCode.INVALID_DATA, "the text is not UTF-8")
        else:
            super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        """Close the connection of a peer that does not answer pings. Clients reconnect after 1001, not after 1011."""
        self._fail(CloseCode.GOING_AWAY, "no answer to a ping")

    def _fail(self, code: CloseCode, reason: str) -> None:
        if not self.close_sent and not self.transport.is_closing():
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
        """Run the application, then close the connection within the close timeout."""
        await super().run_asgi()
        self._abort_after(self.close_timeout)

    def _abort_after(self, seconds: float) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if self in self.connections:
            self._abort_timer = self.loop.call_later(seconds, self.transport.abort)
