"""How the program starts and stops: in order, within its time, with one line when the operator must mend something."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.deliveries import create_inbox, create_webhook, database, ended, event, key, test_fire
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import ADMIN_TOKEN, Program
from tests.support.receiver import ALLOW_LOOPBACK, Receiver

#: What the program may take to stop, whatever is under way.
STOP_SECONDS = 10.0


def refused(data_dir: Path, command: str = "serve", **env: str) -> str:
    """Run the program, which must end with exit code 1; returns its one line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "ringback.graphql_api", command],
        env={**os.environ, "RINGBACK_DATA_DIR": str(data_dir), "RINGBACK_PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("ringback: ")
    return line


def stop(program: Program, *signals: signal.Signals, group: bool = False) -> float:
    """Send the signals, 0.2 s apart; returns how long the program took to end with exit code 0."""
    process = program.process
    assert process is not None
    started = time.monotonic()
    for number in signals:
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(0.2)
    assert program._wait() == 0, program.log()
    return time.monotonic() - started


# ------------------------------------------------------------------------------------------------------------- refused


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(tmp_path, RINGBACK_PORT=port)
    assert line == (
        f"ringback: port {port} on 127.0.0.1 is in use: stop the other program, or set RINGBACK_PORT to another port"
    )


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    line = refused(tmp_path, RINGBACK_HOST="192.0.2.1")
    assert line.startswith("ringback: cannot listen on 192.0.2.1:0 (")
    assert line.endswith("set RINGBACK_HOST and RINGBACK_PORT to an address of this machine")


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    line = refused(blocked / "data")
    assert line == (
        f"ringback: cannot write to {blocked / 'data'} (Not a directory): "
        "make it writable, or set RINGBACK_DATA_DIR to another folder"
    )


def test_a_data_directory_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # who may write anywhere, but not there
        closed = Path("/proc/closed")
    line = refused(closed / "data")
    assert line.startswith(f"ringback: cannot write to {closed / 'data'} (")
    assert line.endswith("make it writable, or set RINGBACK_DATA_DIR to another folder")


def test_a_database_that_is_newer_than_the_program(tmp_path: Path, migrated: Path) -> None:
    path = tmp_path / "ringback.db"
    path.write_bytes((migrated / "ringback.db").read_bytes())
    connection = sqlite3.connect(path)
    table = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%migrations%'").fetchone()[0]
    connection.execute(f"INSERT INTO {table} (app, name, applied_at) VALUES ('ringback', '9999_future', '2030-01-01')")
    connection.commit()
    connection.close()
    line = refused(tmp_path)
    assert line == (
        f"ringback: the database {path} is newer than this program (it has 9999_future): "
        "upgrade Ringback, or use another database"
    )


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ringback.db").write_text("hello " * 1000)
    line = refused(tmp_path)
    assert line.startswith(f"ringback: cannot open the database {tmp_path / 'ringback.db'} (")
    assert line.endswith("file is not a database): set RINGBACK_DATABASE_URL to another file, or restore this one")


def test_a_second_program_on_the_same_data(program: Program) -> None:
    expected = (
        f"ringback: another worker is running on {program.data_dir / 'ringback.db'}: "
        "end it, or use another RINGBACK_DATA_DIR"
    )
    assert refused(program.data_dir, RINGBACK_ADMIN_TOKEN=ADMIN_TOKEN) == expected
    assert refused(program.data_dir, "worker") == expected
    assert program.request("GET", "/readyz")[0] == 200


# ------------------------------------------------------------------------------------------------------------ stopping


@pytest.mark.parametrize(
    ("signals", "group"),
    [
        ((signal.SIGTERM,), False),
        ((signal.SIGINT,), False),
        ((signal.SIGTERM,), True),
        ((signal.SIGTERM, signal.SIGTERM), True),
        ((signal.SIGINT, signal.SIGINT), True),
    ],
    ids=["SIGTERM", "SIGINT", "the whole group", "the whole group, twice", "Ctrl+C, twice"],
)
def test_a_signal_ends_it_in_order(tmp_path: Path, signals: tuple[signal.Signals, ...], group: bool) -> None:
    with Receiver(delay_seconds=(1.2, 1.2)) as receiver:
        program = _with_deliveries_under_way(tmp_path, receiver, timeout_seconds=3)
        assert stop(program, *signals, group=group) < STOP_SECONDS
    outcome = "ABANDONED" if signals == (signal.SIGINT, signal.SIGINT) else "DELIVERED"
    assert _attempts(program) == {outcome: 20}
    _nothing_is_held(program)


def test_an_endpoint_that_hangs_is_not_waited_for_too_long(tmp_path: Path) -> None:
    with Receiver(delay_seconds=(20, 20)) as receiver:
        program = _with_deliveries_under_way(tmp_path, receiver, timeout_seconds=30)
        assert 4 < stop(program, signal.SIGTERM) < STOP_SECONDS
    assert _attempts(program) == {"ABANDONED": 20}
    _nothing_is_held(program)


def test_its_own_inbox_answers_until_the_last_delivery_has_ended(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.start()
    inbox = create_inbox(program, {"delayMs": 1_000})
    fired = test_fire(program, create_webhook(program, inbox))
    program.wait_until(lambda: _in_flight(program) == 1, "the delivery")
    assert stop(program, signal.SIGTERM) < STOP_SECONDS
    assert _attempts(program) == {"DELIVERED": 1}
    with database(program) as connection:
        status = connection.execute("SELECT status FROM ringback_event WHERE id = ?", [str(key(fired))]).fetchone()
    assert status == ("SUCCEEDED",)


def test_what_waits_goes_on_after_a_restart(tmp_path: Path) -> None:
    with Receiver(refuse=1.0, refusals=1) as receiver, Program(tmp_path, env=ALLOW_LOOPBACK) as program:
        fired = test_fire(program, create_webhook(program, receiver.url, retryDelaysSeconds=[0, 2]))
        program.wait_until(lambda: event(program, fired)["status"] == "RETRYING", "the first attempt")
        due = event(program, fired)["nextAttemptAt"]
        assert program.stop() == 0
        program.start()
        assert event(program, fired)["nextAttemptAt"] in (due, None)
        found = ended(program, fired)
        assert [a["outcome"] for a in found["attempts"]] == ["REJECTED", "DELIVERED"]


def _with_deliveries_under_way(folder: Path, receiver: Receiver, *, timeout_seconds: float) -> Program:
    env: Mapping[str, str] = ALLOW_LOOPBACK
    program = Program(folder, env=env, own_group=True)
    program.start()
    webhook = create_webhook(program, receiver.url, timeoutSeconds=timeout_seconds)
    for _ in range(20):
        test_fire(program, webhook)
    program.wait_until(lambda: sum(receiver.seen.values()) == 20, "20 requests")
    return program


def _in_flight(program: Program) -> int:
    with database(program) as connection:
        query = "SELECT count(*) FROM ringback_event WHERE lease_begun_at IS NOT NULL"
        return int(connection.execute(query).fetchone()[0])


def _attempts(program: Program) -> dict[str, int]:
    with database(program) as connection:
        return dict(connection.execute("SELECT outcome, count(*) FROM ringback_attempt GROUP BY outcome"))


def _nothing_is_held(program: Program) -> None:
    with database(program) as connection:
        assert connection.execute("SELECT count(*) FROM ringback_event WHERE lease IS NOT NULL").fetchone() == (0,)
