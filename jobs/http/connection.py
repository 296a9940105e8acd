"""One request and its answer, on a connection that aiohttp made: what goes out is written in one piece.

aiohttp's client makes a request object, a task that writes the body, a parser, a stream and a response object for each
exchange, which take more time than all that a delivery does besides. Here its connector finds names, addresses and TLS,
and the rest is left out: no cookies, no proxies, no redirects, no decoding, no streams, and no second try when a
connection breaks. Answers are read by httptools, whose parser is that of Node (llhttp), as aiohttp's is.
"""

import asyncio
import contextlib
import select
from collections.abc import Callable
from enum import Enum, auto

import aiohttp
import httptools
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

#: Bytes of a request body from which it is written in pieces, between which others run.
LONG_BODY_BYTES = 256 * 1024
#: Bytes of a response body that are read, and kept after decoding; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 64 * 1024
#: Bytes of response headers, names and values together; of one header's name or value; and how many headers.
MAX_RESPONSE_HEADER_BYTES, MAX_FIELD_BYTES, MAX_RESPONSE_HEADERS = 32 * 1024, 8_190, 128
#: Bytes of an answer that may come without its headers having ended.
MAX_HEAD_BYTES = 2 * MAX_RESPONSE_HEADER_BYTES


class BadAnswer(Exception):
    """What came is no HTTP answer, or one beyond the limits; the message says why, without a full stop."""


class DeadlinePassed(Exception):
    """No whole answer has come in time."""


class State(Enum):
    """How far the answer to the last request has come."""

    #: Also while informational answers (RFC 9110, section 15.2) come.
    READING_HEAD = auto()
    READING_BODY = auto()
    #: The body ends with the connection.
    READING_UNTIL_CLOSE = auto()
    #: The whole answer has come, and the endpoint keeps the connection for another request.
    KEPT_ALIVE = auto()
    #: The whole answer has come, and nothing may follow it.
    FINAL = auto()


_COMPLETE = (State.KEPT_ALIVE, State.FINAL)


