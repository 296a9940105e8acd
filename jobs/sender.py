"""Sends one request and says how it ended: aiohttp behind the address guard, every failure mapped to an Outcome.

What this promises, and how:

- Deliveries reach only what the AddressPolicy allows. The guard stands in `socket_factory`, which sees the address of
  each connect, after DNS, however the host was spelled (aiohttp asks no resolver about IP literals). The resolver
  refuses early too: there the name is known, so the sentence can say it. Of a name with public and private addresses
  only the public ones are tried.
- One `send` puts at most one request on the wire. aiohttp repeats GET, PUT and DELETE when a connection breaks; `watch`
  keeps it from that.
- One clock, `asyncio.timeout`, covers everything: DNS, waiting for a place in the pool, connecting, TLS, a dripping
  body. (aiohttp's own rounds timeouts of 5 s and more up to whole seconds of the loop's clock.)
- No answer can fill the memory: at most MAX_RESPONSE_BYTES are read, and as many decoded; what is longer is cut off.
- Nothing is kept between requests but idle connections: no cookies; no proxy and no netrc from the environment.
"""

import asyncio
import io
import re
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from os.path import isdir, isfile
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeAlias

import aiodns
import aiohttp
import pycares
from aiohttp import http_exceptions
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from ringback.jobs.outcomes import (
    Answer,
    BadResponse,
    Blocked,
    Outcome,
    RenderFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
    judge,
)
from ringback.models.addresses import AddressPolicy
from ringback.models.errors import AddressBlocked
from yarl import URL

#: Bytes of a response body that are read, and kept after decoding; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 64 * 1024
#: Bytes of a request body from which it is written in pieces; aiohttp warns of longer ones.
LONG_BODY_BYTES = 1024 * 1024
#: Bytes of response headers, names and values together. (aiohttp's own limits are 8,190 a header and 128 headers.)
MAX_RESPONSE_HEADER_BYTES = 32 * 1024
#: Connections in use at once, to all endpoints together; a request beyond them waits, within its timeout. None for one
#: host: whoever makes the batches decides that.
MAX_CONNECTIONS = 1_000
#: Seconds an idle connection is kept: less than the 5 s after which common servers (Node, uvicorn) close theirs, so
#: that a request seldom meets a connection that is just being closed.
KEEP_ALIVE_SECONDS = 4.0
#: Seconds a connection rests before it is used again: time to notice that the endpoint closed it after its answer.
SETTLE_SECONDS = 0.01
#: Seconds that the first DNS query may take (c-ares doubles them for the next), and the number of queries to a server:
#: what ends a lookup whose sender has long given up.
DNS_TIMEOUT_SECONDS = 1.0
DNS_TRIES = 2
#: Threads of the fallback resolver, which blocks one for each lookup.
DNS_THREADS = 16
#: Headers that go out although the caller did not give them, besides Host and Content-Length.
AUTOMATIC_HEADERS = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"))
#: Headers that say how the message is framed or the connection used; only aiohttp can set them truthfully.
FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)

Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request that is ready to be sent; `body` None sends none (and no Content-Type unless `headers` has one)."""

    method: str
    url: URL
    headers: Headers = ()
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """How a request ended, the headers that went out (None when nothing did), and how long it took, in whole ms."""

    outcome: Outcome
    headers: Headers | None
    duration_ms: int


class Lookup(Protocol):
    """Finds the addresses of host names."""

    async def addresses(self, name: str) -> Sequence[str]:
        """Return the addresses of `name` as text, best first; raises LookupFailed."""

    async def close(self) -> None:
        """Give up what is under way and free what is held."""


class LookupFailed(OSError):
    """A name has no address; the message is a sentence. An OSError, as aiohttp expects of a resolver."""


class Sender:
    """Sends requests over kept-alive connections; an async context manager, to be entered on the loop that it serves.

    `lookup` (closed at the end) and `tls` default to `default_lookup()` and `trusted_tls()`. Leave it when no send is
    under way any more: closing breaks it off.
    """

    def __init__(
        self, policy: AddressPolicy, *, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        self._lookup = lookup
        self._tls = tls or trusted_tls()

    async def __aenter__(self) -> Self:
        self._lookup = self._lookup or default_lookup()
        self._guarded = _session(_Resolver(self._lookup, self._policy), self._tls, self._guarded_socket)
        self._unguarded = _session(_Resolver(self._lookup, None), self._tls, None)
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
        progress = _Progress()
        refusal = _refusal(request, None if unguarded else self._policy)
        if refusal is not None:
            outcome: Outcome = refusal
        else:
            session = self._unguarded if unguarded else self._guarded
            outcome = await _exchange(session, request, timeout_seconds, accepts, progress)
        return Sent(outcome, progress.headers_sent, round((time.monotonic() - started) * 1000))

    def _guarded_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        refusal = self._policy.refusal(ip_address(address[0]))
        if refusal is not None:
            raise _Refused(refusal)
        return socket.socket(family, kind, protocol)


# -------------------------------------------------------------------------------------------------------- the exchange


@dataclass(slots=True)
class _Progress:
    """What is known of an exchange so far, whatever ends it."""

    headers_sent: Headers | None = None
    status: int = 0
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)

    async def watch(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Stand around one request inside aiohttp: note the headers that went out, and allow no second request.

        aiohttp would send an idempotent request again when its connection breaks. An attempt is one request, so that
        each one is on record.
        """
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _Broken(error) from error
        finally:
            if request.response is not None:  # set as the headers are written
                self.headers_sent = tuple(request.headers.items())

    def answer(self, *, whole: bool) -> Answer:
        """Return what has arrived as an Answer; its body is cut to MAX_RESPONSE_BYTES and decoded."""
        cut = len(self.body) > MAX_RESPONSE_BYTES
        body, decoded_whole = _decoded(bytes(self.body[:MAX_RESPONSE_BYTES]), _content_encoding(self.headers))
        return Answer(self.status, self.headers, body, body_truncated=cut or not whole or not decoded_whole)

    def partial_answer(self) -> Answer | None:
        """Return what has arrived before something went wrong, None when that is not even a status."""
        return self.answer(whole=False) if self.status else None


