"""The parameters of a GraphQL request, parsed from the body or the query string.

Their types are checked here, as in GraphQL over HTTP (5.1). The engine decides whether the document can be executed.
"""

from json import JSONDecodeError
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from graphql import GraphQLError

from ringback.graphql_api.errors import ApiError, Code
from ringback.graphql_api.transport.json_limits import LIST_VALUES, MAX_VALUES, has_too_many_values
from ringback.models import exact_json

Header = tuple[bytes, bytes]

_EXAMPLE = 'such as {"query": "{ viewer { token { name } } }"}'
TOO_MANY_VALUES = (
    f"The request holds more than {MAX_VALUES:,} JSON values, a fixed limit; a list or an object counts as "
    f"{LIST_VALUES}. Send fewer in one request."
)
#: Parameter names are shortened to this in messages.
_MAX_NAME_CHARS = 40


class MalformedRequest(Exception):
    """Not a valid GraphQL-over-HTTP request. `status`, `error` and `headers` make up the response."""

    def __init__(self, status: int, error: GraphQLError, *headers: Header) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = headers


def malformed_request(status: int, message: str, *headers: Header, code: Code = "BAD_REQUEST") -> MalformedRequest:
    """Return the exception for a request that cannot be processed."""
    return MalformedRequest(status, ApiError(code, message), *headers)


class Parameters(NamedTuple):
    """The parameters of a well-formed request."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    #: Bytes of the body or of the query string.
    size: int


def parse_body(body: bytes) -> Parameters:
    """Parse the JSON body of a POST. Raises MalformedRequest."""
    request = _load(body, "The body is not valid JSON")
    if isinstance(request, list):
        raise malformed_request(
            400, f"Batches are not supported. Send one operation per request, as a JSON object, {_EXAMPLE}."
        )
    if not isinstance(request, dict):
        raise malformed_request(400, f"The body must be a JSON object, {_EXAMPLE}.")
    return _check_types(request, len(body))


def parse_query_string(query_string: bytes) -> Parameters:
    """Parse the query string of a GET, in which `variables` and `extensions` are JSON. Raises MalformedRequest."""
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise malformed_request(400, "The query string must be UTF-8.") from error
    request: dict[str, Any] = {}
    for name, value in pairs:
        if name in request:
            raise malformed_request(400, f"{_shorten(name)} must not appear twice in the query string.")
        request[name] = _load(value.encode(), f"{name} must be JSON") if name in ("variables", "extensions") else value
    return _check_types(request, len(query_string))


def has_document(query_string: bytes) -> bool:
    """Return whether a query string contains a GraphQL document."""
    return query_string.startswith(b"query=") or b"&query=" in query_string


def _load(text: bytes, message: str) -> Any:
    if has_too_many_values(text):
        raise malformed_request(413, TOO_MANY_VALUES, code="TOO_LARGE")
    try:
        return exact_json.load(text)
    except JSONDecodeError as error:
        raise malformed_request(400, f"{message}: {error}") from error


def _check_types(request: dict[str, Any], size: int) -> Parameters:
    query, variables, operation_name = request.get("query"), request.get("variables"), request.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise malformed_request(400, "query must be a GraphQL document as a string.")
    if variables is not None and not isinstance(variables, dict):
        raise malformed_request(400, "variables must be a JSON object.")
    if operation_name is not None and not isinstance(operation_name, str):
        raise malformed_request(400, "operationName must be a string.")
    extensions = request.get("extensions")
    if extensions is not None and not isinstance(extensions, dict):
        raise malformed_request(400, "extensions must be a JSON object.")
    return Parameters(query=query, variables=variables, operation_name=operation_name or None, size=size)


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME_CHARS else f"{name[:_MAX_NAME_CHARS]}…"
