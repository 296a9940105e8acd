"""What a request asks for, read from its body or its address; what is malformed is refused with a sentence.

The parameters are those of GraphQL over HTTP (5.1), whose types are checked here; whether the document can be executed
is for the engine to say.
"""

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from ringback.graphql_api.errors import ApiError, Code

Header = tuple[bytes, bytes]

_EXAMPLE = 'such as {"query": "{ viewer { token { name } } }"}'


class MalformedRequest(Exception):
    """A request that is none of GraphQL's; `status`, an error and headers go out."""

    def __init__(self, status: int, error: ApiError, *headers: Header) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = headers


def malformed_request(status: int, message: str, *headers: Header, code: Code = "BAD_REQUEST") -> MalformedRequest:
    """The refusal of a request; `message` says what to do instead."""
    return MalformedRequest(status, ApiError(code, message), *headers)


class Parameters(NamedTuple):
    """A well-formed request."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


def of_json(body: bytes) -> Parameters:
    """The parameters of a POST; raises Malformed."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise malformed_request(400, f"The body is no JSON: {error}") from error
    if isinstance(request, list):
        raise malformed_request(
            400, f"Send each operation in a request of its own: the body must be a JSON object, {_EXAMPLE}."
        )
    if not isinstance(request, dict):
        raise malformed_request(400, f"The body must be a JSON object, {_EXAMPLE}.")
    return _checked(request)


def of_address(query_string: bytes) -> Parameters:
    """The parameters of a GET, which stand in its address; `variables` and `extensions` are JSON. Raises Malformed."""
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise malformed_request(400, "The address must hold its parameters as UTF-8.") from error
    request: dict[str, Any] = {}
    for name, value in pairs:
        if name in request:
            raise malformed_request(400, f"{_shown(name)} must not stand in the address twice.")
        request[name] = _from_json(name, value) if name in ("variables", "extensions") else value
    return _checked(request)


def asks(query_string: bytes) -> bool:
    """Whether an address holds a document."""
    return query_string.startswith(b"query=") or b"&query=" in query_string


def _from_json(name: str, value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise malformed_request(400, f"{name} must be JSON: {error}") from error


def _checked(request: dict[str, Any]) -> Parameters:
    query, variables, name = request.get("query"), request.get("variables"), request.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise malformed_request(400, "query must be a GraphQL document as a string.")
    if variables is not None and not isinstance(variables, dict):
        raise malformed_request(400, "variables must be a JSON object.")
    if name is not None and not isinstance(name, str):
        raise malformed_request(400, "operationName must be a string.")
    extensions = request.get("extensions")
    if extensions is not None and not isinstance(extensions, dict):
        raise malformed_request(400, "extensions must be a JSON object.")
    return Parameters(query, variables, name or None)


def _shown(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}…"
