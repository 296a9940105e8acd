"""/graphql over HTTP: one plain ASGI callable, because a malformed request must never become a 500.

POST and GET execute operations (GraphQL over HTTP). `Accept` decides between a single response and a stream. GET
without a document, or from a browser, returns GraphiQL. Every request passes through here: this is a hot path.
"""

from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Final
from uuid import UUID

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.context.authentication import find_bearer_token
from ringback.graphql_api.context.request_context import Context, Services
from ringback.graphql_api.errors import (
    is_database_unreachable,
    missing_token_error,
    to_graphql_error,
    unauthenticated_error,
    unchecked_token_error,
)
from ringback.graphql_api.execution.engine import (
    Engine,
    ExecutionResponse,
    Operation,
    OperationType,
    RequestRefused,
    TooManyRequests,
    error_response,
)
from ringback.graphql_api.execution.operation_limits import RETRY_AFTER_SECONDS
from ringback.graphql_api.listener.byte_budget import release_request
from ringback.graphql_api.listener.client_slots import count_client_again, exempt_client
from ringback.graphql_api.transport import graphiql, requests
from ringback.graphql_api.transport.content_negotiation import MAX_HEADER_BYTES, Accepted, Format, is_json, negotiate
from ringback.graphql_api.transport.multipart import MULTIPART
from ringback.graphql_api.transport.request_body import TooLarge, read_limited_body
from ringback.graphql_api.transport.requests import Header, MalformedRequest, Parameters, malformed_request
from ringback.graphql_api.transport.responses import Reply, error_reply, graphql_response
from ringback.graphql_api.transport.sse import EVENT_STREAM
from ringback.graphql_api.transport.streaming import Framing, Stream, Streams
from ringback.models.fair_slots import FairSlots

#: Bytes of a body above which a request waits for its token's turn: parsed JSON takes up to 7 times its length in
#: memory.
LARGE_BODY_BYTES = 65_536
#: Maximum number of large requests that are parsed and executed at the same time, of all tokens and of one.
MAX_LARGE_REQUESTS, MAX_LARGE_REQUESTS_PER_TOKEN = 6, 2
#: Large requests that let others run between two of their root fields, at most. Their variables stay in memory.
MAX_INTERRUPTED_REQUESTS = 3
METHODS: Final = "GET, HEAD, OPTIONS, POST"
_USED_HEADERS: Final = frozenset({b"accept", b"authorization", b"content-encoding", b"content-length", b"content-type"})
_CHALLENGE: Final[Header] = (b"www-authenticate", b"Bearer")
_FRAMINGS: Final[dict[Format, Framing]] = {Format.EVENTS: EVENT_STREAM, Format.MULTIPART: MULTIPART}
_BAD_METHOD: Final = (
    "Method not allowed. Send operations by POST; queries and subscriptions also by GET. The single connection mode of "
    "graphql-sse is not supported: open one connection for each subscription."
)
_NEEDS_STREAM: Final = (
    "Subscriptions need a stream. Use a WebSocket (graphql-transport-ws) at this address, or send Accept: "
    'text/event-stream (graphql-sse) or Accept: multipart/mixed;subscriptionSpec="1.0".'
)
_NOT_ACCEPTABLE: Final = (
    f"Accept names no supported media type, or is longer than {MAX_HEADER_BYTES} bytes. Send Accept: "
    "application/graphql-response+json, application/json or text/event-stream."
)
_BODY_LIMIT: Final = "the limit (RINGBACK_API_MAX_BODY_BYTES)"

Headers = dict[bytes, bytes]


