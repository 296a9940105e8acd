"""uvicorn's HTTP protocol, with limits on what a client can send, hold back, and leave unread.

uvicorn limits neither the URL nor the headers, has no timeout but the one between two requests, and queues pipelined
requests without end; llhttp has no limits at all. h11, uvicorn's other parser, limits the size of headers only. So
these limits are here:

- URL, headers and trailers: their bytes and number, counted as they arrive, since llhttp reports only whole headers
- the number of small pieces in which a body arrives
- the time for the headers and the body of a request, and for reading a response
- the requests that wait for the response to an earlier one
- connections, in total and by client; one whose client is gone counts until its request has ended
- the bytes that all connections together make the program hold

Timeouts are checked once per second for all connections, because a timer for each request costs more.
"""

import asyncio
from enum import Enum, auto
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
)
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ringback.graphql_api.listener.byte_budget import RELEASE_REQUEST, UNCOUNTED_UNREAD_BYTES
from ringback.graphql_api.listener.client_slots import SLOTS, ClientSlot
from ringback.graphql_api.listener.config import ListenerConfig
from ringback.graphql_api.listener.http_limits import RequestRefused, count_header_bytes
from ringback.graphql_api.listener.read_progress import ReadProgress
from ringback.graphql_api.listener.received_requests import HEADER_BYTES, REQUEST_BYTES, ReceivedRequests
from ringback.graphql_api.listener.refusals import Refusal
from ringback.graphql_api.listener.running_requests import RunningRequests, count_head_bytes
from ringback.graphql_api.websocket_protocol import WebSocketProtocol

