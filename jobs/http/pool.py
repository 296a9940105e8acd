"""aiohttp's connections behind the address guard: kept-alive connections, names, and which authorities are trusted."""

import asyncio
import socket
import ssl
import time
from collections import OrderedDict, deque
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import takewhile
from os.path import isdir, isfile
from typing import cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from ringback.jobs.http.connection import Exchange
from ringback.jobs.http.dns import Lookup
from ringback.jobs.http.error_mapping import LookupFailed
from ringback.models.errors import AddressBlocked
from ringback.models.security.address_policy import AddressPolicy

#: Connections in use at once, to all endpoints together; a request beyond them waits, within its timeout. None for one
#: host: whoever makes the batches decides that.
MAX_CONNECTIONS = 1_000
#: Seconds an idle connection is kept: less than the 5 s after which common servers (Node, uvicorn) close theirs, so
#: that a request seldom meets a connection that is just being closed.
KEEP_ALIVE_SECONDS = 4.0
#: Seconds a connection rests before it is used again: time to notice that the endpoint closed it after its answer.
SETTLE_SECONDS = 0.01
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


class ConnectRefused(AddressBlocked, OSError):
    """The guard's refusal inside aiohttp, which takes errors of sockets and resolvers only as OSError."""


class _Endpoint:
    """What the connector knows an endpoint by, of which nothing is sent; and its idle connections, longest first."""

    __slots__ = ("idle", "request")

    def __init__(self, origin: URL) -> None:
        self.request = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
        self.idle: deque[Exchange] = deque()


class Pool:
    """Kept-alive connections to all endpoints, made, used and closed on one loop; `limit` of them at once.

    They trust `tls`'s authorities, and lead to names that `resolver` knows through sockets of `socket_factory`.
    An idle connection is taken up only when the endpoint has surely not closed it. Many endpoints close after each
    answer without saying so in a header, and a request that is written before the loop has seen that is lost.
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
        # aiohttp has no public place for that; all tests of the Sender notice if it goes unused.
        self._connector._factory = cast(partial[ResponseHandler], partial(Exchange, loop=self._loop))
        self._limit = limit
        self._endpoints = lru_cache(4_096)(_Endpoint)
        #: All that are open, each with aiohttp's handle of it; and the places of those that are being opened.
        self._open: dict[Exchange, tuple[_Endpoint, Connection]] = {}
        self._opening = 0
        #: Those that nobody uses, the longest idle first.
        self._resting: OrderedDict[Exchange, None] = OrderedDict()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    async def connect(self, url: URL) -> Exchange:
        """A connection to the endpoint of a URL, an idle one or a new one; raises what aiohttp and the system raise.

        Give it back afterwards, whatever has become of it.
        """
        endpoint = self._endpoints(url.origin())
        if (idle := self.idle(url)) is not None:
            return idle
        waited = False
        while len(self._open) + self._opening >= self._limit:
            if self._resting:
                self._close(next(iter(self._resting)))
                break
            await self._place(waited)
            waited = True
            if (idle := self.idle(url)) is not None:
                return idle
        self._opening += 1
        try:
            connection = await self._connector.connect(endpoint.request, [], _NO_TIMEOUT)
        except BaseException:
            self._opening -= 1
            self._tell()
            raise
        self._opening -= 1
        exchange = connection.protocol
        assert isinstance(exchange, Exchange), "the connector makes them"
        self._open[exchange] = endpoint, connection
        exchange.on_lost = self._close
        return exchange

    def idle(self, url: URL) -> Exchange | None:
        """An idle connection to the endpoint of a URL, if there is one."""
        kept = self._endpoints(url.origin()).idle
        while kept:
            exchange = kept[0]
            connected = exchange.is_connected()
            if connected and time.monotonic() - exchange.rests_since < SETTLE_SECONDS:
                return None
            if connected and exchange.is_quiet():
                kept.popleft()
                del self._resting[exchange]
                return exchange
            self._close(exchange)
        return None

    def give_back(self, exchange: Exchange) -> None:
        """Keep a connection for the next request, or close it when it cannot serve another."""
        if not exchange.is_reusable() or exchange not in self._open:
            self._close(exchange)
            return
        exchange.rests_since = time.monotonic()
        self._resting[exchange] = None
        self._open[exchange][0].idle.append(exchange)
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEP_ALIVE_SECONDS, self._close_old)
        if self._waiting:
            self._tell()

    async def close(self) -> None:
        """Close all connections, those in use as well."""
        if self._sweep is not None:
            self._sweep.cancel()
        await self._connector.close()
        for exchange in list(self._open):
            self._close(exchange)

    def _close(self, exchange: Exchange) -> None:
        endpoint, connection = self._open.pop(exchange, (None, None))
        if endpoint is None or connection is None:
            return
        if exchange in self._resting:
            del self._resting[exchange]
            endpoint.idle.remove(exchange)
        connection.close()
        self._tell()

    def _close_old(self) -> None:
        """Close what has been idle for long."""
        self._sweep = None
        now = time.monotonic()
        for exchange in list(takewhile(lambda e: e.rests_since <= now - KEEP_ALIVE_SECONDS, self._resting)):
            self._close(exchange)
        if self._resting:
            longest = next(iter(self._resting)).rests_since
            self._sweep = self._loop.call_later(max(longest + KEEP_ALIVE_SECONDS - now, 0.1), self._close_old)

    async def _place(self, again: bool) -> None:
        """Wait until one may be free; the one that has waited longest is told first."""
        turn: asyncio.Future[None] = self._loop.create_future()
        if again:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._tell()
            raise

    def _tell(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class GuardedResolver(AbstractResolver):
    """A Lookup as aiohttp wants it, with the addresses left out that `policy` refuses; policy None refuses none."""

    def __init__(self, lookup: Lookup, policy: AddressPolicy | None) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be connected to; raises LookupFailed, or Refused when the guard refuses all."""
        addresses = await self._lookup.addresses(host)
        if not addresses:
            raise LookupFailed(f"The name {host} does not resolve.")
        refusals = [self._policy and self._policy.refusal(ip_address(address), host) for address in addresses]
        if all(refusals):
            raise ConnectRefused(refusals[0])
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address, refusal in zip(addresses, refusals, strict=True)
            if refusal is None
        ]

    async def close(self) -> None:
        """Leave the lookup to the Sender, whose two pools share it."""


def make_tls_context(system: ssl.DefaultVerifyPaths | None = None) -> ssl.SSLContext:
    """Return a TLS context that trusts the system's authorities and, besides them, those in SSL_CERT_FILE.

    To OpenSSL that variable (like SSL_CERT_DIR) replaces the system's store, which would cut off every public endpoint;
    so that store is loaded as well. `system` says where it is, and defaults to what OpenSSL was built with.
    """
    context = ssl.create_default_context()
    store = system or ssl.get_default_verify_paths()
    if isfile(store.openssl_cafile):
        context.load_verify_locations(cafile=store.openssl_cafile)
    if isdir(store.openssl_capath):
        context.load_verify_locations(capath=store.openssl_capath)
    context.set_alpn_protocols(["http/1.1"])
    return context
