"""The measured system: Ringback's processes, database and broker, and the sink.

All are real programs on free ports and in temporary folders, stopped at the end of their blocks. Postgres keeps its
default durability (fsync, synchronous_commit), with more memory. Ringback runs with its default settings, its log
included.
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

from bench.load import WrongResult, cpu_seconds
from ringback.models import Settings, load_settings
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.servers import redis_server

#: Memory for a server of this size, and the commit times of transactions.
POSTGRES = ("listen_addresses=", "shared_buffers=1GB", "max_wal_size=8GB", "track_commit_timestamp=on")
#: Seconds between SIGTERM and SIGKILL.
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """Counts of the sink. `first` and `last` are monotonic times, `arrivals` wall-clock times by event id."""

    requests: int
    hung: int
    body_bytes: int
    first: float
    last: float
    cpu: float
    arrivals: Mapping[str, float]


class SinkProcess:
    """The sink, seen from the benchmark."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: The highest share of a core that it used. Near 1, the sink itself would be the bottleneck.
        self.busiest = 0.0

    def report(self) -> Received:
        """Return the counts since the last report."""
        received = Received(**json.loads(self._get("/report", PATIENCE_SECONDS)))
        if received.last - received.first > 0.5:
            self.busiest = max(self.busiest, received.cpu / (received.last - received.first))
        return received

    def until(self, requests: int, seconds: float) -> None:
        """Wait until `requests` requests have arrived. Raises WrongResult after `seconds`."""
        try:
            self._get(f"/until/{requests}", seconds)
        except (TimeoutError, URLError) as error:
            raise WrongResult(f"{self.report().requests} of {requests} requests arrived in {seconds:g} s") from error

    def _get(self, path: str, seconds: float) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=seconds) as answer:  # noqa: S310 - the sink's own address
            return bytes(answer.read())


@dataclass(slots=True)
class Installation:
    """Ringback on one database and one broker, chosen by `env`. Its programs run with `python`.

    `peaks` collects the peak memory of workers in MB; `cpu` is their CPU time in seconds.
    """

    folder: Path
    env: Mapping[str, str]
    peaks: list[float] = field(default_factory=list)
    cpu: float = 0.0
    python: str = sys.executable

    @property
    def settings(self) -> Settings:
        """The settings of its processes."""
        return load_settings(**{name.removeprefix("RINGBACK_").lower(): value for name, value in self.env.items()})

    def fetch(self, statement: str) -> list[asyncpg.Record]:
        """Return the rows of a query, on Postgres."""

        async def query() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.settings.database_url)
            try:
                return await connection.fetch(statement)
            finally:
                await connection.close()

        return asyncio.run(query())

    @contextmanager
    def api(self) -> Iterator[Program]:
        """Run `ringback api`."""
        with Program(self.folder, "api", self.env, python=self.python) as program:
            yield program

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Run `ringback serve`, which delivers in the API's process."""
        with Program(self.folder, "serve", self.env, python=self.python) as program:
            assert program.process is not None
            with self._measure_resources([program.process.pid]):
                yield

    @contextmanager
    def worker(self, processes: int = 1) -> Iterator[None]:
        """Run `ringback worker`. Raises WrongResult if it does not start, or fails."""
        command = ["ringback.graphql_api", "worker", "--processes", str(processes)]
        path = self.folder / "worker.log"
        with path.open("a") as log, start_module(command, self.env, log=log, python=self.python) as started:
            process, first_line = started
            assert process.stdout is not None
            lines = [first_line, *(process.stdout.readline() for _ in range(processes - 1))]
            if not all("is delivering" in line for line in lines):
                raise WrongResult(f"the worker did not start: {''.join(lines)} {path.read_text()[-2_000:]}")
            workers = [process.pid] if processes == 1 else child_processes(process.pid)
            with self._measure_resources(workers):
                yield
        if process.returncode:
            raise WrongResult(f"the worker ended with {process.returncode}: {path.read_text()[-2_000:]}")

    @contextmanager
    def _measure_resources(self, processes: Sequence[int]) -> Iterator[None]:
        before = sum(cpu_seconds(process) or 0.0 for process in processes)
        yield
        self.peaks += [peak_memory(process) for process in processes]
        self.cpu = sum(cpu_seconds(process) or 0.0 for process in processes) - before


