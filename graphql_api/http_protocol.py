"""uvicorn's HTTP protocol, with limits on what a client can send, hold back, and leave unread.

uvicorn limits neither the URL nor the headers, has no timeout but the one between two requests, and queues pipelined
requests without end; llhttp has no limits at all. h11, uvicorn's other parser, limits the size of headers only. So
these limits are here:

- URL, headers and trailers: their bytes and number, counted as they arrive, since llhttp reports only whole headers
- the time for the headers and the body of a request, and for reading a response
- the requests that wait for the response to an earlier one
- connections, in total and by client
- the bytes that all connections together make the program hold

Timeouts are checked once per second for all connections, because a timer for each request costs more.
"""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import Any, Final, cast

import httptools
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ringback.graphql_api.listener.byte_budget import RELEASE_REQUEST
from ringback.graphql_api.listener.client_slots import SLOTS, ClientSlot
from ringback.graphql_api.listener.config import ListenerConfig
from ringback.graphql_api.listener.http_limits import RequestRefused, count_header_bytes
from ringback.graphql_api.listener.read_progress import ReadProgress
from ringback.graphql_api.listener.refusals import Refusal
from ringback.graphql_api.websocket_protocol import WebSocketProtocol

#: Bytes that are parsed before the limits are checked again. uvloop reads up to 256,000 bytes at once.
PIECE_BYTES = 16_384
#: A single running request and unread responses up to this size do not count towards the bytes held.
UNCOUNTED_BYTES = 65_536
#: The longest rest of a body that is read after its response, so that the client reads the response.
MAX_DISCARDED_BYTES = 65_536
#: Requests that wait for the response to an earlier one on the same connection, at most.
MAX_PIPELINED = 16
#: Bytes that a waiting request counts besides its URL, headers and body, and that a header counts besides its text.
#: They take half as much memory, but leave gaps in it when they end.
REQUEST_BYTES, HEADER_BYTES = 6_000, 400
#: Seconds that a refused client has to read the response: closing at once could make its system discard it.
LINGER_SECONDS = 1.0

_INVALID = Refusal(400, "Invalid HTTP request received.")
_TWO_HOSTS = Refusal(400, "The request has more than one Host header. Send one.")
_PIPELINED = Refusal(429, f"More than {MAX_PIPELINED} requests on this connection wait for a response. Send fewer.")
_NO_CAPACITY = Refusal(503, "The server holds too many bytes (RINGBACK_HTTP_MAX_BUFFERED_BYTES). Try again later.")
_UNREAD = Refusal(408, "The response was not read within RINGBACK_HTTP_READ_SECONDS.")
_NO_SCOPE: Final = cast(HTTPScope, {})


class _Phase(Enum):
    """The next thing that a connection reads."""

    HEAD = auto()
    BODY = auto()
    #: A request that has not started.
    IDLE = auto()
    #: Nothing: the connection closes, or another protocol has it.
    ENDED = auto()


# Reading a member from its class takes Python 3.11 several times as long.
_HEAD, _BODY, _IDLE, _ENDED = _Phase


