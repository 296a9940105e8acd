"""A WebSocket client for tests: the API on a port of this machine, and what is said to it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ringback.graphql_api.http_protocol import HttpConnection
from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.listener.client_slots import ClientSlots
from ringback.graphql_api.listener.config import Guard, ListenerConfig
from ringback.graphql_api.listener.http_limits import HttpLimits
from ringback.graphql_api.websocket_protocol import WebSocketProtocol
from tests.support.api import Api
from tests.support.patience import PATIENCE_SECONDS

PROTOCOL = Subprotocol("graphql-transport-ws")
ADMIN = "rbk_an-admin-token-of-these-tests"
AUTHORIZED = {"Authorization": f"Bearer {ADMIN}"}
#: A query, and what answers it when ADMIN asks.
VIEWER = "{ viewer { token { name } } }"
ASKED = {"data": {"viewer": {"token": {"name": "ws"}}}}


@dataclass(frozen=True)
class Served:
    """The API in this process, on a port of this machine."""

    api: Api
    port: int

    def open(self, *, protocols: Sequence[Subprotocol] | None = (PROTOCOL,), **options: Any) -> connect:
        """Connect with these options of the client library; it sends no pings of its own, and is patient."""
        return connect(
            f"ws://127.0.0.1:{self.port}/graphql",
            subprotocols=protocols,
            **{"open_timeout": PATIENCE_SECONDS, "ping_interval": None, **options},
        )


@asynccontextmanager
async def serving(app: ASGIApp, *, budget: ByteBudget | None = None, **options: Any) -> AsyncIterator[int]:
    """Serve the application on this port, with these options of uvicorn's; by default it sends no pings."""
    budget = budget or ByteBudget(64 * 1024 * 1024)
    config = ListenerConfig(
        Guard(HttpLimits(), ClientSlots("connections", max_per_client=1_000), budget),
        app,
        lifespan="off",
        log_config=None,
        ws_per_message_deflate=False,
        **{"http": HttpConnection, "ws": WebSocketProtocol, "ws_ping_interval": None, **options},
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        # Its own loop would look only ten times a second whether to end.
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[sock])
        yield sock.getsockname()[1]
        server.force_exit = True
        await server.shutdown(sockets=[sock])


async def send(connection: ClientConnection, **message: Any) -> None:
    await connection.send(json.dumps(message))


async def received(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        message: dict[str, Any] = json.loads(await connection.recv(decode=True))
    return message


async def init(connection: ClientConnection, secret: str = ADMIN) -> None:
    await send(connection, type="connection_init", payload={"Authorization": f"Bearer {secret}"})
    assert await received(connection) == {"type": "connection_ack"}


async def subscribe(connection: ClientConnection, query: str, op: str = "1", **variables: Any) -> None:
    await send(connection, type="subscribe", id=op, payload={"query": query, "variables": variables})


async def run(connection: ClientConnection, query: str, op: str = "1", **variables: Any) -> list[dict[str, Any]]:
    """Return all messages that answer one operation, without their id."""
    await subscribe(connection, query, op, **variables)
    answers: list[dict[str, Any]] = []
    while not answers or answers[-1]["type"] not in ("complete", "error"):
        answers.append(await received(connection))
        assert answers[-1].pop("id") == op
    return answers


async def still_open(connection: ClientConnection) -> None:
    """Check that the connection answers, and that nothing else was sent before."""
    await send(connection, type="ping", payload={"still": "open"})
    assert await received(connection) == {"type": "pong", "payload": {"still": "open"}}


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the server closes, having sent nothing before."""
    with pytest.raises(ConnectionClosed) as error:
        async with asyncio.timeout(PATIENCE_SECONDS):
            pytest.fail(f"not closed, but {await connection.recv()!r}")
    assert error.value.rcvd is not None
    return error.value.rcvd.code, error.value.rcvd.reason
