"""Permissions of all that the started program writes, with a umask that takes none away."""

import json
import stat
from pathlib import Path

import pytest

from tests.support.program import Program

#: Without a token of the operator, so that the program writes one.
OWN_TOKEN = {"RINGBACK_ADMIN_TOKEN": ""}
FILES = {"admin-token", "ringback.db", "ringback.db-shm", "ringback.db-wal", "ringback.db.worker.lock", "secret.key"}


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("without_umask")
def test_all_that_a_new_installation_writes_is_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "program" / "a" / "data"
    with Program(tmp_path / "program", env={**OWN_TOKEN, "RINGBACK_DATA_DIR": str(data_dir)}):
        running = modes(data_dir)
    stopped = modes(data_dir)

    assert running.keys() >= FILES
    assert {name: mode for name, mode in (running | stopped).items() if mode != 0o600} == {}
    assert modes(tmp_path / "program")["a"] == 0o700
    assert modes(data_dir.parent) == {"data": 0o700}


@pytest.mark.usefixtures("without_umask")
def test_a_database_elsewhere_is_private_and_its_folder_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    with Program(tmp_path / "program", env={"RINGBACK_DATABASE_URL": f"sqlite://{folder / 'x.db'}"}):
        running = modes(folder)

    assert {"x.db", "x.db-wal", "x.db-shm"} <= running.keys()
    assert set(running.values()) == {0o600}
    assert modes(tmp_path)["shared"] == 0o777


def test_an_existing_installation_is_made_private_at_the_start(tmp_path: Path, migrated: Path) -> None:
    program = Program(tmp_path / "program", env=OWN_TOKEN, migrated=migrated)
    with program:
        pass
    before = dict.fromkeys(program.data_dir.iterdir(), 420) | {program.data_dir: 0o755}
    for path, mode in before.items():
        path.chmod(mode)

    with program:
        token = (program.data_dir / "admin-token").read_text().strip()
        sent = {"Authorization": f"Bearer {token}"}
        assert program.post({"query": "{ __typename }"}, sent) == (200, {"data": {"__typename": "Query"}})
        assert set(modes(program.data_dir).values()) == {0o600}
        assert modes(program.folder)["data"] == 0o700

    lines = [json.loads(line) for line in program.log().splitlines()]
    tightened = [line for line in lines if line["event"] == "took the permissions of other users away"]
    assert {line["path"]: int(line["mode"], 8) for line in tightened} == {str(path): before[path] for path in before}
