"""Permissions of files and folders with secrets."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ringback.models.private_files import create_private_file, create_private_folder, make_private

OTHERS_HAVE_ACCESS = "other users have access to a file or folder with secrets: take it away with chmod go="


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("without_umask")
def test_what_is_created_is_private_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"

    create_private_folder(folder)
    create_private_file(folder / "file")
    create_private_folder(folder)
    create_private_file(folder / "file")

    created = [folder.parent.parent, folder.parent, folder, folder / "file"]
    assert [mode_of(path) for path in created] == [0o700, 0o700, 0o700, 0o600]


@pytest.mark.parametrize(("mode", "mode_now"), [(0o644, 0o600), (0o666, 0o600), (0o755, 0o700), (0o440, 0o400)])
def test_permissions_of_others_are_taken_away_and_logged(tmp_path: Path, mode: int, mode_now: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)

    with capture_logs() as lines:
        make_private(path)
        make_private(path)

    assert mode_of(path) == mode_now
    (line,) = lines
    assert line["event"] == "took the permissions of other users away"
    assert (line["path"], line["mode"], line["mode_now"]) == (str(path), f"{mode:04o}", f"{mode_now:04o}")


def test_a_shared_folder_and_what_belongs_to_others_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, foreign = tmp_path / "shared", tmp_path / "foreign"
    shared.mkdir()
    shared.chmod(0o1777)
    foreign.touch()
    foreign.chmod(0o644)

    with capture_logs() as lines:
        make_private(shared)
        monkeypatch.setattr(os, "geteuid", lambda: foreign.stat().st_uid + 1)
        make_private(foreign)

    assert (mode_of(shared), mode_of(foreign)) == (0o1777, 0o644)
    assert [(line["event"], line["path"]) for line in lines] == [
        (OTHERS_HAVE_ACCESS, str(shared)), (OTHERS_HAVE_ACCESS, str(foreign)),
    ]  # fmt: skip


def test_a_failure_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o644)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with capture_logs() as lines:
        make_private(path)

    (line,) = lines
    assert (line["event"], line["reason"]) == (OTHERS_HAVE_ACCESS, "Operation not permitted")


def test_a_link_that_another_user_made_changes_no_other_file(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.touch()
    other.chmod(0o644)
    link.symlink_to(other)

    make_private(link)
    make_private(tmp_path / "missing")

    assert mode_of(other) == 0o644
