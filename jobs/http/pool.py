"""Kept-alive connections to all endpoints, on top of aiohttp's connector."""

import asyncio
import ssl
import time
from collections import OrderedDict, deque
from functools import lru_cache, partial
from typing import NamedTuple, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from ringback.jobs.http.connection import HttpConnection

#: Connections in use at once, to all endpoints together. Further requests wait, within their timeouts. The claimer, not
#: the pool, limits each webhook.
MAX_CONNECTIONS = 1_000
#: Seconds before an idle connection is closed: less than the 5 s of common servers (Node, uvicorn).
KEEP_ALIVE_SECONDS = 4.0
#: Seconds before a connection is used again: time to notice that the endpoint has closed it after its response.
SETTLE_SECONDS = 0.01
#: Minimum number of seconds between two sweeps of idle connections.
MIN_SWEEP_SECONDS = 0.1
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


class _Endpoint:
    """An origin: a request that the connector needs but never sends, and the idle connections, longest idle first."""

    __slots__ = ("idle", "request")

    def __init__(self, origin: URL) -> None:
        self.request = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
        self.idle: deque[HttpConnection] = deque()


class _Open(NamedTuple):
    """An open connection's endpoint, and the handle by which aiohttp closes it."""

    endpoint: _Endpoint
    handle: Connection


class Pool:
    """Kept-alive connections to all endpoints, made, used and closed on one loop; `limit` of them at once.

    `resolver` looks up names, `tls` holds the trusted authorities, and `socket_factory` makes the sockets.

    An origin is a URL without path and query. A connection is reused SETTLE_SECONDS after its response at the earliest.
    Many endpoints close after each response without a `Connection: close` header, and the sender must repeat a request
    that is written before the loop sees it.
    """

    def __init__(
        self,
        resolver: AbstractResolver,
        tls: ssl.SSLContext,
        socket_factory: aiohttp.SocketFactoryType | None,
        limit: int = MAX_CONNECTIONS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = aiohttp.TCPConnector(resolver=resolver, ssl=tls, socket_factory=socket_factory, limit=0)
        # aiohttp has no public parameter for this. `_open_connection` asserts that aiohttp uses it.
        self._connector._factory = cast(partial[ResponseHandler], partial(HttpConnection, loop=self._loop))
        self._limit = limit
        self._endpoints = lru_cache(4_096)(_Endpoint)
        self._open: dict[HttpConnection, _Open] = {}
        #: Number of connections that are being opened.
        self._opening = 0
        #: Idle connections, the longest idle first.
        self._idle: OrderedDict[HttpConnection, None] = OrderedDict()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def connect(self, origin: URL, *, is_new: bool = False) -> HttpConnection:
        """Return an idle or new connection to an endpoint; call `release` afterwards, whatever happens.

        With `is_new` it is not an idle one. Waits while the pool is full. Raises the errors of aiohttp and the system.
        """
        has_waited = False
        while True:
            connection = None if is_new else self.take_idle(origin)
            if connection is not None:
                return connection
            if len(self._open) + self._opening < self._limit:
                break
            if self._idle:
                self._close(next(iter(self._idle)))
                break
            await self._wait_for_capacity(has_waited)
            has_waited = True
        return await self._open_connection(self._endpoints(origin))

    def take_idle(self, origin: URL) -> HttpConnection | None:
        """Return an idle connection to an endpoint, if there is one; `release` it afterwards."""
        idle = self._endpoints(origin).idle
        while idle:
            connection = idle[0]
            is_connected = connection.is_connected()
            if is_connected and time.monotonic() - connection.idle_since < SETTLE_SECONDS:
                return None
            if is_connected and not connection.has_unsolicited_bytes:
                idle.popleft()
                del self._idle[connection]
                return connection
            self._close(connection)
        return None

    def release(self, connection: HttpConnection) -> None:
        """Keep a connection for the next request, or close it if it cannot serve another."""
        if not connection.is_reusable() or connection not in self._open:
            self._close(connection)
            return
        connection.idle_since = time.monotonic()
        self._idle[connection] = None
        self._open[connection].endpoint.idle.append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)
        if self._waiters:
            self._wake_next()

    async def close(self) -> None:
        """Close all connections, those in use as well."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        await self._connector.close()
        for connection in list(self._open):
            self._close(connection)

    async def _open_connection(self, endpoint: _Endpoint) -> HttpConnection:
        self._opening += 1
        try:
            handle = await self._connector.connect(endpoint.request, [], _NO_TIMEOUT)
        except BaseException:
            self._opening -= 1
            self._wake_next()
            raise
        self._opening -= 1
        connection = handle.protocol
        assert isinstance(connection, HttpConnection), "aiohttp must make connections by `_factory`"
        self._open[connection] = _Open(endpoint=endpoint, handle=handle)
        connection.on_lost = self._close
        return connection

    async def _wait_for_capacity(self, has_waited: bool) -> None:
        """Wait until a connection may be free. First come, first served; a request that waits again goes first."""
        turn: asyncio.Future[None] = self._loop.create_future()
        if has_waited:
            self._waiters.appendleft(turn)
        else:
            self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _close(self, connection: HttpConnection) -> None:
        opened = self._open.pop(connection, None)
        if opened is None:
            return
        if connection in self._idle:
            del self._idle[connection]
            opened.endpoint.idle.remove(connection)
        opened.handle.close()
        self._wake_next()

    def _sweep(self) -> None:
        """Close connections that have been idle for KEEP_ALIVE_SECONDS, and schedule the next sweep."""
        self._sweep_timer = None
        now = time.monotonic()
        while self._idle:
            oldest = next(iter(self._idle))
            expires_at = oldest.idle_since + KEEP_ALIVE_SECONDS
            if expires_at > now:
                delay = max(expires_at - now, MIN_SWEEP_SECONDS)
                self._sweep_timer = self._loop.call_later(delay, self._sweep)
                return
            self._close(oldest)
