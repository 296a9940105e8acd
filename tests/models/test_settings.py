"""Settings: every mistake is one line that names the variable and what it must be."""

import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ringback.models import ConfigurationError, Settings, load_settings, settings

NO_DRIVER = "must begin with postgres:// or sqlite://; there is no driver for any other database"
NO_NAME = "name the database: postgres://USER:PASSWORD@HOST:PORT/NAME"
BEGINS = "must be an address that begins with one of"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "http", "RINGBACK_PORT: Input should be a valid integer, unable to parse string as an integer"),
        ("PORT", "65536", "RINGBACK_PORT: Input should be less than or equal to 65535"),
        ("PORT", "-1", "RINGBACK_PORT: Input should be greater than or equal to 0"),
        *(("DATABASE_URL", url, f"RINGBACK_DATABASE_URL: {NO_DRIVER}") for url in ("mysql://db/x", "postgres:")),
        *(
            ("DATABASE_URL", url, f"RINGBACK_DATABASE_URL: {NO_NAME}")
            for url in ("postgres://u:p@db", "postgresql://db/")
        ),
        ("DATABASE_POOL_SIZE", "1", "RINGBACK_DATABASE_POOL_SIZE: Input should be greater than or equal to 2"),
        ("DATABASE_URL", "sqlite://", "RINGBACK_DATABASE_URL: name a file after sqlite:// and nothing else"),
        ("DATABASE_URL", "sqlite://:memory:", "RINGBACK_DATABASE_URL: name a file after sqlite:// and nothing else"),
        (
            "DATABASE_URL",
            "sqlite://x.db?mode=ro",
            "RINGBACK_DATABASE_URL: name a file after sqlite:// and nothing else",
        ),
        *(
            ("BROKER_URL", url, f"RINGBACK_BROKER_URL: {BEGINS} redis://, rediss://, amqp://, amqps://")
            for url in ("kafka://host", "redis", "redis://", "amqp:/host")
        ),
        *(("REDIS_URL", url, f"RINGBACK_REDIS_URL: {BEGINS} redis://, rediss://") for url in ("amqp://host", "x")),
        ("ADMIN_TOKEN", "short", "RINGBACK_ADMIN_TOKEN: must have at least 16 characters"),
        (
            "PUBLIC_URL",
            "ftp://x",
            "RINGBACK_PUBLIC_URL: ftp://x is not an http(s) address such as https://hooks.example",
        ),
        (
            "PUBLIC_URL",
            "https://x/?y=1",
            "RINGBACK_PUBLIC_URL: https://x/?y=1 is not an http(s) address such as https://hooks.example",
        ),
        (
            "PUBLIC_URL",
            "https://x:99999",
            "RINGBACK_PUBLIC_URL: Port out of range 0-65535",
        ),
        ("PUBLIC_URL", "https://me:pw@x", "RINGBACK_PUBLIC_URL: must not hold credentials"),
        ("PUBLIC_URL", "hooks", "RINGBACK_PUBLIC_URL: hooks is not an http(s) address such as https://hooks.example"),
        (
            "DANGEROUS_ALLOW_NETWORKS",
            "10.0.0.0/8,nine",
            "RINGBACK_DANGEROUS_ALLOW_NETWORKS: nine is not a network "
            "('nine' does not appear to be an IPv4 or IPv6 network); write it like 10.0.0.0/8",
        ),
        (
            "DANGEROUS_ALLOW_NETWORKS",
            "10.0.0.1/8",
            "RINGBACK_DANGEROUS_ALLOW_NETWORKS: 10.0.0.1/8 is not a network "
            "(10.0.0.1/8 has host bits set); write it like 10.0.0.0/8",
        ),
        ("LEASE_SECONDS", "2.9", "RINGBACK_LEASE_SECONDS: Input should be greater than or equal to 3"),
        ("LEASE_SECONDS", "inf", "RINGBACK_LEASE_SECONDS: Input should be a finite number"),
        ("LEASE_SECONDS", "nan", "RINGBACK_LEASE_SECONDS: Input should be a finite number"),
        ("WORKER_CONCURRENCY", "0", "RINGBACK_WORKER_CONCURRENCY: Input should be greater than or equal to 1"),
        ("LOG_LEVEL", "LOUD", "RINGBACK_LOG_LEVEL: String should match pattern '^(DEBUG|INFO|WARNING|ERROR)$'"),
    ],
)
def test_each_mistake(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(f"RINGBACK_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == sentence


def test_several_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_PORT", "x")
    monkeypatch.setenv("RINGBACK_ADMIN_TOKEN", "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).count("RINGBACK_") == 2
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_defaults() -> None:
    chosen = load_settings()
    assert chosen.database_path == Path(".ringback/ringback.db")
    assert (chosen.host, chosen.port, chosen.dangerous_allow_networks, chosen.models) == ("127.0.0.1", 8000, (), ())
    assert chosen.lease_seconds == 15.0


def test_a_lease_of_three_seconds_is_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_LEASE_SECONDS", "3")

    assert load_settings().lease_seconds == 3.0


def test_there_is_no_setting_for_worker_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_WORKER_THREADS", "8")

    assert not hasattr(load_settings(), "worker_threads")


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATA_DIR": "/srv/x",
        "DATABASE_URL": "sqlite:///var/lib/rb.db",
        "DANGEROUS_ALLOW_NETWORKS": " 10.0.0.0/8, ::1 ,",
        "MODELS": "garage, shop ,",
        "PUBLIC_URL": "https://hooks.example/x/",
        "SECRET_KEY": "",
        "ADMIN_TOKEN": "0123456789abcdef",
        "UNKNOWN": "ignored",
    }.items():
        monkeypatch.setenv(f"RINGBACK_{name}", value)
    chosen = load_settings()
    assert chosen.data_dir == Path("/srv/x")
    assert chosen.database_path == Path("/var/lib/rb.db")
    assert chosen.dangerous_allow_networks == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert (chosen.models, chosen.public_url) == (("garage", "shop"), "https://hooks.example/x")
    assert chosen.secret_key is None
    assert chosen.admin_token == SecretStr("0123456789abcdef")
    assert "0123456789abcdef" not in repr(chosen)


def test_overrides_win_and_none_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_PORT", "1234")
    assert (load_settings(port=None).port, load_settings(port=99).port) == (1234, 99)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::1", "http://[fd00::1]:8000"),
        ("hooks.example", "http://hooks.example:8000"),
    ],
)
def test_the_address_for_others(host: str, address: str) -> None:
    assert load_settings(host=host).address() == address
    assert load_settings(host=host).address(81) == address.replace(":8000", ":81")
    assert load_settings(host=host, public_url="https://x.example/rb/").address(81) == "https://x.example/rb"


def test_settings_are_frozen() -> None:
    chosen: Any = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        chosen.port = 1


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(models=("no_such_garage",)).load_models()
    assert str(caught.value) == (
        "RINGBACK_MODELS: the module no_such_garage cannot be imported (No module named 'no_such_garage'); "
        "install it, or put its folder into PYTHONPATH"
    )
    (tmp_path / "rb_wrong.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError):  # a mistake in the module keeps its traceback
        load_settings(models=("rb_wrong",)).load_models()
    assert "rb_wrong" not in sys.modules


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_DATABASE_URL", "postgres://db/x")
    monkeypatch.setattr("ringback.models.settings.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        settings.load_settings()
    assert str(caught.value) == (
        "RINGBACK_DATABASE_URL: Postgres needs a driver that is not installed: pip install 'ringback[postgres]'"
    )