class Bench:
    """Resources shared by all figures: a Postgres server, the sink, and notes on the side."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._sink: SinkProcess | None = None
        self._shared: Installation | None = None
        #: Values noted since the last `take_notes`, by name.
        self.notes: dict[str, list[float]] = {}
        #: Peak memory of each measured worker process, in MB.
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
        """The sink, started at its first use."""
        if self._sink is None:
            _, url = self._stack.enter_context(start_module(["bench.sink"], {}))
            self._sink = SinkProcess(url)
        return self._sink

    def note(self, name: str, value: float) -> None:
        """Note a value that is no figure, but explains one."""
        self.notes.setdefault(name, []).append(value)

    def take_notes(self) -> dict[str, list[float]]:
        """Return the notes since the last call."""
        notes, self.notes = self.notes, {}
        return notes

    @property
    def busiest(self) -> float:
        """The highest share of a core that the sink used."""
        return self._sink.busiest if self._sink else 0.0

    def postgres_cpu(self) -> float:
        """Return the CPU time of all Postgres processes so far, in seconds."""
        return postgres_cpu(self._server.process_id)

    @cached_property
    def _server(self) -> postgres.Server:
        if postgres.binaries() is None:
            raise WrongResult(postgres.HOW)
        return self._stack.enter_context(postgres.started(POSTGRES))

    @cached_property
    def _migrated(self) -> str:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        return postgres.migrated(self._server.url, folder)

    def open_shared(self, create: Callable[[], AbstractContextManager[Installation]]) -> Installation:
        """Return an expensive installation. The first call creates it, for the rest of the run."""
        if self._shared is None:
            self._shared = self._stack.enter_context(create())
        return self._shared

    @contextmanager
    def open_on_postgres(
        self, settings: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> Iterator[Installation]:
        """Open an installation on a new, empty Postgres database, with its own Redis.

        The database has the tables of this tree, or no tables for the `python` of another commit.
        """
        template = {"template": self._migrated} if python == sys.executable else {}
        url = asyncio.run(postgres.create(self._server.url, **template))
        with ExitStack() as stack:
            # Runs last, when no program is connected any more.
            stack.callback(lambda: asyncio.run(postgres.drop(self._server.url, url)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis = stack.enter_context(redis_server(folder))
            env = {"RINGBACK_DATABASE_URL": url, "RINGBACK_BROKER_URL": redis.url, **(settings or {})}
            yield self._installation(folder, env, python)

    @contextmanager
    def open_embedded(self, python: str = sys.executable) -> Iterator[Installation]:
        """Open an installation on the embedded default: SQLite, one process, no other server."""
        with tempfile.TemporaryDirectory() as folder:
            yield self._installation(Path(folder), {}, python)

    def _installation(self, folder: Path, env: Mapping[str, str], python: str) -> Installation:
        common = {"RINGBACK_DATA_DIR": str(folder / "data"), "RINGBACK_DANGEROUS_ALLOW_NETWORKS": "127.0.0.0/8"}
        return Installation(folder, {**common, **env}, self.peaks, python=python)


@contextmanager
def start_module(
    module: Sequence[str], env: Mapping[str, str], log: Any = None, *, python: str = sys.executable
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `python -m MODULE ARGUMENTS`. Yields the process and the first line that it prints."""
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
    """Return the peak memory of a process, in MB (VmHWM of proc(5)). Raises WrongResult if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError as error:
        raise WrongResult(f"The worker {process} ended while it was measured.") from error
    lines = (line.split() for line in status.splitlines())
    return next(int(words[1]) * 1024 / 1e6 for words in lines if words[0] == "VmHWM:")


def postgres_cpu(process: int) -> float:
    """Return the CPU time of a process and its children, running or ended, in seconds (proc(5))."""
    ticks = 0
    for number in (process, *child_processes(process)):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue  # it has ended, so its time is part of its parent's
        utime, stime, children_utime, children_stime = (int(field) for field in fields[11:15])
        ticks += utime + stime
        if number == process:
            ticks += children_utime + children_stime
    return ticks / os.sysconf("SC_CLK_TCK")


def child_processes(process: int) -> list[int]:
    """Return the ids of the running children of a process."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
