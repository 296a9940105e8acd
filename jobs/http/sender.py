"""Sends one request through the address guard, and maps every result to an Outcome.

Promises, and what keeps them:

- Deliveries reach only addresses and ports that the AddressPolicy allows. The guard is `_guarded_socket`, which aiohttp
  calls with each address after DNS, however the host was written (aiohttp resolves no IP literals). The resolver
  refuses earlier, because its message can name the host. If a name has allowed and refused addresses, only the allowed
  ones are tried.
- One `send` writes a request once. Only if a reused connection ends before the first byte of a response, or with status
  408, is the request written once more, on a new connection: the endpoint has most likely ended the first one without
  reading it.
- One deadline covers everything: DNS, the wait for a free connection, connecting, TLS, and a slow body. (aiohttp rounds
  its own timeouts of 5 s and more up to whole seconds of the loop's clock.)
- No response can fill the memory: at most MAX_RESPONSE_BYTES of a body are read, and as many decoded. Headers are cut
  to limits, and never turn a status into a failure.
- Only idle connections outlive a request: no cookies; no proxy and no netrc from the environment.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Self

import aiohttp
from yarl import URL

from ringback.jobs.http.connection import DeadlinePassed, HttpConnection
from ringback.jobs.http.dns import Lookup, default_lookup
from ringback.jobs.http.error_mapping import EXPECTED, to_outcome
from ringback.jobs.http.guarded_resolver import ConnectRefused, GuardedResolver
from ringback.jobs.http.pool import Pool
from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.http.response import to_http_response
from ringback.jobs.http.response_reader import ResponseReader
from ringback.jobs.http.tls import make_tls_context
from ringback.jobs.outcomes import BadResponse, Blocked, HttpResponse, Outcome, RenderFailed, TimedOut, judge
from ringback.models.security.address_policy import AddressPolicy

#: Hosts whose refusals are cached.
CACHED_HOSTS = 4_096


class SendWithheld(Exception):
    """The caller no longer allows the request; nothing was sent."""


@dataclass(slots=True)
class SendResult:
    """The result of one send: its outcome, the request (None if nothing was sent), and its duration in whole ms."""

    outcome: Outcome
    request: OutgoingRequest | None
    duration_ms: int


class Sender:
    """A sender of requests over kept-alive connections. An async context manager: enter it on the loop that it serves.

    `lookup` (closed at the end) and `tls` default to `default_lookup()` and `make_tls_context()`. Exit when no send is
    running: closing interrupts it.
    """

    def __init__(
        self, policy: AddressPolicy, *, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        self._refusal_for_host = lru_cache(CACHED_HOSTS)(policy.check_host)
        self._lookup = lookup
        self._tls = tls or make_tls_context()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._lookup = self._lookup or default_lookup()
        self._guarded = Pool(GuardedResolver(self._lookup, self._policy), self._tls, self._guarded_socket)
        self._unguarded = Pool(GuardedResolver(self._lookup, None), self._tls, None)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._guarded.close()
        await self._unguarded.close()
        if self._lookup is not None:
            await self._lookup.close()

    async def send(
        self,
        request: OutgoingRequest,
        *,
        timeout_seconds: float,
        accepts: Callable[[int], bool],
        unguarded: bool = False,
        is_withdrawn: Callable[[], bool] = lambda: False,
    ) -> SendResult:
        """Send one request. Failures of the target, its name or the network become outcomes, never exceptions.

        `accepts` returns whether a status is a success. `unguarded` skips the address policy; it is for Ringback's own
        inbox addresses only. `is_withdrawn` is called once there is a connection: if it returns True, nothing is sent
        and SendWithheld is raised. It is called again for a second connection, and then the outcome is that of the
        first. Cancelling a send closes its connection.
        """
        started = time.monotonic()
        refusal = self._refuse(request, unguarded=unguarded)
        if refusal is not None:
            return SendResult(refusal, None, _milliseconds_since(started))
        pool = self._unguarded if unguarded else self._guarded
        origin = request.template.origin
        connection: HttpConnection | None = None
        sent: OutgoingRequest | None = None
        deadline = self._loop.time() + timeout_seconds
        try:
            connection = pool.take_idle(origin)
            if connection is None:
                connection = await _connect(pool, origin, deadline)
            if is_withdrawn():
                raise SendWithheld
            head = request.template.head(request.values, request.length)
            try:
                pending = connection.send(head, request.body, deadline)
                sent = request
                await pending
            except aiohttp.ClientConnectionError:
                if not connection.has_ended_unread:
                    raise
                pool.release(connection)
                connection = None
                connection = await _connect(pool, origin, deadline, is_new=True)
                if is_withdrawn():
                    if sent is None:
                        raise SendWithheld from None
                    raise
                pending = connection.send(head, request.body, deadline)
                sent = request
                await pending
            outcome = _judge_whole(connection.response, accepts)
        except DeadlinePassed:
            outcome = TimedOut(f"No complete response within {timeout_seconds:g} s.", _partial_response(connection))
        except EXPECTED as error:
            outcome = to_outcome(error, origin, _partial_response(connection))
            if connection is None and sent is not None:
                outcome = _not_sent_again(outcome, origin)
        finally:
            if connection is not None:
                pool.release(connection)
        return SendResult(outcome, sent, _milliseconds_since(started))

    def _refuse(self, request: OutgoingRequest, *, unguarded: bool) -> Outcome | None:
        """Return the outcome of a request that must not be sent, or None."""
        fault = request.fault
        if fault is not None:
            return RenderFailed(fault)
        if unguarded:
            return None
        refusal = self._refusal_for_host(request.template.host, request.template.origin.port)
        if refusal is None:
            return None
        return Blocked(refusal)

    def _guarded_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Open a socket for an address that a connection is about to reach; raises ConnectRefused.

        The resolver's check does not suffice: a literal address is never resolved.
        """
        family, kind, protocol, _, address = info
        refusal = self._policy.refusal(ip_address(address[0]), address[1], name="The host")
        if refusal is not None:
            raise ConnectRefused(refusal)
        return socket.socket(family, kind, protocol)


async def _connect(pool: Pool, origin: URL, deadline: float, *, is_new: bool = False) -> HttpConnection:
    """Return a connection, a new one if `is_new`; raises DeadlinePassed, and the errors of aiohttp and the system."""
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            return await pool.connect(origin, is_new=is_new)
    except TimeoutError as error:
        if limit.expired():
            raise DeadlinePassed from error
        raise  # the system's own


def _judge_whole(response: ResponseReader, accepts: Callable[[int], bool]) -> Outcome:
    whole = to_http_response(response, is_whole=True)
    if response.status == 101:
        return BadResponse("The endpoint answered 101 Switching Protocols, which the request did not ask for.", whole)
    return judge(whole, accepts)


def _not_sent_again(outcome: Outcome, origin: URL) -> Outcome:
    """Return the outcome of a request whose reused connection had ended, and that could not be sent again.

    Outcomes such as Unreachable would say that the endpoint has seen no request.
    """
    reason = f"{origin.host_subcomponent}:{origin.port} closed the reused connection without a response"
    return BadResponse(f"{reason}, and the request could not be sent again: {outcome.error}")


def _partial_response(connection: HttpConnection | None) -> HttpResponse | None:
    if connection is None or not connection.response.status:
        return None
    return to_http_response(connection.response, is_whole=False)


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
