"""GraphQL over HTTP: one small handler of our own, since a malformed request must never become a 500.

POST /graphql with `application/json`; GET shows GraphiQL. The media type of the answer follows `Accept`: with
`application/graphql-response+json` a refused document is a 400, with `application/json` a 200 (GraphQL over HTTP, 6.4).
"""

from typing import Any

import orjson
from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ringback.graphql_api.context import Context, Services
from ringback.graphql_api.errors import ApiError, masked, unauthenticated
from ringback.graphql_api.execution import Answer, Engine, OperationType, Refused

#: The longest request, in bytes.
MAX_BODY_BYTES = 1024 * 1024
#: A longer one is read to its end up to here, in bytes: many clients see the answer only after they have sent all.
MAX_DISCARDED_BYTES = 8 * MAX_BODY_BYTES
RESPONSE_JSON = "application/graphql-response+json"
JSON = "application/json"


class _Refused(Exception):
    """The request cannot be executed; `status` and an error go out."""

    def __init__(self, status: int, error: GraphQLError, **headers: str) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class TooLarge(Exception):
    """The request's body is over MAX_BODY_BYTES."""


async def limited_body(request: Request) -> bytes:
    """The whole body; raises TooLarge when it is over MAX_BODY_BYTES, of which no more is kept."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_DISCARDED_BYTES:
        raise TooLarge
    body, length = bytearray(), 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > MAX_DISCARDED_BYTES:
            break
        if length <= MAX_BODY_BYTES:
            body += chunk
    if length > MAX_BODY_BYTES:
        raise TooLarge
    return bytes(body)


class GraphQLOverHTTP:
    """Executes queries and mutations sent by POST."""

    def __init__(self, engine: Engine, services: Services) -> None:
        self._engine = engine
        self._services = services

    async def post(self, request: Request) -> Response:
        """The answer to one POST; never raises for what a client sent."""
        media_type = _media_type(request.headers.get("accept", "*/*"))
        try:
            token = await self._services.bearers.bearer(request.headers.get("authorization"))
            if token is None:
                raise _Refused(401, unauthenticated(), www_authenticate="Bearer")
            query, variables, operation_name = await _parameters(request)
            operation = await self._engine.operation(query, operation_name)
            if operation.kind is OperationType.SUBSCRIPTION:
                raise _refused(400, "Subscriptions need a WebSocket (graphql-transport-ws) on this same address.")
            answer = await self._engine.execute(operation, variables, Context(self._services, token))
        except Refused as refused:
            answer = Answer(None, refused.errors, executed=False)
        except _Refused as refused:
            return _answer(refused.status, {"errors": [refused.error.formatted]}, media_type, refused.headers)
        except Exception as unexpected:  # such as a database that is away: masked, and in the log with its id
            hidden = masked(GraphQLError(str(unexpected), original_error=unexpected))
            return _answer(500, {"errors": [hidden.formatted]}, media_type)
        status = 400 if media_type == RESPONSE_JSON and not answer.executed else 200
        return _sent(status, answer.json, media_type)


async def _parameters(request: Request) -> tuple[str, dict[str, Any] | None, str | None]:
    """The document, variables and operation name; raises _Refused."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != JSON:
        raise _refused(415, "Send the request as JSON, with Content-Type: application/json.")
    try:
        body = orjson.loads(await limited_body(request))
    except TooLarge as error:
        raise _refused(413, f"The request is over {MAX_BODY_BYTES:,} bytes.", "TOO_LARGE") from error
    except ClientDisconnect as error:
        raise _refused(400, "The request ended early.") from error
    except orjson.JSONDecodeError as error:
        raise _refused(400, f"The body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise _refused(400, 'The body must be a JSON object, such as {"query": "{ viewer { token { name } } }"}.')
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise _refused(400, "query must be a GraphQL document as a string.")
    if variables is not None and not isinstance(variables, dict):
        raise _refused(400, "variables must be a JSON object.")
    if name is not None and not isinstance(name, str):
        raise _refused(400, "operationName must be a string.")
    if not isinstance(body.get("extensions", {}), dict | None):
        raise _refused(400, "extensions must be a JSON object.")
    return query, variables, name or None


def _refused(status: int, message: str, code: str = "BAD_REQUEST") -> _Refused:
    return _Refused(status, ApiError(code, message))


def _media_type(accept: str) -> str:
    return RESPONSE_JSON if RESPONSE_JSON in accept.lower() else JSON


def _answer(status: int, body: dict[str, Any], media_type: str, headers: dict[str, str] | None = None) -> Response:
    return _sent(status, orjson.dumps(body), media_type, headers)


def _sent(status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> Response:
    content_type = f"{media_type}; charset=utf-8"
    return Response(body, status, {"Content-Type": content_type, "Cache-Control": "no-store", **(headers or {})})
