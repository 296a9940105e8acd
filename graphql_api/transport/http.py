"""/graphql over HTTP: one plain ASGI callable, since a malformed request must never become a 500.

POST and GET execute operations (GraphQL over HTTP), as one answer or as a stream, by what `Accept` names; GET without a
document, or by a browser, shows GraphiQL. What can be made once is made once: this is every request's way.
"""

from collections.abc import AsyncGenerator
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.context.request_context import Context, Services
from ringback.graphql_api.errors import is_database_away, to_graphql_error, unauthenticated
from ringback.graphql_api.execution.engine import (
    Engine,
    ExecutionResponse,
    OperationType,
    RequestRefused,
    error_response,
)
from ringback.graphql_api.transport import graphiql, requests
from ringback.graphql_api.transport.content_negotiation import Accepted, Format, is_json, negotiate
from ringback.graphql_api.transport.multipart import MULTIPART
from ringback.graphql_api.transport.request_body import TooLarge, read_limited_body
from ringback.graphql_api.transport.requests import MalformedRequest, Parameters, malformed_request
from ringback.graphql_api.transport.responses import Reply, error_reply, graphql_response
from ringback.graphql_api.transport.sse import EVENT_STREAM
from ringback.graphql_api.transport.streaming import Framing, Stream, Streams

METHODS: Final = "GET, HEAD, OPTIONS, POST"
#: The headers that we look at.
_LOOKED_AT: Final = frozenset({b"accept", b"authorization", b"content-encoding", b"content-length", b"content-type"})
_FRAMINGS: Final[dict[Format, Framing]] = {Format.EVENTS: EVENT_STREAM, Format.MULTIPART: MULTIPART}
_OTHER_METHOD: Final = (
    "Send operations by POST; queries and subscriptions may come by GET. Each subscription has a connection of its "
    "own: the single connection mode of graphql-sse is not offered."
)
_NO_STREAM: Final = (
    "A subscription needs a stream: a WebSocket (graphql-transport-ws) on this same address, or Accept: "
    'text/event-stream (graphql-sse), or Accept: multipart/mixed;subscriptionSpec="1.0".'
)
_NO_ANSWER: Final = (
    "Answers are sent as application/graphql-response+json, application/json or text/event-stream: name one in Accept."
)

Headers = dict[bytes, bytes]


class GraphQLEndpoint:
    """Answers every HTTP request to /graphql."""

    def __init__(self, engine: Engine, services: Services, streams: Streams) -> None:
        self._engine = engine
        self._services = services
        self._max_body_bytes = engine.limits.body_bytes
        self._streams = streams
        self._options = CORSMiddleware(
            Response(status_code=204, headers={"Allow": METHODS}),
            allow_origins=["*"],
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            max_age=3600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; never raises for what a client sent."""
        method = scope["method"]
        if method == "OPTIONS":
            return await self._options(scope, receive, send)
        headers = _looked_at(scope)
        takes = negotiate(headers.get(b"accept"))
        if method in ("GET", "HEAD") and _wants_page(scope, takes):
            return await graphiql.page()(scope, receive, send)
        reply: Reply | Stream
        try:
            reply = await self._reply(scope, headers, takes, receive)
        except MalformedRequest as wrong:
            reply = error_reply(wrong.status, wrong.error, takes.error, *wrong.headers)
        except ClientDisconnect:
            return None
        except Exception as unexpected:  # such as a database that is away: masked, and in the log with its id
            reply = error_reply(503 if is_database_away(unexpected) else 500, to_graphql_error(unexpected), takes.error)
        return await reply(receive, send)

    async def _reply(self, scope: Scope, headers: Headers, takes: Accepted, receive: Receive) -> Reply | Stream:
        method = scope["method"]
        if method not in ("POST", "GET", "HEAD"):
            raise _not_allowed(_OTHER_METHOD, METHODS)
        if takes.result is None and takes.stream is None:
            raise malformed_request(406, _NO_ANSWER)
        token = await self._services.bearers.bearer(headers.get(b"authorization", b"").decode("latin-1"))
        if token is None:
            raise MalformedRequest(401, unauthenticated(), (b"www-authenticate", b"Bearer"))
        asked = await self._asked(scope, headers, receive)
        context = Context(self._services, token)
        try:
            operation = await self._engine.operation(asked.query, asked.operation_name)
        except RequestRefused as wrong:
            return self._answer(error_response(*wrong.errors), takes.result or takes.stream, context)
        if operation.kind is OperationType.SUBSCRIPTION:
            if takes.stream is None:
                raise malformed_request(406, _NO_STREAM)
            if method == "HEAD":
                raise _not_allowed("Subscriptions are opened by POST or GET.", "GET, POST")
            answers = self._engine.subscribe(operation, asked.variables, context)
            return Stream(_FRAMINGS[takes.stream], answers, context.reauthenticate, self._streams)
        if operation.kind is OperationType.MUTATION and method != "POST":
            raise _not_allowed("Mutations are sent by POST.", "POST")
        if takes.result is None:
            raise malformed_request(406, "Queries and mutations are answered as JSON: add application/json to Accept.")
        answer = await self._engine.execute(operation, asked.variables, context)
        return self._answer(answer, takes.result, context)

    async def _asked(self, scope: Scope, headers: Headers, receive: Receive) -> Parameters:
        if scope["method"] != "POST":
            if len(scope["query_string"]) > self._max_body_bytes:
                raise malformed_request(414, f"The address is over {self._max_body_bytes:,} bytes.", code="TOO_LARGE")
            return requests.of_address(scope["query_string"])
        if not is_json(headers.get(b"content-type", b"")):
            raise malformed_request(415, "Send the request as JSON in UTF-8, with Content-Type: application/json.")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise malformed_request(
                415, "Send the request as it is, without Content-Encoding.", (b"accept-encoding", b"identity")
            )
        try:
            body = await read_limited_body(receive, headers.get(b"content-length"), self._max_body_bytes)
        except TooLarge as error:
            raise malformed_request(
                413, f"The request is over {self._max_body_bytes:,} bytes.", code="TOO_LARGE"
            ) from error
        return requests.of_json(body)

    def _answer(self, answer: ExecutionResponse, format: Format | None, context: Context) -> Reply | Stream:
        """One answer, as a stream where the client takes nothing else."""
        assert format is not None, "a request that takes nothing is refused before"
        framing = _FRAMINGS.get(format)
        if framing is None:
            return graphql_response(answer, format)
        return Stream(framing, _once(answer), context.reauthenticate, self._streams)


def _looked_at(scope: Scope) -> Headers:
    """The headers that we look at; what is sent in several lines is one list (RFC 9110, 5.3)."""
    found: Headers = {}
    for name, value in scope["headers"]:
        if name in _LOOKED_AT:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def _wants_page(scope: Scope, takes: Accepted) -> bool:
    return takes.page_with_query if requests.asks(scope["query_string"]) else takes.page


def _not_allowed(message: str, allowed: str) -> MalformedRequest:
    return malformed_request(405, message, (b"allow", allowed.encode()))


async def _once(answer: ExecutionResponse) -> AsyncGenerator[ExecutionResponse, None]:
    yield answer
