"""The messages of graphql-transport-ws: what a client may send, and how the frames are written that it gets.

A message is valid when the protocol's reference implementation (graphql-ws, `validateMessage`) finds it so; fields that
the protocol does not know are ignored there, and here. Source: PROTOCOL.md of graphql-ws.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from graphql import GraphQLError

#: The name of the WebSocket subprotocol.
PROTOCOL = "graphql-transport-ws"
ACK = '{"type":"connection_ack"}'
#: What only servers send.
_OURS = ("connection_ack", "next", "error")

Payload: TypeAlias = Mapping[str, Any] | None


class InvalidMessage(Exception):
    """A message is not one that the protocol allows a client to send; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ConnectionInit:
    """The client introduces itself."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Ping:
    """The client asks for a pong."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Pong:
    """The client is alive."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client asks for an operation of any kind; what answers it carries the same id."""

    id: str
    query: str
    operation_name: str | None
    variables: Payload


@dataclass(frozen=True, slots=True)
class Complete:
    """The client has lost its interest in an operation."""

    id: str


Message: TypeAlias = ConnectionInit | Ping | Pong | Subscribe | Complete


def parse(text: str) -> Message:
    """The message in a frame; raises InvalidMessage."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("it is not valid JSON") from error
    if not isinstance(message, dict):
        raise InvalidMessage("it must be a JSON object")
    match message.get("type"):
        case "connection_init":
            return ConnectionInit(_object(message, "payload"))
        case "ping":
            return Ping(_object(message, "payload"))
        case "pong":
            _object(message, "payload")
            return Pong()
        case "subscribe":
            return _subscribe(message)
        case "complete":
            return Complete(_id(message))
        case str(kind) if kind in _OURS:
            raise InvalidMessage(f'only servers send "{kind}"')
        case str(kind):
            raise InvalidMessage(f'there is no type "{kind}"')
    raise InvalidMessage('"type" must be a string')


def _subscribe(message: Mapping[str, Any]) -> Subscribe:
    op = _id(message)
    payload = message.get("payload")
    if not isinstance(payload, dict):
        raise InvalidMessage('"payload" must be an object')
    query, name = payload.get("query"), payload.get("operationName")
    if not isinstance(query, str):
        raise InvalidMessage('"payload.query" must be a string')
    if not isinstance(name, str | None):
        raise InvalidMessage('"payload.operationName" must be a string or null')
    variables = _object(payload, "variables", "payload.")
    _object(payload, "extensions", "payload.")
    return Subscribe(op, query, name, variables)


def _id(message: Mapping[str, Any]) -> str:
    value = message.get("id")
    if not isinstance(value, str) or not value:
        raise InvalidMessage('"id" must be a string that is not empty')
    return value


def _object(parent: Mapping[str, Any], name: str, path: str = "") -> Payload:
    value = parent.get(name)
    if not isinstance(value, dict | None):
        raise InvalidMessage(f'"{path}{name}" must be an object or null')
    return value


def pong(payload: Payload) -> str:
    """The answer to a ping; it gives the payload back, when there is one."""
    message = {"type": "pong"} if payload is None else {"type": "pong", "payload": payload}
    return orjson.dumps(message).decode()


class MessageWriter:
    """The frames about one operation, with what is the same in all of them written once."""

    def __init__(self, op: str) -> None:
        self._start = f'{{"id":{orjson.dumps(op).decode()},"type":'
        self._next = f'{self._start}"next","payload":'

    def next(self, answer: str) -> str:
        """One result; `answer` is JSON already."""
        return f"{self._next}{answer}}}"

    def error(self, errors: Iterable[GraphQLError]) -> str:
        """The operation was refused, or has ended in an error."""
        formatted = orjson.dumps([error.formatted for error in errors]).decode()
        return f'{self._start}"error","payload":{formatted}}}'

    def complete(self) -> str:
        """No more results will come."""
        return f'{self._start}"complete"}}'