async def _exchange(
    session: aiohttp.ClientSession,
    request: OutgoingRequest,
    timeout_seconds: float,
    accepts: Callable[[int], bool],
    progress: _Progress,
) -> Outcome:
    clock = asyncio.timeout(timeout_seconds)
    try:
        async with clock:
            response = await session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=_payload(request.body),
                allow_redirects=False,
                middlewares=(progress.watch,),
            )
            try:
                complaint = await _read(response, progress)
            finally:
                # A response that was read to its end has given its connection back already; any other loses it here.
                response.close()
    except _EXPECTED as error:
        if clock.expired():
            return TimedOut(f"No complete answer within {timeout_seconds:g} s.", progress.partial_answer())
        return outcome_of(error, request.url, progress.partial_answer())
    return complaint or judge(progress.answer(whole=True), accepts)


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp wants it: a long one as a file, which it writes in pieces between which others run."""
    return body if body is None or len(body) <= LONG_BODY_BYTES else io.BytesIO(body)


async def _read(response: aiohttp.ClientResponse, progress: _Progress) -> BadResponse | None:
    """Read an answer into `progress`, as much as is kept of it; return what makes it no proper answer, if anything."""
    progress.headers = tuple(
        (name.decode("utf-8", "replace"), value.decode("utf-8", "replace")) for name, value in response.raw_headers
    )
    if sum(len(name) + len(value) for name, value in progress.headers) > MAX_RESPONSE_HEADER_BYTES:
        progress.headers = ()
        return BadResponse(f"The endpoint answered {response.status} with more than 32 KiB of headers.")
    progress.status = response.status
    if response.status == 101:
        return BadResponse(
            "The endpoint answered 101 and switched protocols; nobody asked it to.", progress.answer(whole=True)
        )
    while len(progress.body) <= MAX_RESPONSE_BYTES:
        chunk = await response.content.read(MAX_RESPONSE_BYTES + 1 - len(progress.body))
        if not chunk:
            break
        progress.body += chunk
    return None


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


def _refusal(request: OutgoingRequest, policy: AddressPolicy | None) -> RenderFailed | Blocked | None:
    """Return why a request is not even tried, or None. Here stands what aiohttp would send wrongly, or not explain."""
    url = request.url
    if url.scheme not in ("http", "https") or not url.raw_host:
        return RenderFailed("The URL is not one of http:// or https:// with a host.")
    if url.raw_user is not None or url.raw_password is not None:
        return RenderFailed("The URL carries credentials; they belong in a header.")
    if not _TOKEN.fullmatch(request.method):
        return RenderFailed(f"{request.method!r} is not an HTTP method.")
    for name, value in request.headers:
        if not _TOKEN.fullmatch(name):
            return RenderFailed(f"{name!r} is not a header name.")
        if name.lower() in FRAMING_HEADERS:
            return RenderFailed(f"The header {name} is set by Ringback itself.")
        if _CONTROL.search(value):
            return RenderFailed(f"The value of the header {name} contains a line break or another control character.")
    refused = policy.refusal_for_host(url.raw_host) if policy is not None else None
    return Blocked(refused) if refused is not None else None


# ------------------------------------------------------------------------------------------------- what aiohttp raises


class _Broken(Exception):
    """Carries a connection's failure past aiohttp, which would repeat the request for it."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__(str(error))
        self.error = error


