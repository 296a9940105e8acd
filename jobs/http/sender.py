"""Sends one request and says how it ended: aiohttp behind the address guard, every failure mapped to an Outcome.

What this promises, and how:

- Deliveries reach only what the AddressPolicy allows. The guard stands in `socket_factory`, which sees the address of
  each connect, after DNS, however the host was spelled (aiohttp asks no resolver about IP literals). The resolver
  refuses early too: there the name is known, so the sentence can say it. Of a name with public and private addresses
  only the public ones are tried.
- One `send` puts at most one request on the wire, whatever becomes of its connection.
- One deadline covers everything: DNS, waiting for a place in the pool, connecting, TLS, a dripping body. (aiohttp's own
  rounds timeouts of 5 s and more up to whole seconds of the loop's clock.)
- No answer can fill the memory: at most MAX_RESPONSE_BYTES are read, and as many decoded; what is longer is cut off.
- Nothing is kept between requests but idle connections: no cookies; no proxy and no netrc from the environment.
"""

import asyncio
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from ringback.jobs.http.connection import MAX_RESPONSE_BYTES, MAX_RESPONSE_HEADER_BYTES, DeadlinePassed, Exchange
from ringback.jobs.http.dns import Lookup, default_lookup
from ringback.jobs.http.error_mapping import EXPECTED, outcome_of
from ringback.jobs.http.pool import ConnectRefused, GuardedResolver, Pool, make_tls_context
from ringback.jobs.http.request import Headers, OutgoingRequest
from ringback.jobs.outcomes import BadResponse, Blocked, HttpResponse, Outcome, RenderFailed, TimedOut, judge
from ringback.models.security.address_policy import AddressPolicy


class SendWithheld(Exception):
    """The caller no longer allows the request; nothing was sent."""


class Sent(NamedTuple):
    """How a request ended, the request itself (None if nothing was sent), and how long it took, in whole ms."""

    outcome: Outcome
    request: OutgoingRequest | None
    duration_ms: int


class Sender:
    """Sends requests over kept-alive connections; an async context manager, to be entered on the loop that it serves.

    `lookup` (closed at the end) and `tls` default to `default_lookup()` and `make_tls_context()`. Leave it when no send
    is under way any more: closing breaks it off.
    """

    def __init__(
        self, policy: AddressPolicy, *, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        #: The hosts of a few webhooks, over and over.
        self._refusal_for_host = lru_cache(4_096)(policy.refusal_for_host)
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
        may_send: Callable[[], bool] = lambda: True,
    ) -> Sent:
        """Send `request` once and return how that ended; raises nothing that a target, name or endpoint can cause.

        `accepts` is the success policy for a status. `unguarded` leaves the address policy out: it is for Ringback's
        own inbox addresses only, and the caller knows them. `may_send` is asked when there is a connection; raises
        SendWithheld if it says no. Cancellation passes through, and closes the connection.
        """
        started = time.monotonic()
        outcome = self._refusal(request, unguarded=unguarded)
        if outcome is not None:
            return Sent(outcome, None, _milliseconds_since(started))
        pool = self._unguarded if unguarded else self._guarded
        template, values, body = request
        exchange: Exchange | None = None
        sent: OutgoingRequest | None = None
        deadline = self._loop.time() + timeout_seconds
        try:
            exchange = pool.idle(template.url)
            if exchange is None:
                exchange = await _connect(pool, template.url, deadline)
            if not may_send():
                raise SendWithheld
            answer = exchange.ask(template.head(values, request.length), body, deadline)
            sent = request
            await answer
            outcome = _outcome(exchange, accepts)
        except DeadlinePassed:
            partial = _answer(exchange, whole=False) if exchange is not None and exchange.status else None
            outcome = TimedOut(f"No complete answer within {timeout_seconds:g} s.", partial)
        except EXPECTED as error:
            partial = _answer(exchange, whole=False) if exchange is not None and exchange.status else None
            outcome = outcome_of(error, template.url, partial)
        finally:
            if exchange is not None:
                pool.give_back(exchange)
        return Sent(outcome, sent, _milliseconds_since(started))

    def _refusal(self, request: OutgoingRequest, *, unguarded: bool) -> Outcome | None:
        """Why a request is not even tried, or None."""
        fault = request.fault
        if fault is not None:
            return RenderFailed(fault)
        refused = None if unguarded else self._refusal_for_host(request.template.host)
        return Blocked(refused) if refused is not None else None

    def _guarded_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        refusal = self._policy.refusal(ip_address(address[0]))
        if refusal is not None:
            raise ConnectRefused(refusal)
        return socket.socket(family, kind, protocol)


async def _connect(pool: Pool, url: URL, deadline: float) -> Exchange:
    """Return a connection; raises DeadlinePassed, and what aiohttp and the system raise."""
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            return await pool.connect(url)
    except TimeoutError as error:
        if limit.expired():
            raise DeadlinePassed from error
        raise  # the system's own


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


# -------------------------------------------------------------------------------------------------------- the answer


def _outcome(exchange: Exchange, accepts: Callable[[int], bool]) -> Outcome:
    if exchange.header_bytes > MAX_RESPONSE_HEADER_BYTES:
        return BadResponse(f"The endpoint answered {exchange.status} with more than 32 KiB of headers.")
    answer = _answer(exchange, whole=True)
    if exchange.status == 101:
        return BadResponse("The endpoint answered 101 and switched protocols; nobody asked it to.", answer)
    return judge(answer, accepts)


def _answer(exchange: Exchange, *, whole: bool) -> HttpResponse:
    """What has arrived as an Answer; its body is cut to MAX_RESPONSE_BYTES and decoded."""
    body = exchange.body
    headers = tuple(exchange.headers)
    cut = len(body) > MAX_RESPONSE_BYTES
    decoded_whole = True
    if body:
        body, decoded_whole = _decoded(body[:MAX_RESPONSE_BYTES], _content_encoding(headers))
    return HttpResponse(exchange.status, headers, body, body_truncated=cut or not whole or not decoded_whole)


def _content_encoding(headers: Headers) -> str:
    return next((value.strip().lower() for name, value in headers if name.lower() == "content-encoding"), "")


def _decoded(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """Return a body decoded from gzip or deflate, at most MAX_RESPONSE_BYTES of it, and whether that is the whole.

    What cannot be decoded is returned as it came: it is kept to be looked at, and its status decides.
    """
    if not body or encoding not in ("gzip", "x-gzip", "deflate"):
        return body, True
    # Some servers send "deflate" without zlib's header, whose first byte ends in 8 (RFC 1950, section 2.2).
    window = (
        zlib.MAX_WBITS | 16 if encoding != "deflate" else zlib.MAX_WBITS if body[0] & 0x0F == 8 else -zlib.MAX_WBITS
    )
    decoder = zlib.decompressobj(window)
    try:
        plain = decoder.decompress(body, MAX_RESPONSE_BYTES + 1)
    except zlib.error:
        return body, True
    return plain[:MAX_RESPONSE_BYTES], decoder.eof and len(plain) <= MAX_RESPONSE_BYTES
