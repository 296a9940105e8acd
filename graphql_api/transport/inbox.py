"""/inbox/{token}: accept every method that llhttp parses, store the request, send the inbox's next response.

Users choose the content of these responses, and they share an origin with GraphiQL: hence `sandbox` and `nosniff`.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.transport.request_body import TooLarge, read_limited_body
from ringback.models.services.inboxes import Inboxes, Received
from ringback.models.templates.charset import encode_body

HEADERS = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
#: The longest request body that is stored.
MAX_BODY_BYTES = 1024 * 1024
#: Statuses whose responses have no body (RFC 9110).
_BODILESS = (204, 205, 304)


class InboxEndpoint:
    """The ASGI endpoint of all inboxes. It is an object because Starlette limits the methods of functions."""

    def __init__(self, inboxes: Inboxes) -> None:
        self._inboxes = inboxes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store one request and send the inbox's response."""
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        content_length = request.headers.get("content-length")
        declared = content_length.encode() if content_length else None
        try:
            body = await read_limited_body(request.receive, declared, MAX_BODY_BYTES)
        except TooLarge:
            return PlainTextResponse(f"The body is longer than {MAX_BODY_BYTES:,} bytes, the limit.\n", 413, HEADERS)
        except ClientDisconnect:
            return Response(status_code=400)
        answer = await self._inboxes.receive(request.path_params["token"], _received_request(request, body))
        if answer is None:
            return PlainTextResponse("There is no inbox at this address.\n", 404, HEADERS)
        await asyncio.sleep(answer.delay_ms / 1000)
        content = b"" if answer.status_code in _BODILESS else encode_body(answer.body, answer.content_type)
        return Response(content, answer.status_code, {**HEADERS, "Content-Type": answer.content_type})


def _received_request(request: Request, body: bytes) -> Received:
    url = request.scope.get("raw_path") or request.scope["path"].encode()
    if request.scope["query_string"]:
        url += b"?" + request.scope["query_string"]
    remote_address = request.client.host if request.client else None
    return Received(
        method=request.method,
        url=url.decode("latin-1"),
        headers=tuple((name.decode("latin-1"), _header_text(value)) for name, value in request.scope["headers"]),
        body=body,
        remote_address=remote_address,
    )


def _header_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
