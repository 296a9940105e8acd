"""One connection to an endpoint: writes a request in one piece, and waits for its response.

aiohttp's client makes a request object, a task that writes the body, a parser, a stream and a response object for each
request, which take more time than the rest of a delivery. So only its connector is used, for names, addresses and TLS.
There are no cookies, proxies, redirects, decoding or streams. The sender decides about a second try.
"""

import asyncio
import contextlib
from collections.abc import Callable

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from ringback.jobs.http.response_reader import InvalidResponse, ResponseReader, ResponseState

#: Bytes of a request body above which it is written in pieces, so that other tasks run in between.
LONG_BODY_BYTES = 256 * 1024
#: Bytes that may arrive before a request is sent.
MAX_UNSOLICITED_BYTES = 64 * 1024


class DeadlinePassed(Exception):
    """No complete response has arrived in time."""


class HttpConnection(ResponseHandler):
    """A connection to one endpoint, for one request at a time. `response` holds what has arrived since the last one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.response = ResponseReader()
        #: When the pool got the connection back, by the monotonic clock; 0 before that.
        self.idle_since = 0.0
        #: Called when the connection has ended.
        self.on_lost: Callable[[HttpConnection], None] = lambda _: None
        self._pending: asyncio.Future[None] | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        #: Bytes that arrived while no request was pending.
        self._unsolicited = b""

    def send(self, head: bytes, body: bytes | None, deadline: float) -> "asyncio.Future[None]":
        """Write a request, and return a future that is done when its response is complete, or over a limit.

        `deadline` is a time of the loop's clock. The future raises DeadlinePassed, InvalidResponse, or aiohttp's error
        for a broken connection, also if the endpoint ends a reused connection with status 408. Check `is_reusable`
        afterwards; a caller that cancels the future ends the connection.
        """
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        self.response.start()
        self._pending = pending = self._loop.create_future()
        self._deadline_timer = self._loop.call_at(deadline, self._end_at_deadline)
        if body is None:
            self.transport.write(head)
        elif len(body) <= LONG_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._writing = asyncio.create_task(self._write_pieces(body))
            pending.add_done_callback(self._stop_writing)
        if self._unsolicited:
            early, self._unsolicited = self._unsolicited, b""
            self.data_received(early)
        return pending

    @property
    def is_reused(self) -> bool:
        """Whether the connection has served another request before."""
        return self.idle_since > 0.0

    @property
    def has_ended_unread(self) -> bool:
        """Whether the endpoint has ended a reused connection, most likely without reading the last request."""
        return self.is_reused and (not self.response.has_started or self.response.is_idle_timeout)

    def is_reusable(self) -> bool:
        """Return whether another request can be sent: the response is complete and the connection stays open."""
        is_at_rest = self._pending is None and self._writing is None and not self._unsolicited
        return is_at_rest and self.response.state is ResponseState.KEPT_ALIVE and self.is_connected()

    @property
    def has_unsolicited_bytes(self) -> bool:
        """Whether bytes have arrived since the response."""
        return bool(self._unsolicited)

    def data_received(self, data: bytes) -> None:
        """Read bytes of the response, or keep bytes that arrive without a pending request."""
        if self._pending is None:
            self._unsolicited += data[:MAX_UNSOLICITED_BYTES]
            if len(self._unsolicited) > MAX_UNSOLICITED_BYTES:
                self.abort()
            return
        try:
            if self.response.feed(data):
                self._finish_response()
        except InvalidResponse as error:
            self._finish(error)

    def close(self) -> None:
        """Close the connection, at once if the endpoint has not read the request: its rest would stay in memory."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()

    def eof_received(self) -> None:
        """Do nothing: the transport closes itself."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the pending request, with an error unless the close ends the body."""
        super().connection_lost(exc)
        self.response.free_parser()
        self.on_lost(self)
        if exc is None and self.response.end_at_close():
            self._finish_response()
            return
        error = aiohttp.ServerDisconnectedError() if exc is None else aiohttp.ClientOSError(*exc.args)
        error.__cause__ = exc
        self._finish(error)

    async def _write_pieces(self, body: bytes) -> None:
        writer = StreamWriter(self, self._loop)
        # `connection_lost` reports these to the caller.
        with contextlib.suppress(ConnectionError, aiohttp.ClientConnectionError):
            for start in range(0, len(body), LONG_BODY_BYTES):
                # An endpoint may respond early and close: another write would end the connection before it is read.
                await asyncio.sleep(0)
                if self._pending is None:
                    self.response.state = ResponseState.FINAL
                    return
                await writer.write(body[start : start + LONG_BODY_BYTES])
                await writer.drain()

    def _stop_writing(self, _: "asyncio.Future[None]") -> None:
        """Write no more once the response has come; a body that is not written leaves the connection unusable."""
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
        else:
            self._writing = None

    def _end_at_deadline(self) -> None:
        self._finish(DeadlinePassed())

    def _finish_response(self) -> None:
        """End the wait for the response, with an error if the response does not concern the request."""
        if self.is_reused and self.response.is_idle_timeout:
            self._finish(aiohttp.ServerDisconnectedError())
        else:
            self._finish()

    def _finish(self, error: BaseException | None = None) -> None:
        """End the wait for the response, if a request is pending."""
        pending, self._pending = self._pending, None
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        if pending is None or pending.done():
            return
        if error is None:
            pending.set_result(None)
        else:
            pending.set_exception(error)