class _Failure(NamedTuple):
    error: BaseException
    url: URL
    answer: Answer | None

    @property
    def peer(self) -> str:
        return f"{self.url.host_subcomponent}:{self.url.port}"


def _timed_out(failure: _Failure) -> Outcome:
    return TimedOut(f"{failure.peer} did not answer in time.", failure.answer)


def _tls_failed(failure: _Failure) -> Outcome:
    error = getattr(failure.error, "os_error", failure.error)
    reason = str(getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()
    reason = getattr(error, "verify_message", None) or reason
    return TlsFailed(f"TLS with {failure.peer} failed: {_line(reason)}.")


def _not_connected(failure: _Failure) -> Outcome:
    error = getattr(failure.error, "os_error", failure.error)
    if failure.answer is not None:
        return _broken_off(failure)
    if isinstance(error, AddressBlocked):
        return Blocked(str(error))
    if isinstance(error, LookupFailed):
        return Unreachable(str(error))
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"Connection refused by {failure.peer}.")
    if isinstance(error, ConnectionResetError) and failure.url.scheme == "https":
        return TlsFailed(f"TLS with {failure.peer} failed: the connection was closed during the handshake.")
    reason = getattr(error, "strerror", None) or str(error) or "it was closed at once"
    return Unreachable(f"No connection to {failure.peer}: {_line(reason)}.")


def _not_http(failure: _Failure) -> Outcome:
    error = failure.error
    reason = getattr(error, "message", "") or str(error) or "no HTTP"
    return BadResponse(f"What {failure.peer} answered is not valid HTTP: {_line(reason)}.", failure.answer)


def _broken_off(failure: _Failure) -> Outcome:
    if isinstance(failure.error.__cause__, ssl.SSLError):
        return _tls_failed(failure._replace(error=failure.error.__cause__))
    return BadResponse(f"{failure.peer} closed the connection before its answer was complete.", failure.answer)


def _cannot_send(failure: _Failure) -> Outcome:
    return RenderFailed(f"The request cannot be sent: {_line(str(failure.error))}.")


# The ONE place where foreign errors become outcomes; the first match counts, so subclasses stand before their bases.
_OUTCOMES: tuple[tuple[tuple[type[BaseException], ...], Callable[[_Failure], Outcome]], ...] = (
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError), _tls_failed),
    ((aiohttp.ServerTimeoutError,), _timed_out),
    ((AddressBlocked, aiohttp.ClientConnectorError), _not_connected),
    ((aiohttp.ClientPayloadError, aiohttp.UploadAbortedError), _broken_off),
    ((aiohttp.ClientResponseError, http_exceptions.HttpProcessingError), _not_http),
    ((aiohttp.InvalidURL, aiohttp.RedirectClientError, aiohttp.NonHttpUrlClientError), _cannot_send),
    ((aiohttp.ClientConnectionError,), _broken_off),
    ((ValueError,), _cannot_send),
    # uvloop raises RuntimeError where asyncio raises OSError. ClientError stands for what a later aiohttp may add.
    ((OSError, RuntimeError, aiohttp.ClientError), _not_connected),
)
_EXPECTED: tuple[type[BaseException], ...] = (_Broken, *(kind for kinds, _ in _OUTCOMES for kind in kinds))


