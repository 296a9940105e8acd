"""Worker processes that `ringback worker --processes` starts, starts again, and ends."""

import asyncio
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


def test_several_processes_need_another_database(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ringback.graphql_api", "worker", "--processes", "2"],
        env={**os.environ, "RINGBACK_DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    message = "ringback: SQLite serves one worker process: leave --processes out, or use another database\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


async def test_a_process_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_DATA_DIR", str(tmp_path))
    processes = ProcessSupervisor(1, *SUPERVISED)
    running = asyncio.create_task(processes.run())
    first = await started(processes, None)
    os.kill(first, signal.SIGKILL)
    second = await started(processes, first)
    processes.stop(signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE_SECONDS)
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def started(processes: ProcessSupervisor, other_than: int | None) -> int:
    """The id of the process, as soon as one that is not that one runs."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = [process.pid for process in processes._running if process.pid != other_than]
            if found:
                await asyncio.sleep(2)  # until it has read its settings
                return found[0]
            await asyncio.sleep(0.05)


async def test_what_the_operator_must_mend_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGBACK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RINGBACK_DATABASE_URL", "nonsense://")
    with pytest.raises(ConfigurationError, match="worker process 1 cannot run; its line above says why"):
        await asyncio.wait_for(ProcessSupervisor(1, *SUPERVISED).run(), PATIENCE_SECONDS)
    assert "ringback: RINGBACK_DATABASE_URL: " in capfd.readouterr().err


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
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
