"""The server process: its socket, signals, and the order in which its parts start and stop."""

import asyncio
import contextlib
import errno
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from ringback.graphql_api.app import Application, open_application
from ringback.graphql_api.http_protocol import HttpConnection
from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.listener.client_slots import ClientSlots
from ringback.graphql_api.listener.config import Guard, ListenerConfig, limit_connections
from ringback.graphql_api.listener.http_limits import HttpLimits
from ringback.graphql_api.listener.proxied_requests import ProxiedRequests
from ringback.graphql_api.process import IDLE_TRANSACTION_SECONDS, StopSignals, tune_garbage_collection
from ringback.graphql_api.transport import graphiql
from ringback.graphql_api.websocket_protocol import WebSocketProtocol
from ringback.graphql_api.worker_process import check_webhooks, deliver_events
from ringback.jobs.announcer import announce_due_events
from ringback.models import bootstrap
from ringback.models.errors import ConfigurationError
from ringback.models.security.secret_box import load_or_create_secret, open_secret_box
from ringback.models.services import api_tokens
from ringback.models.settings import Settings

#: Seconds that running requests get to end when the program stops.
GRACE_SECONDS = 3
#: Seconds after which a thread that computes, such as the one that checks documents, lets the event loop run. Python's
#: own 5 ms delayed each step of a request by as much.
SWITCH_SECONDS = 0.001
#: Connections that wait to be accepted, at most.
BACKLOG = 2048
TOKEN_FILE = "admin-token"
#: Headers of every response. Browsers must not take a response for a script because its content looks like one.
HEADERS = [("X-Content-Type-Options", "nosniff")]


async def serve(settings: Settings, *, deliver: bool) -> None:
    """Serve the API until a signal arrives. With `deliver`, this process is a worker too.

    The worker stops first, so inboxes and the live log keep working until the last delivery has ended.
    """
    stop = StopSignals()
    await bootstrap.migrate(settings)
    with _listen(settings) as sock:
        public_url = settings.address(sock.getsockname()[1])
        async with (
            bootstrap.open_database(settings, idle_transaction_seconds=IDLE_TRANSACTION_SECONDS),
            bootstrap.share_notifications(settings.notifications_url),
        ):
            secrets = await open_secret_box(settings)
            admin_token = await _ensure_admin_token(settings)
            async with (
                open_application(settings, public_url=public_url, secrets=secrets) as app,
                _run_http_server(app, sock, settings) as http_server,
            ):
                stop.on_repeated_interrupt(http_server.hurry)
                async with contextlib.AsyncExitStack() as stack:
                    if deliver:
                        hurried = await stack.enter_async_context(deliver_events(settings, secrets, public_url))
                        stop.on_repeated_interrupt(hurried.set)
                    else:
                        await stack.enter_async_context(announce_due_events(settings.broker_url))
                    sys.setswitchinterval(SWITCH_SECONDS)
                    tune_garbage_collection()
                    _print_start(public_url, admin_token)
                    async with check_webhooks(settings, public_url):
                        await stop.wait()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigurationError(_listen_error(settings, error)) from error
    return sock


def _listen_error(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {settings.port} on {settings.host} is in use. "
            "Stop the other program, or set RINGBACK_PORT to another port."
        )
    return (
        f"Cannot listen on {settings.host}:{settings.port} ({error.strerror or error}). "
        "Set RINGBACK_HOST and RINGBACK_PORT to an address of this machine."
    )


class _AdminToken(NamedTuple):
    """The operator's ADMIN token."""

    #: The setting or file in which the operator finds it.
    source: str
    #: The token itself if the GraphiQL link may contain it.
    secret: str | None = None
    is_revoked: bool = False