class HttpConnection(HttpToolsProtocol):
    """An HTTP connection of uvicorn within the limits of a guard."""

    def __init__(
        self,
        config: ListenerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._guard = config.guard
        self._limits = config.guard.limits
        self._slot: ClientSlot | None = None
        #: The request that is running. `cycle` is the newest one, which may wait for it.
        self._running: RequestResponseCycle | None = None
        self._phase = _HEAD
        #: When the phase must have ended, by the loop's clock.
        self._deadline: float | None = None
        #: Bytes received since the end of the last head, piece of a body, or request.
        self._unparsed_bytes = 0
        #: Bytes of the newest request: its body, and its head if it has waited. After its response, only those that are
        #: discarded.
        self._request_bytes = 0
        #: The same of each request before it that has no whole response, the oldest first.
        self._earlier_request_bytes: deque[int] = deque()
        self._reading = ReadProgress()
        # uvicorn sets these when a request starts.
        self.url = b""
        self.headers = []

    @property
    def _client_host(self) -> str | None:
        return self.client[0] if self.client else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a slot, or refuse the connection."""
        super().connection_made(cast(asyncio.Transport, transport))
        slot = self._guard.connections.take(self._client_host)
        if isinstance(slot, Refusal):
            self._guard.refusals.add(slot, self._client_host)
            self._phase = _ENDED
            self.transport.write(slot.write(self.server_state.default_headers))
            self.transport.close()
            return
        self._slot = slot
        self._deadline = self.loop.time() + self._limits.header_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection holds."""
        self._end_requests()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._guard.budget.release(self)
        if self._slot is not None:
            self._slot.release()

    def eof_received(self) -> None:
        """End the requests: uvloop closes the connection now, and calls `connection_lost` later."""
        self._end_requests()

    def data_received(self, data: bytes) -> None:
        """Parse data in pieces, and check the limits after each."""
        if self._phase is _ENDED:
            return
        self._unset_keepalive_if_required()
        if self._phase is _IDLE:
            self._start_phase(_HEAD)
        for start in range(0, len(data), PIECE_BYTES):
            self._parse(data[start : start + PIECE_BYTES])
            if self._phase is _ENDED:
                break
        if self._phase is _ENDED:
            if self._earlier_request_bytes:
                # Those before the refused request go on.
                self._guard.budget.hold(self, self.count_held_bytes())
        elif self._phase is not _IDLE:
            self._wait_for_rest()
        elif self._earlier_request_bytes or self._request_bytes > UNCOUNTED_BYTES:
            self._guard.budget.hold(self, self.count_held_bytes())
        elif self.cycle.response_complete:
            # The response was sent before the request ended, and the later data cancelled uvicorn's keep-alive timer.
            self._deadline = self.loop.time() + self.timeout_keep_alive

    def _parse(self, piece: bytes) -> None:
        self._unparsed_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
            if self._phase is not _IDLE:
                self._limits.check_head(len(self.url), len(self.headers), self._unparsed_bytes - len(self.url))
        except RequestRefused as error:
            self._refuse(error.refusal)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.refusal if isinstance(cause, RequestRefused) else _INVALID)
        except httptools.HttpParserUpgrade:
            self._upgrade()

    def _wait_for_rest(self) -> None:
        """Limit the time for the rest of a request. Read the rest of a body only when the application asks for it.

        After the response, discard the rest, and close the connection if it is long.
        """
        if self._phase is _BODY and self.cycle.response_complete and self._request_bytes > MAX_DISCARDED_BYTES:
            self._start_phase(_ENDED)
            self._linger()
            return
        self._guard.budget.hold(self, self.count_held_bytes())
        if self._phase is _ENDED:
            return
        if self._deadline is None:
            is_head = self._phase is _HEAD
            seconds = self._limits.header_seconds if is_head else self._limits.body_seconds
            self._deadline = self.loop.time() + seconds
        if self._phase is _BODY and not self.cycle.response_complete:
            self.flow.pause_reading()

    def on_message_begin(self) -> None:
        """Start a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._earlier_request_bytes.append(self._request_bytes)
        self._request_bytes = 0
        super().on_message_begin()
        self._phase = _HEAD

    def on_headers_complete(self) -> None:
        """Run the request unless it is over a limit."""
        header_bytes = 0
        if self._unparsed_bytes + PIECE_BYTES > self._limits.header_bytes:
            header_bytes = count_header_bytes(self.headers)
        self._limits.check_head(len(self.url), len(self.headers), header_bytes)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RequestRefused(_PIPELINED)
        if sum(name == b"host" for name, _ in self.headers) > 1:  # RFC 9112, 3.2
            raise RequestRefused(_TWO_HOSTS)
        super().on_headers_complete()
        if self.pipeline:
            text_bytes = len(self.url) + count_header_bytes(self.headers)
            self._request_bytes = REQUEST_BYTES + HEADER_BYTES * len(self.headers) + text_bytes
        self._start_phase(_BODY)
        self.scope["extensions"] = {SLOTS: {self._slot: None}, RELEASE_REQUEST: {"call": self._release_request}}
        if not self.parser.should_upgrade():
            # The cycle has them. Trailers must not look like headers to the application (RFC 9110, 6.5.1).
            self.url, self.headers, self.scope = b"", [], _NO_SCOPE

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Pass a piece of a body on."""
        self._unparsed_bytes = 0
        self._request_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next request."""
        super().on_message_complete()
        self._start_phase(_IDLE)

    def on_response_complete(self) -> None:
        """Release the request, and count the response until it is read."""
        if self._earlier_request_bytes:
            self._earlier_request_bytes.popleft()
        else:
            self._request_bytes = 0
        if self.cycle.response_complete:
            self.cycle.body.clear()
            # The connection may be idle for a while.
            self.cycle.scope = _NO_SCOPE
        super().on_response_complete()
        if self._phase is not _IDLE:
            # The deadline of the phase counts, and not the shorter time between requests.
            self._unset_keepalive_if_required()
        self._count_again()

    def _release_request(self) -> None:
        """Stop counting the running request."""
        if self._earlier_request_bytes:
            self._earlier_request_bytes[0] = 0
        else:
            self._request_bytes = 0
        if not self.transport.is_closing():
            self._count_again()

    def _count_again(self) -> None:
        held_bytes = self.count_held_bytes()
        if self._earlier_request_bytes or held_bytes > UNCOUNTED_BYTES or self._phase is not _IDLE:
            self._guard.budget.hold(self, held_bytes)
        else:
            self._guard.budget.release(self)

    def resume_writing(self) -> None:
        """Note that the client reads."""
        self._reading.note_read()
        super().resume_writing()

    def shutdown(self) -> None:
        """Close the connection after its response. Abort it if it was refused, or its client does not read a stream."""
        is_refused = self._phase is _ENDED and self._deadline is not None
        is_unread_stream = self.cycle is not None and self.cycle.chunked_encoding and self.flow.write_paused
        if is_refused or is_unread_stream:
            self.transport.abort()
        else:
            super().shutdown()

    def check_time(self, now: float) -> None:
        """End the connection if its client is too slow."""
        self._reading.update(self.transport.get_write_buffer_size(), now)
        if self._reading.is_stalled(now, self._limits.read_seconds):
            self._abort(_UNREAD)
        elif self.flow.write_paused:
            self._count_again()
        if self._deadline is None or now < self._deadline or self.transport.is_closing():
            return
        if self._phase is _ENDED:
            self.transport.abort()
        elif self._phase is _BODY:
            self._refuse(self._limits.refuse_late_body())
        elif self._phase is _HEAD and self._unparsed_bytes > 0:
            self._refuse(self._limits.refuse_late_headers())
        else:
            self.transport.close()

    def count_held_bytes(self) -> int:
        """Return the bytes held of requests that are incomplete, waiting or running, and of unread responses."""
        held_bytes = self._unparsed_bytes + HEADER_BYTES * len(self.headers)
        held_bytes += self.transport.get_write_buffer_size() + sum(self._earlier_request_bytes)
        if self.cycle is None or not self.cycle.response_complete:
            held_bytes += self._request_bytes
        return held_bytes

    def free_held_bytes(self) -> bool:
        """Refuse a request that the application has not read whole.

        Abort the connection if requests wait for an earlier one, or if the client does not read responses.
        """
        if self.pipeline:
            self._abort(_NO_CAPACITY)
            return True
        if self.transport.get_write_buffer_size() > UNCOUNTED_BYTES:
            is_stalled = self._reading.is_stalled(self.loop.time(), LINGER_SECONDS)
            if is_stalled:
                self._abort(_UNREAD)
            return is_stalled
        is_running = self._phase is _IDLE and not self.cycle.body
        if is_running or self._phase is _ENDED:
            return False
        self._refuse(_NO_CAPACITY)
        return True

    def _abort(self, refusal: Refusal) -> None:
        self._guard.refusals.add(refusal, self._client_host)
        self._start_phase(_ENDED)
        self._end_requests()
        self.transport.abort()

    def _end_requests(self) -> None:
        """Notify the application that the client is gone, and drop what it still sends: uvloop raises otherwise.

        The bodies go now, since a running request keeps the connection in memory.
        """
        self.pipeline.clear()
        self._earlier_request_bytes.clear()
        self._request_bytes = 0
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.body.clear()
                cycle.message_event.set()

    def _upgrade(self) -> None:
        """Continue as a WebSocket, or answer a request for another protocol and close."""
        if not self._should_upgrade():
            self.cycle.keep_alive = False
        elif self.cycle is not None and not self.cycle.response_complete:
            self._refuse(_INVALID)
        else:
            self.handle_websocket_upgrade()
        self._phase = _ENDED

    def handle_websocket_upgrade(self) -> None:
        """Continue as a WebSocket, which takes the slot over."""
        slot, self._slot = self._slot, None
        self._guard.budget.release(self)
        super().handle_websocket_upgrade()
        # The parser keeps this object in memory until garbage is collected.
        self.url, self.headers, self.scope = b"", [], _NO_SCOPE
        websocket = self.transport.get_protocol()
        assert isinstance(websocket, WebSocketProtocol), "the configuration names this protocol"
        websocket.take_slot(slot)

    def _start_phase(self, phase: _Phase) -> None:
        self._phase = phase
        self._deadline = None
        self._unparsed_bytes = 0

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the request that is being received or waits to be read, and close the connection.

        Requests before it keep their responses unless the refused one has started.
        """
        self._guard.refusals.add(refusal, self._client_host)
        is_in_head = self._phase is _HEAD
        self._start_phase(_ENDED)
        self._request_bytes = 0
        self.headers, self.scope = [], _NO_SCOPE
        if self.cycle is None or (is_in_head and self.cycle.response_complete):
            self._respond(refusal)
        elif is_in_head:
            # uvicorn closes the connection after the last response.
            self.cycle.keep_alive = False
        elif self.cycle.response_started or self.pipeline:
            self._end_requests()
            self.transport.close()
        else:
            self._end_requests()
            self._respond(refusal)

    def _respond(self, refusal: Refusal) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(refusal.write(self.server_state.default_headers))
        self._linger()

    def _linger(self) -> None:
        """Send what is written, and close the connection once the client could read it."""
        self._deadline = self.loop.time() + LINGER_SECONDS
        self.transport.write_eof()
        self.flow.pause_reading()
