"""Running the program: sockets, signals, and the order in which things start and stop."""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from importlib.metadata import version
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ringback.graphql_api.app import Application, open_application
from ringback.graphql_api.supervisor import ProcessSupervisor, call_when_input_ends
from ringback.graphql_api.websocket_protocol import WebSocketProtocol
from ringback.jobs.announcer import announce_due_events
from ringback.jobs.worker import RunningWorker, run_worker
from ringback.models import bootstrap
from ringback.models.errors import ConfigurationError
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox, load_or_create_secret, load_secret_box
from ringback.models.services import api_tokens
from ringback.models.settings import Settings

if sys.platform != "win32":
    import resource

#: How long requests under way may take to end when the program stops, in seconds.
GRACE_SECONDS = 3
#: Objects made and not freed after which garbage is looked for, and after how many times among older ones too.
GC_THRESHOLDS = (50_000, 10, 10)
#: Connections that wait to be accepted.
BACKLOG = 2048
TOKEN_FILE = "admin-token"


async def serve(settings: Settings, *, deliver: bool) -> None:
    """Serve the API until a signal comes; `deliver` makes this process a worker too.

    The worker stops first: inboxes answer, and the log is followed, until the last delivery has ended.
    """
    stopping = _Stopping()
    await bootstrap.migrate(settings)
    with _listen(settings) as sock:
        public_url = settings.address(sock.getsockname()[1])
        async with bootstrap.open_database(settings), bootstrap.share_notifications(settings.wakeups_url):
            made = await _ensure_admin(settings)
            secrets = load_secret_box(settings)
            async with (
                open_application(settings, public_url=public_url, secrets=secrets) as app,
                _served(app, sock, settings.api_max_body_bytes) as server,
            ):
                stopping.on_second(server.hurry)
                async with contextlib.AsyncExitStack() as stack:
                    if deliver:
                        worker = await stack.enter_async_context(_working(settings, secrets, public_url))
                        stopping.on_second(worker.hurry)
                    else:
                        await stack.enter_async_context(announce_due_events(settings.broker_url))
                    _settle()
                    _announce(settings, public_url, made)
                    await stopping.wait()


async def work(settings: Settings, *, supervised: bool = False) -> None:
    """Deliver until a signal comes, without serving the API; `supervised`, also until standard input ends."""
    stopping = _Stopping()
    if supervised:
        call_when_input_ends(stopping.ask)
    await bootstrap.migrate(settings)
    async with (
        bootstrap.open_database(settings),
        bootstrap.share_notifications(settings.wakeups_url),
        # Inbox URLs in webhooks are those that the api processes gave out.
        _working(settings, load_secret_box(settings), settings.address()) as worker,
    ):
        stopping.on_second(worker.hurry)
        _settle()
        print(f"Ringback {version('ringback')} is delivering. Stop it with Ctrl+C.", flush=True)
        await stopping.wait()


async def work_in_processes(count: int) -> None:
    """Deliver in so many processes until a signal comes."""
    stopping = _Stopping()
    processes = ProcessSupervisor(count, "worker", "--supervised")
    running = asyncio.create_task(processes.run())
    stopping.on_second(lambda: processes.stop(signal.SIGINT))
    await asyncio.wait([running, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    processes.stop(signal.SIGTERM)
    await running


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program's main coroutine on uvloop where there is one."""
    _allow_many_connections()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - there is none for Windows

    return uvloop.new_event_loop


def _settle() -> None:
    """Exempt what was made at the start from garbage collection: walking all of it holds every request for 0.1 s.

    What an entry leaves with each of thousands of subscribers until the next one comes, and what a thousand attempts
    under way keep, is no sign of garbage: by Python's own thresholds, looking for some took a third of the time of
    telling subscribers, and a fifth of that of delivering.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: the usual 1,024 is less than deliveries may need."""
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Stopping:
    """The first SIGINT or SIGTERM ends the program in order; another SIGINT (Ctrl+C), in a hurry.

    Another SIGTERM changes nothing: whoever signals a whole group, or gets impatient, loses no delivery by it.
    """

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._hurry: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)

    async def wait(self) -> None:
        """Wait for the first signal."""
        await self._asked.wait()

    def on_second(self, hurry: Callable[[], None]) -> None:
        """Call `hurry` when SIGINT comes after another signal."""
        self._hurry.append(hurry)

    def ask(self) -> None:
        """End the program in order."""
        self._asked.set()

    def _signalled(self, number: signal.Signals) -> None:
        if self._asked.is_set() and number is signal.SIGINT:
            for hurry in self._hurry:
                hurry()
        self._asked.set()


class _Server(uvicorn.Server):
    """uvicorn's server as a part of a program: the program has the signals, and waits for its start."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_Stopping`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell so."""
        await super().startup(sockets)
        self.serving.set()

    def hurry(self) -> None:
        """Do not wait for requests under way."""
        self.force_exit = True


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP connection, which ends in time when its client does not read."""

    def shutdown(self) -> None:
        """Close the connection after its response. Abort it if it is a stream whose client does not read."""
        if self.cycle is not None and self.cycle.chunked_encoding and self.flow.write_paused:
            self.transport.abort()
        else:
            super().shutdown()


@contextlib.asynccontextmanager
async def _served(app: Application, sock: socket.socket, max_frame_bytes: int) -> AsyncIterator[_Server]:
    """`app` answers on `sock` while the block runs; requests under way get some time to end after it."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        http=_Protocol,
        access_log=False,
        ws=WebSocketProtocol,
        # Compressing one entry for each of its subscribers costs more than all else of sending it.
        ws_per_message_deflate=False,
        ws_max_size=max_frame_bytes,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await server.serving.wait()
        yield server
    finally:
        app.end_streams()
        server.should_exit = True
        await running


def _working(
    settings: Settings, secrets: SecretBox, public_url: str
) -> contextlib.AbstractAsyncContextManager[RunningWorker]:
    policy = AddressPolicy(settings.dangerous_allow_networks)
    return run_worker(settings, policy=policy, secrets=secrets, inboxes=InboxAddresses(public_url))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigurationError(_cannot_listen(settings, error)) from error
    return sock


def _cannot_listen(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is in use: "
            "stop the other program, or set RINGBACK_PORT to another port"
        )
    return (
        f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
        "set RINGBACK_HOST and RINGBACK_PORT to an address of this machine"
    )


async def _ensure_admin(settings: Settings) -> str | None:
    """Make sure that the operator has an ADMIN token; returns one that was made just now, to be shown this once."""
    if settings.admin_token is not None:
        await api_tokens.ensure_admin(settings.admin_token.get_secret_value(), "RINGBACK_ADMIN_TOKEN")
        return None
    path = settings.data_dir / TOKEN_FILE
    is_new = not path.exists()
    secret = load_or_create_secret(path, make=api_tokens.new_bearer_token())
    await api_tokens.ensure_admin(secret, f"first admin token ({TOKEN_FILE})")
    return secret if is_new else None


def _announce(settings: Settings, public_url: str, made: str | None) -> None:
    lines = [f"Ringback {version('ringback')} is running on {public_url}"]
    if made is not None:
        lines.append(f"GraphiQL:  {public_url}/graphql#token={made}")
        lines.append(f"This link is shown once; the admin token is kept in {settings.data_dir / TOKEN_FILE}.")
    else:
        kept = "RINGBACK_ADMIN_TOKEN" if settings.admin_token is not None else str(settings.data_dir / TOKEN_FILE)
        lines.append(f"GraphiQL:  {public_url}/graphql  (admin token: {kept})")
    print("\n".join(lines), flush=True)