def outcome_of(error: BaseException, url: URL, answer: Answer | None = None) -> Outcome:
    """Return the outcome that an error of aiohttp or the system means; `answer` is what had arrived before it.

    An error that is none of theirs is raised: it is a defect here.
    """
    if isinstance(error, _Broken):
        error = error.error
    for kinds, make in _OUTCOMES:
        if isinstance(error, kinds):
            return make(_Failure(error, url, answer))
    raise error


def _line(text: str) -> str:
    """Return the first line of a foreign message, short and without the full stop that the sentence will add."""
    return text.strip().partition("\n")[0].strip().rstrip(".:")[:200]


# --------------------------------------------------------------------------------------------------- sessions and names


class _Refused(AddressBlocked, OSError):
    """The guard's refusal inside aiohttp, which takes errors of sockets and resolvers only as OSError."""


def _session(
    resolver: AbstractResolver, tls: ssl.SSLContext, socket_factory: aiohttp.SocketFactoryType | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_Connector(
            resolver=resolver,
            ssl=tls,
            socket_factory=socket_factory,
            limit=MAX_CONNECTIONS,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        ),
        headers=AUTOMATIC_HEADERS,
        skip_auto_headers=("User-Agent", "Content-Type"),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=MAX_RESPONSE_BYTES // 2,
        auto_decompress=False,
        trust_env=False,
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


class _Resolver(AbstractResolver):
    """A Lookup as aiohttp wants it, with the addresses left out that `policy` refuses; policy None refuses none."""

    def __init__(self, lookup: Lookup, policy: AddressPolicy | None) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup.addresses(host)
        if not addresses:
            raise LookupFailed(f"The name {host} does not resolve.")
        refusals = [self._policy and self._policy.refusal(ip_address(address), host) for address in addresses]
        if all(refusals):
            raise _Refused(refusals[0])
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address, refusal in zip(addresses, refusals, strict=True)
            if refusal is None
        ]

    async def close(self) -> None:
        """Leave the lookup to the Sender, whose two sessions share it."""


class DnsLookup:
    """Names by c-ares, which knows /etc/hosts and blocks no thread: a name that hangs does not delay the others."""

    def __init__(self) -> None:
        self._dns = aiodns.DNSResolver(timeout=DNS_TIMEOUT_SECONDS, tries=DNS_TRIES)

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of `name`; raises LookupFailed."""
        try:
            found = await self._dns.getaddrinfo(name, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except aiodns.error.DNSError as error:
            raise _lookup_failed(name, error, error.args[0] in _NO_SUCH_NAME) from error
        return [node.addr[0].decode("ascii") for node in found.nodes]

    async def close(self) -> None:
        """Cancel the queries that are under way and end c-ares's thread."""
        await self._dns.close()


_NO_SUCH_NAME = (aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA, aiodns.error.ARES_EBADNAME)


class SystemLookup:
    """Names by the system's getaddrinfo, on a few threads of its own: the fallback where c-ares cannot start."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="ringback-dns")

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of `name`; raises LookupFailed."""

        def look_up() -> list[str]:
            return [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except OSError as error:
            raise _lookup_failed(name, error, error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)) from error
        except UnicodeError as error:  # getaddrinfo encodes the name with IDNA, also one that is ASCII already
            raise _lookup_failed(name, error, no_such_name=True) from error

    async def close(self) -> None:
        """Start no further lookup; one that hangs ends when the system gives it up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def default_lookup() -> Lookup:
    """Return c-ares for the running loop, or the system's resolver where c-ares cannot start."""
    try:
        return DnsLookup()
    except (pycares.AresError, OSError, RuntimeError):
        return SystemLookup()


def _lookup_failed(name: str, error: Exception, no_such_name: bool) -> LookupFailed:
    if no_such_name:
        return LookupFailed(f"The name {name} does not resolve.")
    return LookupFailed(f"The name {name} could not be looked up: {_line(str(error.args[-1]))}.")


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
