"""The command line: its options, the database that each command uses, and its messages."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ringback.graphql_api.cli import app
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ["serve", "api", "worker", "migrate", "export-schema", "token create", "token list", "token revoke"]
#: Packages that take long to import, and that neither `--help` nor `--version` needs.
SLOW_PACKAGES = {"tortoise", "strawberry", "aiohttp", "pydantic", "uvicorn", "dramatiq"}


def run(
    *arguments: str, cwd: Path = ROOT, env: dict[str, str] | None = None, module: str = "ringback.graphql_api"
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def copy_of(migrated: Path, folder: Path) -> Path:
    return Path(shutil.copytree(migrated, folder / "data"))


@pytest.mark.parametrize("module", ["ringback", "ringback.graphql_api"])
def test_version(module: str) -> None:
    done = run("--version", module=module)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"ringback {version('ringback')}\n", "")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_import_no_slow_package(option: str) -> None:
    script = (
        "import sys; from ringback.graphql_api.cli import app\n"
        f"try: app([{option!r}])\n"
        "except SystemExit: pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    imported = set(done.stdout.splitlines()[-1].split())
    assert "typer" in imported
    assert imported & SLOW_PACKAGES == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_in_two_forms(command: str) -> None:
    short, long = [CliRunner().invoke(app, [*command.split(), option]) for option in ("-h", "--help")]

    assert (short.exit_code, short.stderr) == (0, "")
    assert short.stdout == long.stdout
    assert ("--data-dir" in short.stdout) is (command != "export-schema")


def test_a_created_token_is_listed_and_revoked(tmp_path: Path, migrated: Path) -> None:
    data = copy_of(migrated, tmp_path)
    note = f"ringback: using the data directory {data}\n"

    created = run("token", "create", "CI job", "--expires-in-days", "3", "--data-dir", str(data))
    listed = run("token", "list", "--data-dir", str(data))

    assert (created.returncode, created.stderr) == (0, note)
    assert re.fullmatch(r"rbk_\S{43}\n", created.stdout)
    assert (listed.returncode, listed.stderr) == (0, note)
    heading, line = listed.stdout.splitlines()
    assert re.split(r"  +", heading) == ["ID", "NAME", "ROLE", "CREATED", "LAST USED", "EXPIRES", "REVOKED"]
    token_id, name, role, created_at, last_used_at, expires_at, revoked_at = re.split(r"  +", line)
    assert (name, role, last_used_at, revoked_at) == ("CI job", "ADMIN", "-", "-")
    assert created_at < expires_at
    assert created.stdout.strip() not in listed.stdout

    revoked = run("token", "revoke", token_id, "--data-dir", str(data))

    assert (revoked.returncode, revoked.stdout, revoked.stderr) == (0, f"revoked {token_id}\n", note)
    again = run("token", "list", "--data-dir", str(data)).stdout.splitlines()[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.split(r"  +", again)[-1])


def test_a_server_accepts_a_created_token_until_it_is_revoked(program: Program) -> None:
    token = run("token", "create", "cli", "--data-dir", str(program.data_dir)).stdout.strip()
    query, headers = {"query": "{ viewer { token { id } } }"}, {"Authorization": f"Bearer {token}"}

    status, answer = program.post(query, headers)

    assert status == 200
    run("token", "revoke", answer["data"]["viewer"]["token"]["id"], "--data-dir", str(program.data_dir))
    program.wait_until(lambda: program.post(query, headers)[0] == 401, "the refusal of the revoked token")


def test_an_unknown_token_is_not_revoked(tmp_path: Path, migrated: Path) -> None:
    data_dir = str(copy_of(migrated, tmp_path))
    unknown = "tok_01h455vb4pex5vsknk084sn02q"
    problems = {
        unknown: f"There is no token with the id {unknown}.",
        "ci": f"'ci' is not an id. Expected an id such as {unknown}.",
    }

    for token_id, problem in problems.items():
        done = run("token", "revoke", token_id, "--data-dir", data_dir)

        assert (done.returncode, done.stdout) == (1, "")
        expected = f"ringback: {problem} `ringback token list` prints the ids of all tokens."
        assert done.stderr.splitlines()[1:] == [expected]


@pytest.mark.parametrize("arguments", [["create", "x"], ["list"], ["revoke", "tok_01h455vb4pex5vsknk084sn02q"]])
def test_token_commands_create_no_data_directory(tmp_path: Path, arguments: list[str]) -> None:
    done = run("token", *arguments, env={"RINGBACK_DATA_DIR": str(tmp_path / "data")})

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"ringback: using the data directory {tmp_path / 'data'}\n"
        f"ringback: There is no database in {tmp_path / 'data'}. Name the data directory of the server "
        "with --data-dir or RINGBACK_DATA_DIR, or create a database with `ringback migrate`.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_token_commands_create_no_database_file(tmp_path: Path) -> None:
    path = tmp_path / "ringback.db"

    done = run("token", "list", env={"RINGBACK_DATABASE_URL": f"sqlite://{path}"})

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"ringback: using the database {path}\n"
        f"ringback: There is no database {path}. Set RINGBACK_DATABASE_URL to the database of the server, "
        "or create one with `ringback migrate`.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_token_commands_create_no_tables(tmp_path: Path) -> None:
    (tmp_path / "ringback.db").touch()

    done = run("token", "list", "--data-dir", str(tmp_path))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [
        f"ringback: The database {tmp_path / 'ringback.db'} has no tables of Ringback. "
        "Create them with `ringback migrate`, or migrate_config() if the configuration is your own, "
        "or use another database."
    ]


def test_the_password_of_a_database_is_not_printed() -> None:
    done = run("token", "list", env={"RINGBACK_DATABASE_URL": "postgres://me:hunter2@127.0.0.1:1/shop"})

    assert done.returncode == 1
    assert done.stderr.startswith("ringback: using the database postgres://127.0.0.1:1/shop\n")
    assert "hunter2" not in done.stderr


def test_migrate_creates_the_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"

    done = run("migrate", "--data-dir", str(data))

    assert (done.returncode, done.stderr) == (0, f"ringback: using the data directory {data}\n")
    assert done.stdout.splitlines()[0] == "applied ringback.0001_initial"
    assert (data / "ringback.db").exists()


def test_the_data_directory_is_relative_to_the_current_one(tmp_path: Path, migrated: Path) -> None:
    copy_of(migrated, tmp_path)

    done = run("token", "list", "--data-dir", "data", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, f"ringback: using the data directory {tmp_path / 'data'}\n")


def test_a_misspelled_variable_stops_each_command(tmp_path: Path) -> None:
    done = run("serve", "--data-dir", str(tmp_path / "data"), env={"RINGBACK_DATABASE_UR": "sqlite://x"})

    message = "ringback: RINGBACK_DATABASE_UR is not a setting. Did you mean RINGBACK_DATABASE_URL?\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
    assert list(tmp_path.iterdir()) == []