class GraphQLEndpoint:
    """The ASGI endpoint for every HTTP request to /graphql."""

    def __init__(
        self, engine: Engine, services: Services, streams: Streams, pages: graphiql.Pages | None = None
    ) -> None:
        self._engine = engine
        self._pages = pages or graphiql.Pages()
        self._services = services
        self._max_body_bytes = engine.limits.body_bytes
        self._streams = streams
        self._large_requests = FairSlots(
            MAX_LARGE_REQUESTS,
            max_per_token=MAX_LARGE_REQUESTS_PER_TOKEN,
            max_interrupted=MAX_INTERRUPTED_REQUESTS,
        )
        self._options = CORSMiddleware(
            Response(status_code=204, headers={"Allow": METHODS}),
            allow_origins=["*"],
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            max_age=3600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request. Never raises because of a client's input."""
        method = scope["method"]
        if method == "OPTIONS":
            return await self._options(scope, receive, send)
        headers = _used_headers(scope)
        accepted = negotiate(headers.get(b"accept"))
        if method in ("GET", "HEAD") and _wants_page(scope, accepted):
            return await self._pages.explorer(scope)(scope, receive, send)
        reply: Reply | Stream
        try:
            reply = await self._reply(scope, headers, accepted, receive)
        except MalformedRequest as malformed:
            reply = error_reply(malformed.status, malformed.error, accepted.error, *malformed.headers)
        except ClientDisconnect:
            return None
        except Exception as unexpected:
            status = 503 if is_database_unreachable(unexpected) else 500
            reply = error_reply(status, to_graphql_error(unexpected), accepted.error)
        if not isinstance(reply, Stream) or reply.connection is None:
            return await reply(receive, send)
        with reply.connection:
            headers.clear()
            release_request(scope)
            exempt_client(scope)
            try:
                return await reply(receive, send)
            finally:
                count_client_again(scope)

    async def _reply(self, scope: Scope, headers: Headers, accepted: Accepted, receive: Receive) -> Reply | Stream:
        method = scope["method"]
        if method not in ("POST", "GET", "HEAD"):
            raise _method_not_allowed(_BAD_METHOD, METHODS)
        if accepted.result is None and accepted.stream is None:
            raise malformed_request(406, _NOT_ACCEPTABLE)
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        if find_bearer_token(authorization) is None:
            raise MalformedRequest(401, missing_token_error(), _CHALLENGE)
        try:
            token = await self._services.authenticator.authenticate(authorization)
        except Exception as error:
            if is_database_unreachable(error):
                raise MalformedRequest(503, unchecked_token_error(error)) from error
            raise
        if token is None:
            raise MalformedRequest(401, unauthenticated_error(), _CHALLENGE)
        context = Context(self._services, token)
        if method != "POST":
            return await self._run(method, self._parse_query_string(scope), context, accepted)
        body = await self._read_body(headers, receive)
        if len(body) <= LARGE_BODY_BYTES:
            return await self._run(method, requests.parse_body(body), context, accepted)
        async with self._large_requests.hold(token.id) as context.request_slot:
            return await self._run(method, requests.parse_body(body), context, accepted)

    async def _run(self, method: str, parameters: Parameters, context: Context, accepted: Accepted) -> Reply | Stream:
        """Run an operation. A subscription's stream runs later."""
        try:
            operation = await self._engine.operation(
                parameters.query, parameters.operation_name, token_id=context.viewer.id, request_bytes=parameters.size
            )
        except TooManyRequests as refused:
            raise _too_many_requests(refused) from refused
        except RequestRefused as refused:
            return self._single_response(error_response(*refused.errors), accepted.result or accepted.stream, context)
        if operation.kind is OperationType.SUBSCRIPTION:
            return self._subscribe(method, operation, parameters, context, accepted)
        return await self._execute(method, operation, parameters, context, accepted)

    def _parse_query_string(self, scope: Scope) -> Parameters:
        if len(scope["query_string"]) > self._max_body_bytes:
            raise _too_large(414, f"The query string is longer than {self._max_body_bytes:,} bytes, {_BODY_LIMIT}.")
        return requests.parse_query_string(scope["query_string"])

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        if not is_json(headers.get(b"content-type", b"")):
            raise malformed_request(
                415, "Content-Type is not JSON. Send the request as JSON in UTF-8 with Content-Type: application/json."
            )
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise malformed_request(
                415,
                "Content-Encoding is not supported. Send the body uncompressed.",
                (b"accept-encoding", b"identity"),
            )
        try:
            return await read_limited_body(receive, headers.get(b"content-length"), self._max_body_bytes)
        except TooLarge as error:
            message = f"The request body is longer than {self._max_body_bytes:,} bytes, {_BODY_LIMIT}."
            raise _too_large(413, message) from error

    def _subscribe(
        self, method: str, operation: Operation, parameters: Parameters, context: Context, accepted: Accepted
    ) -> Stream:
        if accepted.stream is None:
            raise malformed_request(406, _NEEDS_STREAM)
        if method == "HEAD":
            raise _method_not_allowed("HEAD cannot open a subscription. Use POST or GET.", "GET, POST")
        connection = self._count_connection(context.viewer.id)
        responses = self._engine.subscribe(operation, parameters.variables, context)
        return Stream(_FRAMINGS[accepted.stream], responses, context.reauthenticate, self._streams, connection)

    def _count_connection(self, token_id: UUID) -> ExitStack:
        """Count a stream as a connection of its token until the stack is closed.

        Raises MalformedRequest (429) at the limit, which closes the connection.
        """
        connection = ExitStack()
        try:
            connection.enter_context(self._engine.quota.count_connection(token_id))
        except RequestRefused as refused:
            raise _too_many_requests(refused, (b"connection", b"close")) from refused
        return connection

    async def _execute(
        self, method: str, operation: Operation, parameters: Parameters, context: Context, accepted: Accepted
    ) -> Reply | Stream:
        if operation.kind is OperationType.MUTATION and method != "POST":
            raise _method_not_allowed("Mutations must be sent by POST.", "POST")
        if accepted.result is None:
            raise malformed_request(406, "Queries and mutations return JSON. Add application/json to Accept.")
        response = await self._engine.execute(operation, parameters.variables, context)
        return self._single_response(response, accepted.result, context)

    def _single_response(self, response: ExecutionResponse, format: Format | None, context: Context) -> Reply | Stream:
        """Return one response, as a stream if the client accepts nothing else."""
        assert format is not None, "requests that accept no format are refused earlier"
        framing = _FRAMINGS.get(format)
        if framing is None:
            return graphql_response(response, format)
        return Stream(framing, _yield_once(response), context.reauthenticate, self._streams)


def _used_headers(scope: Scope) -> Headers:
    """Return the headers used here. Repeated headers are joined into one list (RFC 9110, 5.3)."""
    headers: Headers = {}
    for name, value in scope["headers"]:
        if name in _USED_HEADERS:
            if name in headers:
                headers[name] += b", " + value
            else:
                headers[name] = value
    return headers


def _wants_page(scope: Scope, accepted: Accepted) -> bool:
    return accepted.page_with_query if requests.has_document(scope["query_string"]) else accepted.page


def _method_not_allowed(message: str, allowed: str) -> MalformedRequest:
    return malformed_request(405, message, (b"allow", allowed.encode()))


def _too_many_requests(refused: RequestRefused, *headers: Header) -> MalformedRequest:
    return MalformedRequest(429, refused.errors[0], (b"retry-after", b"%d" % RETRY_AFTER_SECONDS), *headers)


def _too_large(status: int, message: str) -> MalformedRequest:
    return malformed_request(status, message, code="TOO_LARGE")


async def _yield_once(response: ExecutionResponse) -> AsyncGenerator[ExecutionResponse, None]:
    yield response
