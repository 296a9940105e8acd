"""How the program starts: what it prints, and the one line with which it refuses to start."""

import asyncio
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ringback.models import bootstrap, load_settings
from tests.support import builders
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import ADMIN_TOKEN, Program


def run_and_fail(data_dir: Path, command: str = "serve", **env: str) -> str:
    """Run the program, which must end with exit code 1. Return its only line on stderr, besides its log."""
    done = subprocess.run(
        [sys.executable, "-m", "ringback.graphql_api", command],
        env={**os.environ, "RINGBACK_DATA_DIR": str(data_dir), "RINGBACK_PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("ringback: ")
    return line


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = run_and_fail(tmp_path, RINGBACK_PORT=port)
    assert line == (
        f"ringback: Port {port} on 127.0.0.1 is in use. Stop the other program, or set RINGBACK_PORT to another port."
    )


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    line = run_and_fail(tmp_path, RINGBACK_HOST="192.0.2.1")
    assert line.startswith("ringback: Cannot listen on 192.0.2.1:0 (")
    assert line.endswith("Set RINGBACK_HOST and RINGBACK_PORT to an address of this machine.")


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    line = run_and_fail(blocked / "data")
    assert line == (
        f"ringback: Cannot write to {blocked / 'data'} (Not a directory). "
        "Make it writable, or set RINGBACK_DATA_DIR to another folder."
    )


def test_a_data_directory_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere except in /proc
        closed = Path("/proc/closed")
    line = run_and_fail(closed / "data")
    assert line.startswith(f"ringback: Cannot write to {closed / 'data'} (")
    assert line.endswith("Make it writable, or set RINGBACK_DATA_DIR to another folder.")


def test_a_database_that_is_newer_than_the_program(tmp_path: Path, migrated: Path) -> None:
    path = tmp_path / "ringback.db"
    path.write_bytes((migrated / "ringback.db").read_bytes())
    connection = sqlite3.connect(path)
    table = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%migrations%'").fetchone()[0]
    connection.execute(f"INSERT INTO {table} (app, name, applied_at) VALUES ('ringback', '9999_future', '2030-01-01')")
    connection.commit()
    connection.close()
    line = run_and_fail(tmp_path)
    assert line == (
        f"ringback: The database {path} is newer than this program (it has 9999_future). "
        "Upgrade Ringback, or use another database."
    )


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ringback.db").write_text("hello " * 1000)
    line = run_and_fail(tmp_path)
    assert line.startswith(f"ringback: Cannot open the database {tmp_path / 'ringback.db'} (")
    assert line.endswith("file is not a database). Set RINGBACK_DATABASE_URL to another file, or restore this one.")


async def add_webhook(data_dir: Path) -> None:
    async with bootstrap.open_database(load_settings(data_dir=data_dir)):
        await builders.webhook()


def test_a_missing_key(tmp_path: Path, migrated: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(migrated, data_dir)
    asyncio.run(add_webhook(data_dir))

    for command in ("serve", "api", "worker"):
        assert run_and_fail(data_dir, command) == (
            "ringback: The database has encrypted signing secrets, but RINGBACK_SECRET_KEY is not set and "
            f"{data_dir / 'secret.key'} does not exist. "
            "Set RINGBACK_SECRET_KEY to the key they were encrypted with, or restore the file."
        )

    assert not (data_dir / "secret.key").exists()
    assert not (data_dir / "admin-token").exists()


def test_a_second_program_on_the_same_data(program: Program) -> None:
    expected = (
        f"ringback: Another worker is running on {program.data_dir / 'ringback.db'}. "
        "End it, or use another RINGBACK_DATA_DIR."
    )
    assert run_and_fail(program.data_dir, RINGBACK_ADMIN_TOKEN=ADMIN_TOKEN) == expected
    assert run_and_fail(program.data_dir, "worker") == expected
    assert program.request("GET", "/readyz")[0] == 200


def start_and_stop(data_dir: Path, *, terminal: bool = False, **env: str) -> tuple[str, str]:
    """Start the program, stop it, and return what it printed about GraphiQL: the link and the line below."""
    output, descriptor = os.openpty() if terminal else os.pipe()
    with open(output) as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringback.graphql_api", "serve"],
            env={**os.environ, "RINGBACK_DATA_DIR": str(data_dir), "RINGBACK_PORT": "0", **env},
            stdout=descriptor,
            stderr=subprocess.DEVNULL,
        )
        try:
            os.close(descriptor)
            address = lines.readline().split()[-1]
            link, hint = lines.readline().strip(), lines.readline().strip()
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
    return link.replace(address, "http://HOST"), hint


def test_each_start_prints_the_graphiql_link(tmp_path: Path, migrated: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(migrated, data_dir)
    path = data_dir / "admin-token"
    path.unlink(missing_ok=True)

    first = start_and_stop(data_dir)
    token = path.read_text().strip()
    with_token = (
        f"GraphiQL:  http://HOST/graphql#token={token}",
        f"The link contains the admin token, which is stored in {path}.",
    )
    without_token = (
        "GraphiQL:  http://HOST/graphql",
        f"GraphiQL asks for a token. The admin token is in {path}.",
    )
    assert first == with_token

    # Later starts print the token in a terminal only.
    assert start_and_stop(data_dir) == without_token
    assert start_and_stop(data_dir, terminal=True) == with_token
    path.chmod(0o640)
    assert start_and_stop(data_dir, terminal=True) == with_token
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_revoked_token_is_not_printed(tmp_path: Path, migrated: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(migrated, data_dir)
    start_and_stop(data_dir)
    with closing(sqlite3.connect(data_dir / "ringback.db", isolation_level=None)) as db:
        db.execute("UPDATE ringback_api_token SET revoked_at = created_at")

    assert start_and_stop(data_dir, terminal=True) == (
        "GraphiQL:  http://HOST/graphql",
        f"The token in {data_dir / 'admin-token'} was revoked. Create one: ringback token create NAME",
    )


def test_a_configured_token_is_not_printed(tmp_path: Path, migrated: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(migrated, data_dir)

    assert start_and_stop(data_dir, terminal=True, RINGBACK_ADMIN_TOKEN=ADMIN_TOKEN) == (
        "GraphiQL:  http://HOST/graphql",
        "GraphiQL asks for a token. The admin token is in RINGBACK_ADMIN_TOKEN.",
    )
