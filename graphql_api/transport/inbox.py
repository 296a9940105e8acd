"""/inbox/{token}: accept every method that llhttp parses, store the request, send the inbox's next response.

Users choose the content of these responses, and they share an origin with GraphiQL: hence `sandbox`, and GraphiQL's
policy names no inbox as a source.
A client needs no token, only the URL: so no body is read unless the inbox exists, or had a request recently, and each
inbox has its own limits.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from cachetools import LRUCache
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ringback.graphql_api.listener.byte_budget import release_request
from ringback.graphql_api.listener.client_slots import name_client
from ringback.graphql_api.listener.http_limits import count_header_bytes
from ringback.graphql_api.transport.request_body import TooLarge, read_limited_body
from ringback.models.services.inboxes import Inboxes, InboxResponse, Received, RequestTooLarge
from ringback.models.templates.charset import encode_body

HEADERS = {"Content-Security-Policy": "sandbox", "Cache-Control": "no-store"}
#: The longest request body that is stored.
MAX_BODY_BYTES = 1024 * 1024
#: Requests of one inbox that this process reads or stores at the same time, and the bytes of their heads and bodies.
MAX_OPEN_REQUESTS, MAX_OPEN_BYTES = 1_000, 8 * MAX_BODY_BYTES
#: The same bytes of all inboxes together.
MAX_TOTAL_OPEN_BYTES = 24 * MAX_BODY_BYTES
#: Bytes of a head or a body that are accepted even then: bodies that stall must not keep small ones out.
SMALL_BODY_BYTES = 16_384
#: Inboxes whose rates are remembered. One that is forgotten starts with a full bucket.
MAX_RATES = 4_096
#: Inboxes without a recent request that one client may ask for per second. Strangers could ask for more than the
#: database finds.
MAX_LOOK_UPS_PER_SECOND = 200
#: Statuses whose responses have no body (RFC 9110).
_BODILESS = (204, 205, 304)
_ONE_SECOND: Final = {"Retry-After": "1"}


_NO_INBOX: Final = "There is no inbox at this address."
_TOO_MANY_INBOXES: Final = (
    f"Your address asks for more than {MAX_LOOK_UPS_PER_SECOND} different inboxes per second, a fixed limit."
)


class InboxBusy(Exception):
    """An inbox that cannot take a request now. The message says which limit it has reached."""


class OpenRequests:
    """The requests that are read or stored, and the bytes of their heads and bodies, by inbox."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._total_bytes = 0

    @contextmanager
    def enter(self, token: str, receive: Receive, head_bytes: int = 0) -> Iterator[Receive]:
        """Count a request and its head while the block runs. Yields a `receive` that counts its body.

        Both raise InboxBusy for a request beyond a limit.
        """
        if self._requests[token] >= MAX_OPEN_REQUESTS:
            raise InboxBusy(f"The inbox is receiving {MAX_OPEN_REQUESTS:,} requests, a fixed limit.")
        self._requests[token] += 1
        self._count_bytes(token, head_bytes)
        held_bytes = 0

        async def receive_counted() -> Message:
            nonlocal held_bytes
            message = await receive()
            # The rest of a longer body is discarded.
            count = min(len(message.get("body", b"")), MAX_BODY_BYTES - held_bytes)
            held_bytes += count
            self._count_bytes(token, count)
            if held_bytes > SMALL_BODY_BYTES:
                self._check_bytes(token)
            return message

        try:
            if head_bytes > SMALL_BODY_BYTES:
                self._check_bytes(token)
            yield receive_counted
        finally:
            self._requests[token] -= 1
            self._count_bytes(token, -head_bytes - held_bytes)
            if not self._requests[token]:
                del self._requests[token], self._bytes[token]

    def _count_bytes(self, token: str, change: int) -> None:
        self._bytes[token] += change
        self._total_bytes += change

    def _check_bytes(self, token: str) -> None:
        if self._bytes[token] > MAX_OPEN_BYTES:
            raise InboxBusy(f"The inbox is receiving bodies of {MAX_OPEN_BYTES:,} bytes, a fixed limit.")
        if self._total_bytes > MAX_TOTAL_OPEN_BYTES:
            message = f"All inboxes together are receiving bodies of {MAX_TOTAL_OPEN_BYTES:,} bytes, a fixed limit."
            raise InboxBusy(message)