#: Bytes that are parsed before the limits are checked again. uvloop reads up to 256,000 bytes at once.
PIECE_BYTES = 16_384
#: A single running request up to this size does not count towards the bytes held.
UNCOUNTED_BYTES = 65_536
#: The longest rest of a body that is read after its response, so that the client reads the response.
MAX_DISCARDED_BYTES = 65_536
#: Requests that wait for the response to an earlier one on the same connection, at most.
MAX_PIPELINED = 16
#: Times its size that the body of a running request takes in memory: the application has its text too.
ABANDONED_COPIES = 2
#: Seconds that a refused client has to read the response: closing at once could make its system discard it.
LINGER_SECONDS = 1.0
#: Times its size that a piece of a stream takes in memory while it waits: a subscription keeps the response too.
STREAM_COPIES = 3

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
        self._requests = RunningRequests(self._release_if_lost)
        self._is_lost = False
        #: Bytes of the requests whose client is gone: the application may hold them until they have ended.
        self._abandoned_bytes = 0
        self._phase = _HEAD
        #: When the phase must have ended, by the loop's clock.
        self._deadline: float | None = None
        #: Bytes received since the end of the last head, piece of a body, or request.
        self._unparsed_bytes = 0
        self._received = ReceivedRequests()
        self._reading = ReadProgress()
        #: Bytes of a response that the application sends, but that wait for the client to read what is before them.
        self._waiting_bytes = 0
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
        """Release what the connection holds, or let the end of its requests do so.

        Otherwise a client that connects again and again could have any number of requests.
        """
        self._end_requests()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._is_lost = True
        if self._requests:
            self._guard.budget.hold(self, self.count_held_bytes())
        else:
            self._release_if_lost()

    def _release_if_lost(self) -> None:
        if not self._is_lost:
            return
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
            if self._received.are_several:
                # Those before the refused request go on.
                self._guard.budget.hold(self, self.count_held_bytes())
        elif self._phase is not _IDLE:
            self._wait_for_rest()
        elif self._received.are_several or self._received.newest_bytes > UNCOUNTED_BYTES:
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
        if self._phase is _BODY and self.cycle.response_complete and self._received.newest_bytes > MAX_DISCARDED_BYTES:
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
        self._received.start(is_answered=self.cycle is None or self.cycle.response_complete)
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
            self._received.add_head(len(self.headers), len(self.url) + count_header_bytes(self.headers))
        self._start_phase(_BODY)
        self.scope["extensions"] = {SLOTS: {self._slot: None}, RELEASE_REQUEST: {"call": self._release_request}}
        if not self.parser.should_upgrade():
            # The cycle has them. Trailers must not look like headers to the application (RFC 9110, 6.5.1).
            self.url, self.headers, self.scope = b"", [], _NO_SCOPE

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._requests.add()
        super()._start_asgi_task(cycle, partial(self._run, app))

    async def _run(
        self, app: ASGI3Application, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await self._requests.run(app(scope, receive, partial(self._send, send)))

    async def _send(self, send: ASGISendCallable, message: ASGISendEvent) -> None:
        """Send a message. Count its body while it waits for the client to read."""
        if not self.flow.write_paused or message["type"] != "http.response.body":
            return await send(message)
        waiting_bytes = len(message.get("body", b""))
        if self._running is not None and self._running.chunked_encoding:
            waiting_bytes *= STREAM_COPIES
        self._waiting_bytes += waiting_bytes
        self._guard.budget.hold(self, self.count_held_bytes())
        try:
            await send(message)
        finally:
            self._waiting_bytes -= waiting_bytes

    def on_body(self, body: bytes) -> None:
        """Pass a piece of a body on."""
        self._unparsed_bytes = 0
        self._received.add_body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next request."""
        super().on_message_complete()
        self._start_phase(_IDLE)

    def on_response_complete(self) -> None:
        """Release the request, and count the response until it is read."""
        self._received.end_oldest()
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
        self._received.release_oldest()
        if not self.transport.is_closing():
            self._count_again()

    def _count_again(self) -> None:
        held_bytes = self.count_held_bytes()
        is_short = held_bytes <= UNCOUNTED_BYTES and self._count_unread_bytes() <= UNCOUNTED_UNREAD_BYTES
        if self._phase is _IDLE and not self._received.are_several and is_short:
            self._guard.budget.release(self)
        else:
            self._guard.budget.hold(self, held_bytes)

    def resume_writing(self) -> None:
        """Note that the client reads, so that it is the last to make room."""
        self._reading.note_read()
        self._guard.budget.release(self)
        super().resume_writing()
        self._count_again()

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
        unread_bytes = self.transport.get_write_buffer_size()
        self._reading.update(unread_bytes, now)
        if self._reading.is_stalled(now, self._limits.read_seconds):
            self._abort(_UNREAD)
        elif unread_bytes > 0:
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
        if self._is_lost:
            return self._abandoned_bytes
        held_bytes = self._unparsed_bytes + HEADER_BYTES * len(self.headers)
        held_bytes += self._count_unread_bytes() + self._received.earlier_bytes
        if self.cycle is None or not self.cycle.response_complete:
            held_bytes += self._received.newest_bytes
        return held_bytes

    def _count_unread_bytes(self) -> int:
        return self.transport.get_write_buffer_size() + self._waiting_bytes

    def free_held_bytes(self) -> bool:
        """Refuse a request that the application has not read whole, or cancel one whose client is gone.

        Abort the connection if requests wait for an earlier one, or if the client has not read its responses.
        """
        if self._is_lost:
            self._requests.cancel()
            return True
        if self.pipeline or self._count_unread_bytes() > UNCOUNTED_UNREAD_BYTES:
            self._abort(_NO_CAPACITY)
            return True
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
        if self._requests and self._running is not None and self._abandoned_bytes == 0:
            head_bytes = count_head_bytes(self._running.scope)
            body_bytes = ABANDONED_COPIES * self._received.oldest_bytes
            self._abandoned_bytes = REQUEST_BYTES + head_bytes + body_bytes
        self.pipeline.clear()
        self._received.clear()
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
        self._received.newest_bytes = 0
        self.headers, self.scope = [], _NO_SCOPE
        if self.cycle is None or (is_in_head and self.cycle.response_complete):
            self._respond(refusal)
        elif is_in_head:
            # uvicorn closes the connection after the last response.
            self.cycle.keep_alive = False
        elif self.cycle.response_complete:
            self._linger()
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
        if self.transport.is_closing():
            return
        self._deadline = self.loop.time() + LINGER_SECONDS
        self.transport.write_eof()
        self.flow.pause_reading()
