"""The really started program: `ringback serve` in a process of its own, on a free port, in a temporary folder."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.patience import PATIENCE_SECONDS

ADMIN_TOKEN = "rbk_test-token-of-the-operator"

#: A worker process as `ringback worker --processes` starts it.
SUPERVISED = ("worker", "--supervised")
#: How long a start takes at most on a machine with nothing else to do.
IDLE_START_SECONDS = 2.0
_RUNNING = "SELECT count(*) FROM ringback_event WHERE worker_id IS NOT NULL"
#: Tables that a new database has rows in.
_FIRST_ROWS = {
    "ringback_api_token",
    "ringback_installation",
    "ringback_worker",
    "site_settings",
    "sqlite_sequence",
    "tortoise_migrations",
}


class Program:
    """`with Program(folder) as program:` starts it; leaving the block stops it and checks that it stopped cleanly."""

    def __init__(
        self,
        folder: Path,
        command: str = "serve",
        env: Mapping[str, str] | None = None,
        *,
        python: str = sys.executable,
        migrated: Path | None = None,
        own_group: bool = False,
    ) -> None:
        """Prepare a program whose files are in `folder`, to be run by `python`.

        `migrated` is a data directory to start with.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        if migrated is not None:
            shutil.copytree(migrated, self.data_dir)
        self.token = ADMIN_TOKEN
        self._command = command
        self._python = python
        self._own_group = own_group
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")},
            "RINGBACK_DATA_DIR": str(self.data_dir),
            "RINGBACK_PORT": "0",
            "RINGBACK_ADMIN_TOKEN": ADMIN_TOKEN,
            **(env or {}),
        }
        self.url = ""
        self._log_start = 0
        #: How long the last start took.
        self.start_seconds = 0.0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        code = self.stop()
        assert kind is not None or code == 0, f"the program ended with {code}:\n{self.log()}"

    def start(self) -> None:
        """Start it and wait until it says where it is reached; port 0 becomes a fixed one, for a restart."""
        began = time.monotonic()
        with (self.folder / "stderr.log").open("a") as log:
            self.process = subprocess.Popen(
                [self._python, "-m", "ringback.graphql_api", self._command],
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=self._own_group,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"running on (http://\S+)", line)
        if found is None:
            code = self.process.wait(PATIENCE_SECONDS)
            raise AssertionError(f"the program did not start ({code}): {line}\n{self.log()}")
        self.url = found.group(1)
        self.start_seconds = time.monotonic() - began
        self._env["RINGBACK_PORT"] = self.url.rsplit(":", 1)[1]

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""
        assert self.process is not None
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the program did not stop in {PATIENCE_SECONDS} s:\n{self.log()}") from None
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def allowed(self, seconds: float) -> float:
        """Return `seconds`, scaled up by as much as the program's last start took longer than IDLE_START_SECONDS."""
        return seconds * max(1.0, self.start_seconds / IDLE_START_SECONDS)

    def empty(self) -> None:
        """Delete all that the embedded database did not have at first, once no attempt is running.

        Ids of log entries are not used again, so the program's own position in the log stays right.
        """
        assert self.process is not None and self.process.poll() is None, "an earlier test ended the shared program"
        reset = self.query("mutation { updateSiteSettings(input: {trackLeads: false}) { errors { message } } }")
        assert reset["updateSiteSettings"]["errors"] == []
        with closing(sqlite3.connect(self.data_dir / "ringback.db", PATIENCE_SECONDS, isolation_level=None)) as db:
            self.wait_until(lambda: _begins_idle(db), "the end of all attempts")
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if table not in _FIRST_ROWS:
                    db.execute(f"DELETE FROM {table}")
            db.execute("DELETE FROM ringback_api_token WHERE name <> 'RINGBACK_ADMIN_TOKEN'")
            db.execute("COMMIT")
        self._log_start = (self.folder / "stderr.log").stat().st_size

    def log(self) -> str:
        """Return what it wrote to standard error, since it was emptied."""
        return (self.folder / "stderr.log").read_bytes()[self._log_start :].decode()

    def query(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The data of an operation; fails when there are top-level errors."""
        answer = self.execute(document, variables)
        assert "errors" not in answer, answer["errors"]
        data = answer["data"]
        assert isinstance(data, dict)
        return data

    def execute(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The whole answer to an operation."""
        status, answer = self.post({"query": document, "variables": variables or {}})
        assert status == 200, (status, answer)
        assert isinstance(answer, dict)
        return answer

    def post(self, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """POST a body (JSON unless it is bytes) to /graphql with the operator's token; status and decoded answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}", **(headers or {})}
        status, _, text = self.request("POST", "/graphql", data, sent)
        return status, json.loads(text)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, "Message[str, str]", bytes]:
        """Any request; status, headers and body of the answer."""
        request = urllib.request.Request(self.url + path, body, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def wait_until(self, condition: Any, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Ask `condition` until it gives something true, which is returned."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds} s in vain for {what}\n{self.log()}")


def _begins_idle(db: sqlite3.Connection) -> bool:
    """Begin a transaction in which no event is claimed, and can be; returns whether it is open."""
    db.execute("BEGIN IMMEDIATE")
    is_idle: bool = db.execute(_RUNNING).fetchone() == (0,)
    if not is_idle:
        db.execute("ROLLBACK")
    return is_idle


@contextmanager
def worker(program: Program, env: Mapping[str, str], name: str = "worker") -> Iterator[subprocess.Popen[str]]:
    """Start a worker process on the data of an api process. It must end cleanly, unless it is killed."""
    log_path = program.folder / f"{name}.log"
    with log_path.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringback.graphql_api", "worker"],
            env=worker_environment(program, env),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    assert "is delivering" in process.stdout.readline(), log_path.read_text()
    try:
        yield process
    finally:
        process.terminate()
        code = process.wait(PATIENCE_SECONDS)
        process.stdout.close()
    assert code in (0, -signal.SIGKILL), log_path.read_text()


def worker_environment(program: Program, env: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "RINGBACK_DATA_DIR": str(program.data_dir), "RINGBACK_PUBLIC_URL": program.url, **env}
