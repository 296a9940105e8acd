"""Worker processes that tests kill and freeze, and the servers that they share."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support import postgres
from tests.support.program import Program, worker_environment
from tests.support.receiver import ALLOW_LOOPBACK
from tests.support.servers import redis_server


@contextlib.contextmanager
def own_servers(folder: Path, lease_seconds: float) -> Iterator[tuple[postgres.Server, dict[str, str]]]:
    """Run a Postgres and a Redis server. Yields the first, and the environment of programs that use both."""
    with postgres.own() as server, redis_server(folder) as redis:
        yield (
            server,
            {
                **ALLOW_LOOPBACK,
                "RINGBACK_DATABASE_URL": server.url,
                "RINGBACK_BROKER_URL": redis.url,
                "RINGBACK_LEASE_SECONDS": f"{lease_seconds:g}",
            },
        )


class Workers:
    """Worker processes, of which each that ends is started again."""

    def __init__(self, api: Program, env: Mapping[str, str], count: int) -> None:
        self._environment = worker_environment(api, env)
        self._log_path = api.folder / "workers.log"
        self._log = self._log_path.open("a")
        self._api = api
        self.processes: list[subprocess.Popen[str]] = []
        for _ in range(count):
            self.start()

    def start(self) -> None:
        """Start one more."""
        command = [sys.executable, "-m", "ringback.graphql_api", "worker"]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert process.stdout is not None
        self.processes.append(process)
        assert "is delivering" in process.stdout.readline(), self.log()

    def end(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        """End one by a signal. SIGTERM must end it with code 0, within 10 s."""
        self.processes.remove(process)
        process.send_signal(number)
        code = process.wait(self._api.allowed(10))
        assert process.stdout is not None
        process.stdout.close()
        assert number is signal.SIGKILL or code == 0, self.log()

    def freeze(self, process: subprocess.Popen[str], seconds: float) -> None:
        """Stop one for so long."""
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the end of what they wrote to standard error."""
        return self._log_path.read_text()[-5_000:]

    def count_lines(self, text: str) -> int:
        """Return the number of log lines with this text."""
        return sum(text in line for line in self._log_path.read_text().splitlines())

    def close(self) -> None:
        """End all of them."""
        for process in list(self.processes):
            process.send_signal(signal.SIGCONT)
            self.end(process, signal.SIGTERM)
        self._log.close()
