"""Answers of GraphQL over HTTP: one body of JSON, and the headers that all answers have.

With `application/graphql-response+json` what was refused is a 400, with `application/json` a 200: clients of that type
cannot tell our errors from those of a proxy (GraphQL over HTTP, 6.4).
"""

from typing import Final, NamedTuple

import orjson
from graphql import GraphQLError
from starlette.types import Receive, Send

from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.content_negotiation import Format
from ringback.graphql_api.transport.requests import Header

#: Browsers on other sites may read the answers: what counts is the bearer token, which no browser sends by itself.
SHARED: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"access-control-allow-origin", b"*"),
    (b"vary", b"Accept"),
)
_HEADERS: Final = {
    name: ((b"content-type", f"{name.value}; charset=utf-8".encode()), *SHARED)
    for name in (Format.JSON, Format.RESPONSE)
}


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    format: Format
    headers: tuple[Header, ...] = ()

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Send it."""
        length = (b"content-length", b"%d" % len(self.body))
        headers = [*_HEADERS[self.format], length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def graphql_response(answer: ExecutionResponse, format: Format) -> Reply:
    """The reply to a well-formed request."""
    return Reply(400 if format is Format.RESPONSE and not answer.executed else 200, answer.json, format)


def error_reply(status: int, error: GraphQLError, format: Format, *headers: Header) -> Reply:
    """The reply to a request that is none of GraphQL's, or that could not be looked at."""
    return Reply(status, orjson.dumps({"errors": [error.formatted]}), format, headers)