async def _ensure_admin_token(settings: Settings) -> _AdminToken:
    """Store the ADMIN token of the settings, or of the token file, which is made at the first start."""
    if settings.admin_token is not None:
        await api_tokens.ensure_admin(settings.admin_token.get_secret_value(), "RINGBACK_ADMIN_TOKEN")
        return _AdminToken(source="RINGBACK_ADMIN_TOKEN")
    path = settings.data_dir / TOKEN_FILE
    is_new = not path.exists()
    secret = load_or_create_secret(path, initial=api_tokens.new_bearer_token())
    await api_tokens.ensure_admin(secret, f"first admin token ({TOKEN_FILE})")
    if await api_tokens.authenticate(secret) is None:
        return _AdminToken(source=str(path), is_revoked=True)
    # The output of a service goes to logs, which others may read. A terminal is the operator's.
    if is_new or (sys.stdout.isatty() and _only_owner_has_access(path)):
        return _AdminToken(source=str(path), secret=secret)
    return _AdminToken(source=str(path))


def _only_owner_has_access(path: Path) -> bool:
    mode = path.stat().st_mode
    return mode & (stat.S_IRWXG | stat.S_IRWXO) == 0


def _print_start(public_url: str, admin_token: _AdminToken) -> None:
    print(f"Ringback {version('ringback')} is running on {public_url}")
    if not graphiql.is_built():
        print("GraphiQL is not built. To build it, run: make web")
    elif admin_token.secret is None:
        print(f"GraphiQL:  {public_url}/graphql")
    else:
        print(f"GraphiQL:  {public_url}/graphql#token={admin_token.secret}")
        print(f"The link contains the admin token, which is stored in {admin_token.source}.", flush=True)
        return
    if admin_token.is_revoked:
        print(f"The token in {admin_token.source} was revoked. Create one: ringback token create NAME", flush=True)
    else:
        print(f"GraphiQL asks for a token. The admin token is in {admin_token.source}.", flush=True)


class _HttpServer(uvicorn.Server):
    """uvicorn's server as a part of a program, which handles the signals and waits for the server to start."""

    config: ListenerConfig

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `StopSignals`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set `serving`."""
        await super().startup(sockets)
        self.serving.set()

    async def on_tick(self, counter: int) -> bool:
        """Check the time of all connections once per second. uvicorn calls this ten times per second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, HttpConnection | WebSocketProtocol), "the configuration names these"
                connection.check_time(now)
            self.config.guard.refusals.flush_all()
        return await super().on_tick(counter)

    def hurry(self) -> None:
        """Stop without waiting for running requests."""
        self.force_exit = True


@contextlib.asynccontextmanager
async def _run_http_server(app: Application, sock: socket.socket, settings: Settings) -> AsyncIterator[_HttpServer]:
    """Serve `app` on `sock` while the block runs. After it, running requests get GRACE_SECONDS to end."""
    server = _HttpServer(_configure_http(app, settings))
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await server.serving.wait()
        yield server
    finally:
        app.end_streams()
        server.should_exit = True
        await running


def _configure_http(app: Application, settings: Settings) -> ListenerConfig:
    guard = Guard(
        HttpLimits.of(settings),
        ClientSlots(
            "connections",
            max_per_client=settings.http_max_connections_per_address,
            max_total=limit_connections(settings),
            proxies=settings.trusted_proxies,
        ),
        # The longest allowed request must fit, however long the operator allows it to be.
        ByteBudget(max(settings.http_max_buffered_bytes, 2 * settings.api_max_body_bytes)),
    )
    served: ASGIApp = app
    if settings.trusted_proxies:
        requests = ClientSlots(
            "requests in progress",
            max_per_client=settings.http_max_connections_per_address,
            proxies=settings.trusted_proxies,
        )
        served = ProxiedRequests(app, requests, guard.refusals)
    return ListenerConfig(
        guard,
        served,
        lifespan="off",
        log_config=None,
        http=HttpConnection,
        access_log=False,
        ws=WebSocketProtocol,
        # Compressing an entry for each of its subscribers costs more than all else of sending it.
        ws_per_message_deflate=False,
        ws_max_size=settings.api_max_body_bytes,
        timeout_keep_alive=settings.http_keep_alive_seconds,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        headers=HEADERS,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
    )