class Rates:
    """Token buckets that hold the requests of one second, by inbox or client. A limit of 0 accepts every request."""

    def __init__(self, requests_per_second: int) -> None:
        self._limit = requests_per_second
        #: When each bucket would be full again, in seconds of the monotonic clock.
        self._full_at: LRUCache[str, float] = LRUCache(MAX_RATES)

    def __contains__(self, key: str) -> bool:
        return key in self._full_at

    def forget(self, key: str) -> None:
        """Remove a bucket."""
        self._full_at.pop(key, None)

    def take(self, key: str) -> bool:
        """Count a request. Return False, and do not count it, if there were too many within the last second."""
        now = time.monotonic()
        full_at = now
        if self._limit:
            full_at = max(self._full_at.get(key, now), now) + 1 / self._limit
        if full_at > now + 1:
            return False
        self._full_at[key] = full_at
        return True


class InboxEndpoint:
    """The ASGI endpoint of all inboxes. It is an object because Starlette limits the methods of functions."""

    def __init__(self, inboxes: Inboxes) -> None:
        self._inboxes = inboxes
        self._open = OpenRequests()
        self._rates = Rates(inboxes.limits.requests_per_second)
        #: Look-ups of inboxes without a recent request, by client.
        self._look_ups = Rates(MAX_LOOK_UPS_PER_SECOND)
        self._rate_message = (
            f"The inbox accepts {inboxes.limits.requests_per_second:,} requests per second. "
            "The operator can raise RINGBACK_INBOX_MAX_REQUESTS_PER_SECOND."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store one request and send the inbox's response."""
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            answer = await self._store(request)
        except InboxBusy as busy:
            return _refusal(429, str(busy), _ONE_SECOND)
        except TooLarge:
            return _refusal(413, f"The body is longer than {MAX_BODY_BYTES:,} bytes, a fixed limit.")
        except RequestTooLarge as too_large:
            return _refusal(413, str(too_large))
        except ClientDisconnect:
            return Response(status_code=400)
        if isinstance(answer, Response):
            return answer
        # The request is stored, so that a delay holds no memory.
        release_request(request.scope)
        await asyncio.sleep(answer.delay_ms / 1000)
        content = b"" if answer.status_code in _BODILESS else encode_body(answer.body, answer.content_type)
        return Response(content, answer.status_code, {**HEADERS, "Content-Type": answer.content_type})

    async def _store(self, request: Request) -> InboxResponse | Response:
        """Store a request and return the inbox's response, or a refusal. Reads the body last."""
        token = request.path_params["token"]
        if token not in self._rates:
            if not self._look_ups.take(_name_client(request)):
                return _refusal(429, _TOO_MANY_INBOXES, _ONE_SECOND)
            if not await self._inboxes.exists(token):
                return _refusal(404, _NO_INBOX)
        if not self._rates.take(token):
            return _refusal(429, self._rate_message, _ONE_SECOND)
        content_length = request.headers.get("content-length")
        declared = content_length.encode() if content_length else None
        head_bytes = len(_url(request)) + count_header_bytes(request.scope["headers"])
        with self._open.enter(token, request.receive, head_bytes) as receive:
            body = await read_limited_body(receive, declared, MAX_BODY_BYTES)
            answer = await self._inboxes.receive(token, _received_request(request, body))
        if answer is None:  # deleted since it was looked up
            self._rates.forget(token)
            return _refusal(404, _NO_INBOX)
        return answer


def _name_client(request: Request) -> str:
    return name_client(request.client.host if request.client else None) or ""


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{message}\n", status, {**HEADERS, **(headers or {})})


def _url(request: Request) -> bytes:
    """Return path and query as received."""
    url: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    if request.scope["query_string"]:
        url += b"?" + request.scope["query_string"]
    return url


def _received_request(request: Request, body: bytes) -> Received:
    remote_address = request.client.host if request.client else None
    return Received(
        method=request.method,
        url=_url(request).decode("latin-1"),
        headers=tuple((name.decode("latin-1"), _header_text(value)) for name, value in request.scope["headers"]),
        body=body,
        remote_address=remote_address,
    )


def _header_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
