"""The server process: its socket, signals, and the order in which its parts start and stop."""

import asyncio
import contextlib
import errno
import gc
import resource
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
import uvloop
from starlette.types import ASGIApp

from ringback.graphql_api.app import Application, open_application
from ringback.graphql_api.http_protocol import HttpConnection
from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.listener.client_slots import ClientSlots
from ringback.graphql_api.listener.config import Guard, ListenerConfig, limit_connections
from ringback.graphql_api.listener.http_limits import HttpLimits
from ringback.graphql_api.listener.proxied_requests import ProxiedRequests
from ringback.graphql_api.supervisor import ProcessSupervisor, call_when_input_ends
from ringback.graphql_api.transport import graphiql
from ringback.graphql_api.websocket_protocol import WebSocketProtocol
from ringback.jobs.announcer import announce_due_events
from ringback.jobs.worker import run_worker
from ringback.models import bootstrap
from ringback.models.background_tasks import end_tasks
from ringback.models.errors import ConfigurationError
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox, load_or_create_secret, open_secret_box
from ringback.models.services import api_tokens, template_check
from ringback.models.services.url_check import UrlCheck
from ringback.models.settings import Settings

#: Seconds that running requests get to end when the program stops.
GRACE_SECONDS = 3
#: Arguments of `gc.set_threshold`: collect after 50,000 new objects, and each older generation after 10 collections
#: of the younger one. With Python's own thresholds, collection took a third of the time of publishing log entries
#: and a fifth of that of delivering.
GC_THRESHOLDS = (50_000, 10, 10)
#: Seconds after which a thread that computes, such as the one that checks documents, lets the event loop run. Python's
#: own 5 ms delayed each step of a request by as much.
SWITCH_SECONDS = 0.001
#: Connections that wait to be accepted, at most.
BACKLOG = 2048
#: Open files that the process asks for, at most.
MAX_OPEN_FILES = 65_536
TOKEN_FILE = "admin-token"
#: Headers of every response. Browsers must not take a response for a script because its content looks like one.
HEADERS = [("X-Content-Type-Options", "nosniff")]


async def serve(settings: Settings, *, deliver: bool) -> None:
    """Serve the API until a signal arrives. With `deliver`, this process is a worker too.

    The worker stops first, so inboxes and the live log keep working until the last delivery has ended.
    """
    stop = _StopSignals()
    await bootstrap.migrate(settings)
    with _listen(settings) as sock:
        public_url = settings.address(sock.getsockname()[1])
        async with bootstrap.open_database(settings), bootstrap.share_notifications(settings.notifications_url):
            secrets = await open_secret_box(settings)
            admin_token = await _ensure_admin_token(settings)
            async with (
                open_application(settings, public_url=public_url, secrets=secrets) as app,
                _run_http_server(app, sock, settings) as http_server,
            ):
                stop.on_repeated_interrupt(http_server.hurry)
                async with contextlib.AsyncExitStack() as stack:
                    if deliver:
                        hurried = await stack.enter_async_context(_run_worker(settings, secrets, public_url))
                        stop.on_repeated_interrupt(hurried.set)
                    else:
                        await stack.enter_async_context(announce_due_events(settings.broker_url))
                    sys.setswitchinterval(SWITCH_SECONDS)
                    _tune_garbage_collection()
                    _print_start(public_url, admin_token)
                    async with _check_webhooks(settings, public_url):
                        await stop.wait()


async def work(settings: Settings, *, supervised: bool = False) -> None:
    """Deliver until a signal arrives, without serving the API. With `supervised`, also until standard input ends."""
    stop = _StopSignals()
    if supervised:
        call_when_input_ends(stop.request)
    await bootstrap.migrate(settings)
    async with (
        bootstrap.open_database(settings),
        bootstrap.share_notifications(settings.notifications_url),
        # The API processes made the inbox URLs in webhooks from the same settings.
        _run_worker(settings, await open_secret_box(settings), settings.address()) as hurried,
    ):
        stop.on_repeated_interrupt(hurried.set)
        _tune_garbage_collection()
        print(f"Ringback {version('ringback')} is delivering. Stop it with Ctrl+C.", flush=True)
        async with _check_webhooks(settings, settings.address()):
            await stop.wait()


async def work_in_processes(count: int, *options: str) -> None:
    """Deliver in `count` processes of `ringback worker` with these options, until a signal arrives."""
    stop = _StopSignals()
    supervisor = ProcessSupervisor(count, "worker", "--supervised", *options)
    running = asyncio.create_task(supervisor.run())
    stop.on_repeated_interrupt(lambda: supervisor.stop(signal.SIGINT))
    await asyncio.wait([running, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    supervisor.stop(signal.SIGTERM)
    await running


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a main coroutine, on uvloop."""
    _raise_open_files_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def _raise_open_files_limit() -> None:
    """Raise the soft limit of open files up to the hard one: the usual 1,024 is less than deliveries may need."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _StopSignals:
    """The stop signals. The first SIGINT or SIGTERM requests a stop; a later SIGINT (Ctrl+C) hurries it.

    A later SIGTERM changes nothing, so an impatient supervisor, or one that signals a whole group, loses no delivery.
    """

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._hurry: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)

    async def wait(self) -> None:
        """Wait until a stop is requested."""
        await self._requested.wait()

    def request(self) -> None:
        """Request a stop."""
        self._requested.set()

    def on_repeated_interrupt(self, hurry: Callable[[], None]) -> None:
        """Call `hurry` at each SIGINT after a stop was requested."""
        self._hurry.append(hurry)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._requested.is_set() and number is signal.SIGINT:
            for hurry in self._hurry:
                hurry()
        self._requested.set()


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
        """Leave the signals to `_StopSignals`."""
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


def _run_worker(
    settings: Settings, secrets: SecretBox, public_url: str
) -> contextlib.AbstractAsyncContextManager[asyncio.Event]:
    policy = AddressPolicy(settings.dangerous_allow_networks, settings.allow_ports)
    return run_worker(settings, policy=policy, secrets=secrets, inboxes=InboxAddresses(public_url))


@contextlib.asynccontextmanager
async def _check_webhooks(settings: Settings, public_url: str) -> AsyncIterator[None]:
    """Check the webhooks in the background while the block runs, because thousands take seconds."""
    policy = AddressPolicy(settings.dangerous_allow_networks, settings.allow_ports)
    url_check = UrlCheck(policy, InboxAddresses(public_url))
    task = asyncio.create_task(template_check.log_refused_templates(url_check))
    try:
        yield
    finally:
        await end_tasks(task)


def _tune_garbage_collection() -> None:
    """Exempt all objects made at the start, whose collection would block requests for 0.1 s, and collect more rarely.

    Thousands of subscribers and attempts in flight keep many objects for a while, which are not garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
