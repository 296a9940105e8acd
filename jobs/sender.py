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

import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from ringback.jobs.connections import GuardedResolver, Pool, Refused, new_pool, trusted_tls
from ringback.jobs.deadlines import Block, Deadline, Deadlines
from ringback.jobs.exchange import (
    MAX_RESPONSE_BYTES,
    MAX_RESPONSE_HEADER_BYTES,
    Exchange,
    Headers,
    frame,
    length_header,
    lines,
)
from ringback.jobs.failures import EXPECTED, outcome_of
from ringback.jobs.names import Lookup, default_lookup
from ringback.jobs.outcomes import (
    Answer,
    BadResponse,
    Blocked,
    Outcome,
    RenderFailed,
    TimedOut,
    judge,
)
from ringback.models.addresses import AddressPolicy

#: Headers that say how the message is framed or the connection used; only aiohttp can set them truthfully.
FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)


class OutgoingRequest(NamedTuple):
    """A request that is ready to be sent; `body` None sends none (and no Content-Type unless `headers` has one)."""

    method: str
    url: URL
    headers: Headers = ()
    body: bytes | None = None


class Sent(NamedTuple):
    """How a request ended, the headers that went out (None when nothing did), and how long it took, in whole ms."""

    outcome: Outcome
    headers: Headers | None
    duration_ms: int


class Sender:
    """Sends requests over kept-alive connections; an async context manager, to be entered on the loop that it serves.

    `lookup` (closed at the end) and `tls` default to `default_lookup()` and `trusted_tls()`. Leave it when no send is
    under way any more: closing breaks it off.
    """

    def __init__(
        self, policy: AddressPolicy, *, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        #: The hosts of a few webhooks, over and over.
        self._refusal_for_host = lru_cache(4_096)(policy.refusal_for_host)
        self._deadlines = Deadlines()
        self._lookup = lookup
        self._tls = tls or trusted_tls()

    async def __aenter__(self) -> Self:
        self._lookup = self._lookup or default_lookup()
        self._guarded = new_pool(GuardedResolver(self._lookup, self._policy), self._tls, self._guarded_socket)
        self._unguarded = new_pool(GuardedResolver(self._lookup, None), self._tls, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
    ) -> Sent:
        """Send `request` once and return how that ended; raises nothing that a target, name or endpoint can cause.

        `accepts` is the success policy for a status. `unguarded` leaves the address policy out: it is for Ringback's
        own inbox addresses only, and the caller knows them. Cancellation passes through, and closes the connection.
        """
        started = time.monotonic()
        names = tuple([name for name, _ in request.headers])
        refusal = _refusal(request, names, None if unguarded else self._refusal_for_host)
        headers: Headers | None = None
        if refusal is not None:
            outcome: Outcome = refusal
        else:
            pool = self._unguarded if unguarded else self._guarded
            outcome, headers = await self._exchange(pool, request, names, timeout_seconds, accepts)
        return Sent(outcome, headers, round((time.monotonic() - started) * 1000))

    async def _exchange(
        self,
        pool: Pool,
        request: OutgoingRequest,
        names: tuple[str, ...],
        seconds: float,
        accepts: Callable[[int], bool],
    ) -> tuple[Outcome, Headers | None]:
        """How an exchange ended, and the headers that went out."""
        exchange: Exchange | None = None
        deadline: Deadline | Block | None = None
        sent: Headers | None = None
        try:
            left = seconds
            exchange = pool.idle(request.url)
            if exchange is None:
                end = time.monotonic() + seconds
                async with (deadline := self._deadlines.within(seconds)):
                    exchange = await pool.connect(request.url)
                left = end - time.monotonic()
            common = frame(request.method, request.url, names)
            own = request.headers + length_header(request.method, request.body)
            head = f"{common.line}{common.before_lines}{lines(own)}\r\n".encode()
            answer = exchange.ask(request.method, head, request.body)
            sent = common.before + own
            deadline = self._deadlines.set(left, exchange.time_out)
            try:
                await answer
            finally:
                self._deadlines.clear(deadline)
            return _outcome(exchange, accepts), sent
        except EXPECTED as error:
            partial = _answer(exchange, whole=False) if exchange is not None and exchange.status else None
            if deadline is not None and deadline.expired:
                return TimedOut(f"No complete answer within {seconds:g} s.", partial), sent
            return outcome_of(error, request.url, partial), sent
        finally:
            if exchange is not None:
                pool.give_back(exchange)

    def _guarded_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        refusal = self._policy.refusal(ip_address(address[0]))
        if refusal is not None:
            raise Refused(refusal)
        return socket.socket(family, kind, protocol)


# -------------------------------------------------------------------------------------------------------- the answer


def _outcome(exchange: Exchange, accepts: Callable[[int], bool]) -> Outcome:
    if exchange.header_bytes > MAX_RESPONSE_HEADER_BYTES:
        return BadResponse(f"The endpoint answered {exchange.status} with more than 32 KiB of headers.")
    answer = _answer(exchange, whole=True)
    if exchange.status == 101:
        return BadResponse("The endpoint answered 101 and switched protocols; nobody asked it to.", answer)
    return judge(answer, accepts)


def _answer(exchange: Exchange, *, whole: bool) -> Answer:
    """What has arrived as an Answer; its body is cut to MAX_RESPONSE_BYTES and decoded."""
    body = exchange.body
    headers = tuple(exchange.headers)
    cut = len(body) > MAX_RESPONSE_BYTES
    decoded_whole = True
    if body:
        body, decoded_whole = _decoded(body[:MAX_RESPONSE_BYTES], _content_encoding(headers))
    return Answer(exchange.status, headers, body, body_truncated=cut or not whole or not decoded_whole)


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


# --------------------------------------------------------------------------------------------- before anything is sent

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def _refusal(
    request: OutgoingRequest, names: tuple[str, ...], refusal_for_host: Callable[[str], str | None] | None
) -> RenderFailed | Blocked | None:
    """Return why a request is not even tried, or None. Here stands what aiohttp would send wrongly, or not explain."""
    fault = _fault(request.method, request.url, names) or _value_fault(request.headers)
    if fault is not None:
        return RenderFailed(fault)
    refused = refusal_for_host(request.url.raw_host or "") if refusal_for_host is not None else None
    return Blocked(refused) if refused is not None else None


@lru_cache(16_384)
def _fault(method: str, url: URL, names: tuple[str, ...]) -> str | None:
    if url.scheme not in ("http", "https") or not url.raw_host:
        return "The URL is not one of http:// or https:// with a host."
    if url.raw_user is not None or url.raw_password is not None:
        return "The URL carries credentials; they belong in a header."
    if not _TOKEN.fullmatch(method):
        return f"{method!r} is not an HTTP method."
    for name in names:
        if not _TOKEN.fullmatch(name):
            return f"{name!r} is not a header name."
        if name.lower() in FRAMING_HEADERS:
            return f"The header {name} is set by Ringback itself."
    return None


def _value_fault(headers: Headers) -> str | None:
    # Nearly all are printable, and seen to be so together.
    if not "".join([value for _, value in headers]).isprintable():
        for name, value in headers:
            if _CONTROL.search(value):
                return f"The value of the header {name} contains a line break or another control character."
    return None
