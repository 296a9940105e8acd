"""The worker processes that `ringback worker --processes` starts, restarts and stops."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ringback.graphql_api.supervisor import ProcessSupervisor
from ringback.models.errors import ConfigurationError
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import SUPERVISED


def test_several_processes_need_postgres(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ringback.graphql_api", "worker", "--processes", "2"],
        env={**os.environ, "RINGBACK_DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    message = (
        "ringback: --processes is 2, but SQLite allows one worker process. "
        "Omit --processes, or set RINGBACK_DATABASE_URL to a Postgres database.\n"
    )
    start, end = done.stderr.split("\n", 1)
    assert (done.returncode, done.stdout, end) == (1, "", message)
    assert json.loads(start)["event"] == f"using the data directory {tmp_path}"


async def test_a_process_that_dies_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_DATA_DIR", str(tmp_path))
    processes = ProcessSupervisor(1, *SUPERVISED)
    running = asyncio.create_task(processes.run())
    first = await wait_for_process(processes, None)
    os.kill(first, signal.SIGKILL)
    second = await wait_for_process(processes, first)
    processes.stop(signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE_SECONDS)
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def wait_for_process(processes: ProcessSupervisor, other_than: int | None) -> int:
    """Wait until a process other than `other_than` runs and return its id."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            pids = [process.pid for process in processes._running if process.pid != other_than]
            if pids:
                await asyncio.sleep(2)  # until it has read its settings
                return pids[0]
            await asyncio.sleep(0.05)


async def test_a_configuration_error_ends_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGBACK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RINGBACK_DATABASE_URL", "nonsense://")
    with pytest.raises(ConfigurationError, match="Worker process 1 cannot run. Fix the error that it printed above."):
        await asyncio.wait_for(ProcessSupervisor(1, *SUPERVISED).run(), PATIENCE_SECONDS)
    assert "ringback: RINGBACK_DATABASE_URL starts with neither" in capfd.readouterr().err


def test_a_process_ends_with_its_supervisor(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ringback.graphql_api", *SUPERVISED],
        env={**os.environ, "RINGBACK_DATA_DIR": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert "is delivering" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(PATIENCE_SECONDS) == 0
    process.stdout.close()
