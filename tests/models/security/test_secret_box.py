"""Tests of secrets at rest: encryption with one key, and secret files that only their owner can read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ringback.models import ConfigurationError, Settings, load_secret_box, load_settings
from ringback.models.security.secret_box import SecretBox, hash_token, load_or_create_secret, open_secret_box
from ringback.models.webhook import Webhook
from tests.support import builders

#: The key of the stored secrets that `builders.webhook` makes.
STORED_KEY = "a key of the tests' own"


def test_a_sealed_secret_opens_with_the_same_key() -> None:
    box = SecretBox("a key")
    sealed = box.seal("whsec_x")
    assert "whsec_x" not in sealed
    assert box.seal("whsec_x") != sealed
    assert SecretBox("a key").open(sealed) == "whsec_x"


@pytest.mark.parametrize("damage", [lambda s: s, lambda s: s[:-4], lambda s: "x", lambda s: ""])
def test_a_secret_does_not_open_with_another_key_or_when_damaged(damage: Callable[[str], str]) -> None:
    sealed = SecretBox("a key").seal("whsec_x")
    with pytest.raises(ConfigurationError) as caught:
        SecretBox("another key").open(damage(sealed))
    assert str(caught.value) == (
        "A signing secret in the database was encrypted with another key. "
        "Set RINGBACK_SECRET_KEY to the key it was encrypted with."
    )


def test_a_secret_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    secret = load_or_create_secret(path)
    assert (len(secret), path.read_text()) == (43, secret + "\n")
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert (load_or_create_secret(path), load_or_create_secret(path, initial="other")) == (secret, secret)
    assert load_or_create_secret(tmp_path / "token", initial="mine") == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret.key", "token"]


def test_processes_that_create_a_secret_file_at_once_get_one_secret(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ringback.models.security.secret_box import "
        "load_or_create_secret; print(load_or_create_secret(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "secret.key")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {worker.communicate()[0] for worker in workers} == {(tmp_path / "secret.key").read_text()}
    assert [p.name for p in tmp_path.iterdir()] == ["secret.key"]


def test_an_unusable_secret_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(
        ConfigurationError, match=r"empty is empty\. Restore it, or remove it so that a new secret is created\.$"
    ):
        load_or_create_secret(tmp_path / "empty")
    for name in ("folder", "nowhere/key", "bytes"):
        if name == "folder":
            (tmp_path / name).mkdir()
        if name == "bytes":
            (tmp_path / name).write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError, match=f"^Cannot read or create the secret in .*{name}"):
            load_or_create_secret(tmp_path / name)


def test_the_box_uses_the_key_of_the_settings_or_the_secret_file(tmp_path: Path) -> None:
    from_file = load_secret_box(load_settings(data_dir=tmp_path))
    assert oct((tmp_path / "secret.key").stat().st_mode & 0o777) == "0o600"
    assert load_secret_box(load_settings(data_dir=tmp_path)).open(from_file.seal("x")) == "x"
    from_setting = load_secret_box(load_settings(data_dir=tmp_path / "none", secret_key="a key"))
    assert from_setting.open(SecretBox("a key").seal("x")) == "x"
    assert not (tmp_path / "none").exists()


async def test_the_key_of_the_stored_secrets_opens_the_box(database: Settings) -> None:
    webhook = await builders.webhook()

    with capture_logs() as logs:
        box = await open_secret_box(load_settings(data_dir=database.data_dir, secret_key=STORED_KEY))

    assert box.open(webhook.signing_secret).startswith("whsec_")
    assert logs == []
    assert not (database.data_dir / "secret.key").exists()


async def test_another_key_in_the_variable_is_refused(database: Settings) -> None:
    await builders.webhook()

    with pytest.raises(ConfigurationError) as caught:
        await open_secret_box(load_settings(data_dir=database.data_dir, secret_key="another key, but long"))

    assert str(caught.value) == (
        "The signing secrets in the database were encrypted with another key than RINGBACK_SECRET_KEY. "
        "Set it to the key they were encrypted with, or unset it if that key is in "
        f"{database.data_dir / 'secret.key'}."
    )


async def test_another_key_in_the_file_is_refused(database: Settings) -> None:
    await builders.webhook()
    path = database.data_dir / "secret.key"
    path.write_text("another key, but long")

    with pytest.raises(ConfigurationError) as caught:
        await open_secret_box(database)

    assert str(caught.value) == (
        f"The signing secrets in the database were encrypted with another key than the one in {path}. "
        "Set RINGBACK_SECRET_KEY to the key they were encrypted with, or restore the file."
    )


async def test_a_missing_key_is_refused_and_none_is_written(database: Settings) -> None:
    await builders.webhook()
    path = database.data_dir / "secret.key"

    with pytest.raises(ConfigurationError) as caught:
        await open_secret_box(database)

    assert str(caught.value) == (
        f"The database has encrypted signing secrets, but RINGBACK_SECRET_KEY is not set and {path} does not exist. "
        "Set RINGBACK_SECRET_KEY to the key they were encrypted with, or restore the file."
    )
    assert not path.exists()


async def test_secrets_of_deleted_webhooks_do_not_count(database: Settings) -> None:
    webhook = await builders.webhook()
    await Webhook.filter(id=webhook.id).update(deleted_at=webhook.updated_at)

    await open_secret_box(database)

    assert (database.data_dir / "secret.key").exists()


async def test_a_short_key_is_only_warned_of(database: Settings) -> None:
    with capture_logs() as logs:
        await open_secret_box(load_settings(data_dir=database.data_dir, secret_key="fifteen letters"))

    assert logs == [
        {
            "event": "RINGBACK_SECRET_KEY has fewer than 16 characters and can be guessed. "
            "Use a longer one for a new database: the key of an existing one cannot be changed.",
            "action": "start",
            "log_level": "warning",
        }
    ]


def test_the_stored_form_of_a_token() -> None:
    assert hash_token("rbk_x") == "0fa59c9362815a85093c7ed1dce64151a818a4582e356fd0f8d68b567df8aa80"
