"""Messages of graphql-transport-ws: parsing those that clients send, and writing those of the server.

A message is valid if the reference implementation accepts it (graphql-ws, `validateMessage`). Unknown fields are
ignored. Source: PROTOCOL.md of graphql-ws.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, TypeAlias

import orjson
from graphql import GraphQLError

from ringback.graphql_api.transport.json_limits import MAX_VALUES, UNCHECKED_BYTES, has_too_many_values
from ringback.models import exact_json

#: The name of the WebSocket subprotocol.
PROTOCOL = "graphql-transport-ws"
ACK = '{"type":"connection_ack"}'
_SERVER_MESSAGES = ("connection_ack", "next", "error")

Payload: TypeAlias = Mapping[str, Any] | None


class InvalidMessage(Exception):
    """A message that the protocol does not allow clients to send. Its text is the close reason."""


@dataclass(frozen=True, slots=True)
class ConnectionInit:
    """The first message of a client, with its credentials."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Ping:
    """A request for a pong."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life, which needs no reply."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A request to run an operation of any kind. The messages that answer it carry its id."""

    id: str
    query: str
    operation_name: str | None
    variables: Payload
    #: Characters of the message.
    size: int


@dataclass(frozen=True, slots=True)
class Complete:
    """A request to stop an operation."""

    id: str


Message: TypeAlias = ConnectionInit | Ping | Pong | Subscribe | Complete


def parse(text: str) -> Message:
    """Parse a client's message. Raises InvalidMessage."""
    # A short message is not copied to be counted.
    if len(text) > UNCHECKED_BYTES and has_too_many_values(text.encode()):
        raise InvalidMessage(f"more than {MAX_VALUES:,} JSON values")
    try:
        message = exact_json.load(text)
    except JSONDecodeError as error:
        raise InvalidMessage("not valid JSON") from error
    if not isinstance(message, dict):
        raise InvalidMessage("not a JSON object")
    match message.get("type"):
        case "connection_init":
            return ConnectionInit(_object(message, "payload"))
        case "ping":
            return Ping(_object(message, "payload"))
        case "pong":
            _object(message, "payload")
            return Pong()
        case "subscribe":
            return _parse_subscribe(message, len(text))
        case "complete":
            return Complete(_id(message))
        case str(kind) if kind in _SERVER_MESSAGES:
            raise InvalidMessage(f'only servers send "{kind}"')
        case str(kind):
            raise InvalidMessage(f'unknown type "{kind}"')
    raise InvalidMessage('"type" must be a string')


def _parse_subscribe(message: Mapping[str, Any], size: int) -> Subscribe:
    operation_id = _id(message)
    payload = message.get("payload")
    if not isinstance(payload, dict):
        raise InvalidMessage('"payload" must be an object')
    query, operation_name = payload.get("query"), payload.get("operationName")
    if not isinstance(query, str):
        raise InvalidMessage('"payload.query" must be a string')
    if not isinstance(operation_name, str | None):
        raise InvalidMessage('"payload.operationName" must be a string or null')
    variables = _object(payload, "variables", "payload.")
    _object(payload, "extensions", "payload.")
    return Subscribe(id=operation_id, query=query, operation_name=operation_name, variables=variables, size=size)


def _id(message: Mapping[str, Any]) -> str:
    value = message.get("id")
    if not isinstance(value, str) or not value:
        raise InvalidMessage('"id" must be a non-empty string')
    return value


def _object(parent: Mapping[str, Any], name: str, path: str = "") -> Payload:
    value = parent.get(name)
    if not isinstance(value, dict | None):
        raise InvalidMessage(f'"{path}{name}" must be an object or null')
    return value


def write_pong(payload: Payload) -> str:
    """Return the reply to a ping, with the payload of the ping if it has one."""
    message = {"type": "pong"} if payload is None else {"type": "pong", "payload": payload}
    return orjson.dumps(message).decode()


def write_next(operation_id: str, response: str) -> str:
    """Return a result of an operation. `response` is JSON, which is not encoded again for each subscriber."""
    return f'{{"id":{orjson.dumps(operation_id).decode()},"type":"next","payload":{response}}}'


def write_error(operation_id: str, errors: Iterable[GraphQLError]) -> str:
    """Return the message that an operation was refused, or ended in an error."""
    message = {"id": operation_id, "type": "error", "payload": [error.formatted for error in errors]}
    return orjson.dumps(message).decode()


def write_complete(operation_id: str) -> str:
    """Return the message that no more results of an operation follow."""
    return orjson.dumps({"id": operation_id, "type": "complete"}).decode()
