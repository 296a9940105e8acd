"""Single responses of GraphQL over HTTP: a JSON body and the headers that all responses share.

A request that is not executed gets status 400 with `application/graphql-response+json` and 200 with `application/json`:
clients of the latter cannot tell our errors from those of a proxy (GraphQL over HTTP, 6.4).
"""

from typing import Final, NamedTuple

import orjson
from graphql import GraphQLError
from starlette.types import Receive, Send

from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.content_negotiation import Format
from ringback.graphql_api.transport.requests import Header

#: Any origin may read responses: requests are authenticated by a bearer token, which browsers never add by themselves.
COMMON_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"access-control-allow-origin", b"*"),
    (b"vary", b"Accept"),
)
_HEADERS: Final = {
    media_type: ((b"content-type", f"{media_type.value}; charset=utf-8".encode()), *COMMON_HEADERS)
    for media_type in (Format.JSON, Format.RESPONSE)
}


class Reply(NamedTuple):
    """A complete HTTP response."""

    status: int
    body: bytes
    format: Format
    headers: tuple[Header, ...] = ()

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Send head and body."""
        length = (b"content-length", b"%d" % len(self.body))
        headers = [*_HEADERS[self.format], length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def graphql_response(response: ExecutionResponse, format: Format) -> Reply:
    """Return the reply to a well-formed request."""
    status = 400 if format is Format.RESPONSE and not response.executed else 200
    return Reply(status, response.json, format)


def error_reply(status: int, error: GraphQLError, format: Format, *headers: Header) -> Reply:
    """Return the reply to a malformed request, or to one that failed before its execution."""
    return Reply(status, orjson.dumps({"errors": [error.formatted]}), format, headers)
