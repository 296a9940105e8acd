"""aiohttp's connections behind the address guard: kept-alive connections, names, and which authorities are trusted."""

import select
import socket
import ssl
import time
from ipaddress import ip_address
from os.path import isdir, isfile

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from ringback.jobs.exchange import Pool
from ringback.jobs.failures import LookupFailed
from ringback.jobs.names import Lookup
from ringback.models.addresses import AddressPolicy
from ringback.models.errors import AddressBlocked

#: Connections in use at once, to all endpoints together; a request beyond them waits, within its timeout. None for one
#: host: whoever makes the batches decides that.
MAX_CONNECTIONS = 1_000
#: Seconds an idle connection is kept: less than the 5 s after which common servers (Node, uvicorn) close theirs, so
#: that a request seldom meets a connection that is just being closed.
KEEP_ALIVE_SECONDS = 4.0
#: Seconds a connection rests before it is used again: time to notice that the endpoint closed it after its answer.
SETTLE_SECONDS = 0.01


class Refused(AddressBlocked, OSError):
    """The guard's refusal inside aiohttp, which takes errors of sockets and resolvers only as OSError."""


def new_pool(resolver: AbstractResolver, tls: ssl.SSLContext, socket_factory: aiohttp.SocketFactoryType | None) -> Pool:
    """Connections with `tls`'s authorities, to names that `resolver` knows, through sockets of `socket_factory`."""
    return Pool(
        _Connector(
            resolver=resolver,
            ssl=tls,
            socket_factory=socket_factory,
            limit=MAX_CONNECTIONS,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        )
    )


class _Connector(aiohttp.TCPConnector):
    """Takes up an idle connection only when the endpoint has surely not closed it.

    Many endpoints close after each answer without saying so in a header. aiohttp would write to such a connection
    before the loop has seen its end, which loses every second request. There is no public place between taking a
    connection from the pool and writing to it, so this overrides a private method; a test notices if it goes unused.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        idle = self._conns.get(key)
        while idle:
            protocol, released_at = idle[0]  # the one that has rested longest
            if not protocol.is_connected():
                idle.popleft()
            elif time.monotonic() - released_at < SETTLE_SECONDS:
                return None
            else:
                connection = await super()._get(key, traces)
                if connection is None or not _has_something_to_read(connection):
                    return connection
                connection.close()
        return await super()._get(key, traces)


def _has_something_to_read(connection: Connection) -> bool:
    """Say whether an idle connection has ended, or carries what nobody asked for, before the loop has seen it."""
    if connection.transport is None or not hasattr(select, "poll"):  # Windows has no poll
        return False
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


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
            raise Refused(refusals[0])
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address, refusal in zip(addresses, refusals, strict=True)
            if refusal is None
        ]

    async def close(self) -> None:
        """Leave the lookup to the Sender, whose two pools share it."""


def trusted_tls(system: ssl.DefaultVerifyPaths | None = None) -> ssl.SSLContext:
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
