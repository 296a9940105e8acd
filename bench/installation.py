"""What is measured: Ringback as it is installed, its processes, its database, its broker, and the sink.

Everything is started for real, on free ports and in temporary folders, and ended with its block. Postgres is durable as
it comes (fsync, synchronous_commit); it is only told that the machine is not a tiny one. Ringback runs with its default
settings, its log included.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError

import asyncpg

from bench.load import Wrong, cpu_seconds
from ringback.models import Settings, load_settings
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.servers import redis_server

#: Beside Postgres's defaults: what any server of this size is given, and when each transaction was committed.
POSTGRES = ("listen_addresses=", "shared_buffers=1GB", "max_wal_size=8GB", "track_commit_timestamp=on")
#: How long a process may take to end when it is told to, in seconds.
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """What the sink got. Moments are of the monotonic clock; those of `arrivals`, by event, of the wall's."""

    requests: int
    hung: int
    body_bytes: int
    first: float
    last: float
    cpu: float
    arrivals: Mapping[str, float]


class SinkProcess:
    """The sink from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: The greatest share of a core that it used: near 1, it would be what is measured.
        self.busiest = 0.0

    def report(self) -> Received:
        """What came since the last report."""
        received = Received(**json.loads(self._get("/report", PATIENCE_SECONDS)))
        if received.last - received.first > 0.5:
            self.busiest = max(self.busiest, received.cpu / (received.last - received.first))
        return received

    def until(self, requests: int, seconds: float) -> None:
        """Wait until so many requests have come; raises Wrong when they have not after so long."""
        try:
            self._get(f"/until/{requests}", seconds)
        except (TimeoutError, URLError) as error:
            raise Wrong(f"{self.report().requests} of {requests} requests came in {seconds:g} s") from error

    def _get(self, path: str, seconds: float) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=seconds) as answer:  # noqa: S310 - the sink's own address
            return bytes(answer.read())


@dataclass(slots=True)
class Installation:
    """Ringback on one database and one broker; `env` says which, `peaks` is told how much memory workers took.

    Its programs are those of `python`'s environment. `cpu` is what the workers took of a processor from their start to
    their end, in seconds.
    """

    folder: Path
    env: Mapping[str, str]
    peaks: list[float] = field(default_factory=list)
    cpu: float = 0.0
    python: str = sys.executable

    @property
    def settings(self) -> Settings:
        """The same as the processes have."""
        return load_settings(**{name.removeprefix("RINGBACK_").lower(): value for name, value in self.env.items()})

    def fetch(self, statement: str) -> list[asyncpg.Record]:
        """What a query gives, on Postgres."""

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.settings.database_url)
            try:
                return await connection.fetch(statement)
            finally:
                await connection.close()

        return asyncio.run(ask())

    @contextmanager
    def api(self) -> Iterator[Program]:
        """`ringback api` during the block."""
        with Program(self.folder, "api", self.env, python=self.python) as program:
            yield program

    @contextmanager
    def serve(self) -> Iterator[None]:
        """`ringback serve`, which delivers in the process that answers, during the block."""
        with Program(self.folder, "serve", self.env, python=self.python) as program:
            assert program.process is not None
            with self._watched([program.process.pid]):
                yield

    @contextmanager
    def worker(self, processes: int = 1) -> Iterator[None]:
        """`ringback worker` during the block."""
        command = ["ringback.graphql_api", "worker", "--processes", str(processes)]
        path = self.folder / "worker.log"
        with path.open("a") as log, started(command, self.env, log=log, python=self.python) as (process, line):
            assert process.stdout is not None
            lines = [line, *(process.stdout.readline() for _ in range(processes - 1))]
            if not all("is delivering" in line for line in lines):
                raise Wrong(f"the worker did not start: {''.join(lines)} {path.read_text()[-2_000:]}")
            with self._watched([process.pid] if processes == 1 else children(process.pid)):
                yield
        if process.returncode:
            raise Wrong(f"the worker ended with {process.returncode}: {path.read_text()[-2_000:]}")

    @contextmanager
    def _watched(self, processes: Sequence[int]) -> Iterator[None]:
        before = sum(cpu_seconds(process) or 0.0 for process in processes)
        yield
        self.peaks += [peak_memory(process) for process in processes]
        self.cpu = sum(cpu_seconds(process) or 0.0 for process in processes) - before


class Bench:
    """What the figures share: a Postgres server, the sink, and what was noticed by the way."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._sink: SinkProcess | None = None
        self._kept: Installation | None = None
        #: What was noticed by the way since somebody asked, by name.
        self.notes: dict[str, list[float]] = {}
        #: Peak memory of each worker process that was measured, in megabytes.
        self.peaks: list[float] = []

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def sink(self) -> SinkProcess:
        """The sink, which is started when it is first asked for."""
        if self._sink is None:
            _, url = self._stack.enter_context(started(["bench.sink"], {}))
            self._sink = SinkProcess(url)
        return self._sink

    def note(self, name: str, value: float) -> None:
        """Keep what is no figure, but says where the time goes."""
        self.notes.setdefault(name, []).append(value)

    def noted(self) -> dict[str, list[float]]:
        """What was noted since the last time."""
        noted, self.notes = self.notes, {}
        return noted

    @property
    def busiest(self) -> float:
        """The greatest share of a core that the sink used."""
        return self._sink.busiest if self._sink else 0.0

    def postgres_cpu(self) -> float:
        """Return what Postgres and all of its processes have taken of a processor so far, in seconds."""
        return postgres_cpu(self._server.process_id)

    @cached_property
    def _server(self) -> postgres.Server:
        if postgres.binaries() is None:
            raise Wrong(postgres.HOW)
        return self._stack.enter_context(postgres.started(POSTGRES))

    @cached_property
    def _migrated(self) -> str:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        return postgres.migrated(self._server.url, folder)

    def kept(self, made: Callable[[], AbstractContextManager[Installation]]) -> Installation:
        """An installation that is dear to make: the one that the first call made, until the end of the run."""
        if self._kept is None:
            self._kept = self._stack.enter_context(made())
        return self._kept

    @contextmanager
    def on_postgres(
        self, settings: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> Iterator[Installation]:
        """An installation on a new, empty Postgres database, with a Redis of its own.

        The database has the tables of this tree. That of another commit's `python` has none yet.
        """
        template = {"template": self._migrated} if python == sys.executable else {}
        url = asyncio.run(postgres.create(self._server.url, **template))
        with ExitStack() as stack:
            # Dropped last, when nobody is connected to it.
            stack.callback(lambda: asyncio.run(postgres.drop(self._server.url, url)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis = stack.enter_context(redis_server(folder))
            env = {"RINGBACK_DATABASE_URL": url, "RINGBACK_BROKER_URL": redis.url, **(settings or {})}
            yield self._installation(folder, env, python)

    @contextmanager
    def embedded(self, python: str = sys.executable) -> Iterator[Installation]:
        """An installation on the embedded default: SQLite, one process, no other server."""
        with tempfile.TemporaryDirectory() as folder:
            yield self._installation(Path(folder), {}, python)

    def _installation(self, folder: Path, env: Mapping[str, str], python: str) -> Installation:
        given = {"RINGBACK_DATA_DIR": str(folder / "data"), "RINGBACK_DANGEROUS_ALLOW_NETWORKS": "127.0.0.0/8"}
        return Installation(folder, {**given, **env}, self.peaks, python=python)


@contextmanager
def started(
    module: Sequence[str], env: Mapping[str, str], log: Any = None, *, python: str = sys.executable
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A module's process during the block, and the first line that it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RINGBACK_")}
    with subprocess.Popen(
        [python, "-m", *module], stdout=subprocess.PIPE, stderr=log, text=True, env={**clean, **env}
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def peak_memory(process: int) -> float:
    """The most memory that a process has had at a time, in megabytes (VmHWM of proc(5)); Wrong when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError as error:
        raise Wrong("a worker ended while it was measured") from error
    lines = (line.split() for line in status.splitlines())
    return next(int(words[1]) * 1024 / 1e6 for words in lines if words[0] == "VmHWM:")


def postgres_cpu(process: int) -> float:
    """Return the CPU time of a process, its children, and those of them that have ended, in seconds (proc(5))."""
    ticks = 0
    for number in (process, *children(process)):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue  # it has ended, and is counted with its parent from now on
        utime, stime, children_utime, children_stime = (int(field) for field in fields[11:15])
        ticks += utime + stime
        if number == process:
            ticks += children_utime + children_stime
    return ticks / os.sysconf("SC_CLK_TCK")


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