class Exchange(ResponseHandler):
    """A connection to one endpoint, which asks and is answered; a request at a time.

    `status` is 0 until the headers have ended; `headers` and `body` hold what has come since the last request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.rests_since = 0.0
        #: Told when the connection has ended.
        self.on_lost: Callable[[Exchange], None] = lambda exchange: None
        #: Bytes of the names and values of the headers.
        self.header_bytes = 0
        self._answer: asyncio.Future[None] | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._unasked = b""
        self._head_bytes = self._field_bytes = 0
        self._state = State.READING_HEAD
        self._poll: select.poll | None = None
        self._http = httptools.HttpResponseParser(self)
        # What aiohttp lets pass too: endpoints that people have are lenient with themselves.
        self._http.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def ask(self, head: bytes, body: bytes | None, deadline: float) -> "asyncio.Future[None]":
        """Write a request; the result comes when its answer is there, or as much of it as is read.

        It raises DeadlinePassed if that is not before `deadline`, by the loop's clock, what aiohttp raises of a broken
        connection, and BadAnswer. The caller looks at `is_reusable` afterwards; if it has cancelled the wait, the
        connection is not.
        """
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        self.status, self.headers, self.body = 0, [], b""
        self.header_bytes = self._head_bytes = self._field_bytes = 0
        self._state = State.READING_HEAD
        self._answer = answer = self._loop.create_future()
        self._deadline_timer = self._loop.call_at(deadline, self._finish, DeadlinePassed())
        if body is None or len(body) <= LONG_BODY_BYTES:
            self.transport.write(head + body if body else head)
        else:
            self.transport.write(head)
            self._writing = asyncio.create_task(self._write_pieces(body))
            answer.add_done_callback(lambda _: self._stop_writing())
        if self._unasked:
            early, self._unasked = self._unasked, b""
            self.data_received(early)
        return answer

    async def _write_pieces(self, body: bytes) -> None:
        writer = StreamWriter(self, self._loop)
        # An endpoint that went away says so to whoever waits for its answer.
        with contextlib.suppress(ConnectionError, aiohttp.ClientConnectionError):
            for start in range(0, len(body), LONG_BODY_BYTES):
                # An endpoint that answers early may have closed: another write would end the connection, answer unread.
                await asyncio.sleep(0)
                if self._answer is None:
                    self._state = State.FINAL
                    return
                await writer.write(body[start : start + LONG_BODY_BYTES])
                await writer.drain()

    def _stop_writing(self) -> None:
        """What is not written when the answer is there will not be, which leaves the connection useless."""
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
        else:
            self._writing = None

    def is_reusable(self) -> bool:
        """Whether another request may go this way: the answer has ended, and the endpoint does not close after it."""
        ended = self._state is State.KEPT_ALIVE and self._answer is None and self._writing is None
        return ended and not self._unasked and self.is_connected()

    def is_quiet(self) -> bool:
        """Whether nothing has come since the answer ended, nor an end of the connection that the loop has not seen."""
        if self._unasked:
            return False
        if self._poll is None:
            if self.transport is None or not hasattr(select, "poll"):  # Windows has none
                return True
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    # ------------------------------------------------------------------------------------- what the transport tells

    def data_received(self, data: bytes) -> None:
        """Some of an answer, or what nobody asked for."""
        if self._answer is None:
            self._unasked += data[:MAX_HEAD_BYTES]
            if len(self._unasked) > MAX_HEAD_BYTES:
                self.abort()
            return
        self._head_bytes += len(data) if not self.status else 0
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._state = State.FINAL
        except httptools.HttpParserError as error:
            if self._state not in _COMPLETE:
                bad_line = isinstance(error, httptools.HttpParserInvalidStatusError) or not self._http.get_status_code()
                self._finish(BadAnswer("Bad status line" if bad_line else str(error)))
                return
        if self._field_bytes > MAX_FIELD_BYTES:
            self._refuse(f"Got more than {MAX_FIELD_BYTES} bytes of one header")
        elif not self.status and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("Its headers do not end within 64 KiB")
        elif len(self.headers) > MAX_RESPONSE_HEADERS:
            self._refuse("Too many headers received")
        elif self._state in _COMPLETE or len(self.body) > MAX_RESPONSE_BYTES:
            self._finish()

    def eof_received(self) -> None:
        """The endpoint sends no more: the transport closes itself."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        self.on_lost(self)
        if self._state is State.READING_UNTIL_CLOSE and exc is None:
            self._state = State.FINAL
            self._finish()
            return
        error = aiohttp.ServerDisconnectedError() if exc is None else aiohttp.ClientOSError(*exc.args)
        error.__cause__ = exc
        self._finish(error)

    # ---------------------------------------------------------------------------------------- what the parser tells

    def on_message_begin(self) -> None:
        """An answer, or one that nobody asked for, which is left out and ends the connection."""
        if self._state is State.KEPT_ALIVE:
            self._state = State.FINAL

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those that come after the body are left out."""
        if not self.status:
            self.headers.append((name.decode("utf-8", "replace"), value.decode("utf-8", "replace")))
            self.header_bytes += len(name) + len(value)
            self._field_bytes = max(self._field_bytes, len(name), len(value))

    def on_headers_complete(self) -> None:
        """The status, and how its body ends."""
        if self._state in _COMPLETE:
            return
        self.status = self._http.get_status_code()
        names = [name.lower() for name, _ in self.headers]
        chunked = "transfer-encoding" in names and self._is_chunked()
        has_end = "content-length" in names or chunked
        self._state = State.READING_BODY if has_end else State.READING_UNTIL_CLOSE

    def on_body(self, body: bytes) -> None:
        """Some of the body; no more of it is kept than shows that it is too long."""
        if self._state not in _COMPLETE and len(self.body) <= MAX_RESPONSE_BYTES:
            self.body += body[: MAX_RESPONSE_BYTES + 1 - len(self.body)]

    def on_message_complete(self) -> None:
        """An answer, or an informational one (RFC 9110, section 15.2), which is passed over."""
        if 100 <= self.status <= 199 and self.status != 101:
            self.status, self.headers, self.header_bytes = 0, [], 0
            self._state = State.READING_HEAD
        elif self._state not in _COMPLETE:
            # The parser knows it until this returns.
            self._state = State.KEPT_ALIVE if self._http.should_keep_alive() else State.FINAL

    def _is_chunked(self) -> bool:
        codings = [value.lower() for name, value in self.headers if name.lower() == "transfer-encoding"]
        return codings[-1].rpartition(",")[2].strip() == "chunked"

    def _refuse(self, why: str) -> None:
        """Keep nothing of an answer whose headers are beyond the limits."""
        self.status, self.headers, self.body = 0, [], b""
        self._finish(BadAnswer(why))

    def _finish(self, error: BaseException | None = None) -> None:
        """End the wait for the answer, if anybody waits."""
        answer, self._answer = self._answer, None
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
