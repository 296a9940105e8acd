"""Secrets at rest: sealed with one key, kept in files of one owner."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ringback.models import ConfigurationError, load_secret_box, load_settings
from ringback.models.security.secret_box import SecretBox, hash_token, load_or_create_secret


def test_sealing_and_opening() -> None:
    box = SecretBox("a key")
    sealed = box.seal("whsec_x")
    assert "whsec_x" not in sealed
    assert box.seal("whsec_x") != sealed
    assert SecretBox("a key").open(sealed) == "whsec_x"


@pytest.mark.parametrize("spoil", [lambda s: s, lambda s: s[:-4], lambda s: "x", lambda s: ""])
def test_another_key_or_a_spoilt_secret(spoil: Callable[[str], str]) -> None:
    sealed = SecretBox("a key").seal("whsec_x")
    with pytest.raises(ConfigurationError) as caught:
        SecretBox("another key").open(spoil(sealed))
    assert str(caught.value) == (
        "a signing secret in the database was encrypted with another key: "
        "set RINGBACK_SECRET_KEY to the key it was encrypted with"
    )


def test_a_load_or_create_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    secret = load_or_create_secret(path)
    assert (len(secret), path.read_text()) == (43, secret + "\n")
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert (load_or_create_secret(path), load_or_create_secret(path, make="other")) == (secret, secret)
    assert load_or_create_secret(tmp_path / "token", make="mine") == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret.key", "token"]


def test_a_load_or_create_secret_made_by_many_processes_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ringback.models.security.secret_box import load_or_create_secret; "
        "print(load_or_create_secret(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "secret.key")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {worker.communicate()[0] for worker in workers} == {(tmp_path / "secret.key").read_text()}
    assert [p.name for p in tmp_path.iterdir()] == ["secret.key"]


def test_files_that_keep_no_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigurationError, match="empty is empty: restore it, or remove it and a new secret is made$"):
        load_or_create_secret(tmp_path / "empty")
    for name in ("folder", "nowhere/key", "bytes"):
        if name == "folder":
            (tmp_path / name).mkdir()
        if name == "bytes":
            (tmp_path / name).write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError, match=f"^cannot keep a secret in .*{name}"):
            load_or_create_secret(tmp_path / name)


def test_the_box_of_the_settings(tmp_path: Path) -> None:
    kept = load_secret_box(load_settings(data_dir=tmp_path))
    assert oct((tmp_path / "secret.key").stat().st_mode & 0o777) == "0o600"
    assert load_secret_box(load_settings(data_dir=tmp_path)).open(kept.seal("x")) == "x"
    given = load_secret_box(load_settings(data_dir=tmp_path / "none", secret_key="a key"))
    assert given.open(SecretBox("a key").seal("x")) == "x"
    assert not (tmp_path / "none").exists()


def test_token_hash() -> None:
    assert hash_token("rbk_x") == "0fa59c9362815a85093c7ed1dce64151a818a4582e356fd0f8d68b567df8aa80"
