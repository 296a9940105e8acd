"""/inbox/{token}: accept every method that llhttp knows, store the request, send the inbox's next response.

The answers are on GraphiQL's origin and their content is anybody's, so they carry a sandbox and `nosniff`.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.transport.request_body import TooLarge, read_limited_body
from ringback.models.services.inboxes import Inboxes, Received

HEADERS = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
#: The longest request, in bytes.
MAX_BODY_BYTES = 1024 * 1024
#: Statuses whose answers have no body (RFC 9110).
_BODILESS = (204, 205, 304)


class InboxEndpoint:
    """ASGI endpoint. Starlette's router limits the methods of functions, not of objects."""

    def __init__(self, inboxes: Inboxes) -> None:
        self._inboxes = inboxes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            declared = request.headers.get("content-length")
            body = await read_limited_body(request.receive, declared.encode() if declared else None, MAX_BODY_BYTES)
        except TooLarge:
            return PlainTextResponse(f"The body is over {MAX_BODY_BYTES:,} bytes.\n", 413, HEADERS)
        except ClientDisconnect:
            return Response(status_code=400)
        answer = await self._inboxes.receive(request.path_params["token"], _received(request, body))
        if answer is None:
            return PlainTextResponse("There is no such inbox.\n", 404, HEADERS)
        await asyncio.sleep(answer.delay_ms / 1000)
        content = b"" if answer.status_code in _BODILESS else answer.body.encode()
        return Response(content, answer.status_code, {**HEADERS, "Content-Type": answer.content_type})


def _received(request: Request, body: bytes) -> Received:
    raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope["query_string"]
    return Received(
        method=request.method,
        url=(raw_path + (b"?" + query if query else b"")).decode("latin-1"),
        headers=tuple((name.decode("latin-1"), _header_text(value)) for name, value in request.scope["headers"]),
        body=body,
        remote_address=request.client.host if request.client else None,
    )


def _header_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
